//! `lopper heal`: finetunes a model, whole or without some of its layers, on its own answers. `lopper lop` is the same
//! with layers that are removed during the training.
//!
//! The unfinished run is kept in `OUT.partial`, so that the same command continues after an
//! interrupt. The output appears whole or not at all. Of several cuts, each has an output and an unfinished run of its
//! own.

mod cuts;
mod examples;
mod export;
mod filter;
mod logs;
mod output;
mod preflight;
mod rounds;

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use lopper_heal::examples::ExampleReport;
use lopper_heal::{
    Cut, DataFilters, DecayShape, Document, Evaluation, HealRecipe, HealStats, Keep, LossSample, Method, Run,
    StateFile, TrainedLayers, TrainingLog, Warmup, WrittenLoss, heal_cuts,
};
use lopper_model::Model;
use lopper_model::checkpoint::{Dtype, torch_name};
use lopper_model::tensors::expected_tensors;
use lopper_prune::ModelId;
use lopper_record::study::HealInfo;
use lopper_record::{Context as _, Fault, LayerSet, OutputLock, Progress, Result};
use serde::Serialize;

use self::cuts::CutOutput;
use super::benchmark;
use crate::args::{HealArgs, HeldOutArg, KeepArg, LopArgs, MethodArg, ScheduleArg};
use crate::context::Context;
use crate::open_model::{OpenModel, say_bf16};
use crate::rows::{self, DataSetRows};

/// What was done, beside the result; also what tells that a directory is one.
const RECORD: &str = "heal.json";

/// The contents of [`RECORD`].
#[derive(Serialize)]
struct Record<'a> {
    format: u32,
    lopper_version: &'static str,
    /// The model that was given.
    source: &'a ModelId,
    /// The layers that were healed, in the original numbering.
    kept: LayerSet,
    /// How layers were removed during the training, if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    lop: Option<LopSettings<'a>>,
    #[serde(serialize_with = "one_or_more")]
    data: &'a [String],
    /// The proportions of several `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    mix: Option<&'a [f64]>,
    #[serde(rename = "data_set", skip_serializing_if = "Vec::is_empty", serialize_with = "one_or_more")]
    data_sets: Vec<&'a DataSetRows>,
    /// The file of held-out examples, where they are no part of `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_out_file: Option<&'a PathBuf>,
    /// What was left out of usable examples, and for which evaluated items.
    filters: DataFilters,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    decontaminate: &'a [String],
    examples: &'a ExampleReport,
    recipe: &'a HealRecipe,
    workers: usize,
    /// When held-out examples were evaluated during the training, if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluation: Option<&'a Evaluation>,
    stats: &'a HealStats,
    /// The loss of a whole model as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<WrittenLoss>,
}

/// What a list is recorded as: its only element, or all.
fn one_or_more<T: Serialize, S: serde::Serializer>(list: &[T], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    match list {
        [one] => one.serialize(serializer),
        more => more.serialize(serializer),
    }
}

/// The options of `lopper lop`.
#[derive(Serialize)]
struct LopSettings<'a> {
    to: usize,
    step: usize,
    criterion: &'a str,
}

pub fn run(context: &Context, args: &HealArgs, lop: Option<&LopArgs>) -> Result<()> {
    let opened = OpenModel::open(context, &args.model)?;
    let cuts = CutOutput::of(&opened, args, lop.is_some())?;
    cuts.iter().try_for_each(|cut| output::check(&opened, &cut.out, cut.replaces(args)))?;
    let _locks = cuts.iter().map(|cut| OutputLock::take(&cut.out)).collect::<Result<Vec<_>>>()?;
    let logs = cuts.iter().map(|cut| logs::open(args, cut)).collect::<Result<Vec<_>>>()?;
    if args.bf16 {
        say_bf16(context);
    }
    let kept = &cuts[0].kept;
    let removed = lop.map(|lop| rounds::removed(lop, kept.len())).transpose()?;
    let (recipe, evaluation) = (recipe(&opened, args, lop.is_some())?, evaluation(args, lop.is_some()));
    match args.export {
        Some(format) => export::check(&opened, args, (format.into(), lop.is_some()), kept, &recipe)?,
        None => preflight::check(context, &opened, args, &cuts, (&recipe, &evaluation))?,
    }
    let root = benchmark::data_root(context, None);
    let named = |data: &String| rows::named(&root, data, &args.rows, args.answer_column.as_deref());
    let rows = args.data.iter().map(named).collect::<Result<Vec<_>>>()?;
    let text = opened.chat_tokenizer(&args.template)?;
    let (set, report) = examples::read(context, &text, args, (&rows, &root), &recipe)?;
    let steps = recipe.steps(set.train.len());
    let doubts = planned(&set.train, &report, steps, &recipe).doubts();
    for doubt in &doubts {
        context.printer.warn(doubt);
    }

    if let Some(format) = args.export {
        let kept = kept.clone();
        let exported = export::Exported { format: format.into(), kept, recipe, evaluation, set, report };
        return exported.write(context, &opened, args, &text);
    }
    for cut in &cuts {
        if args.force && cut.state.is_file() {
            std::fs::remove_file(&cut.state).with_context(|| format!("removing {}", cut.state.display()))?;
        }
        logs::start_over(args, cut)?;
    }
    if cuts.iter().any(|cut| cut.is_continued(args)) {
        context.printer.note("continuing an unfinished run");
    }
    let model = opened.model(context)?;
    let choice = lop.map(|lop| rounds::Choice::new(context, lop, &set.train)).transpose()?;
    let choose = |model: &Model, remove: usize, progress: &dyn Progress| match &choice {
        Some(choice) => choice.choose(model, remove, progress),
        None => Ok(LayerSet::default()),
    };
    let run = Run {
        rounds: lop.zip(removed).map(|(lop, removed)| rounds::rounds(lop, removed, &choose)),
        held_out: &set.held_out,
        evaluation,
        divergence_steps: args.divergence_steps,
        stop_tokens: &text.special.eos,
        rows: &set.rows,
        ..Run::for_model(&model, context.threads, &recipe)
    };
    let logs: Vec<Vec<&dyn TrainingLog>> = logs.iter().map(|logs| logs.iter().map(|log| &**log).collect()).collect();
    let to_heal: Vec<Cut<'_>> = cuts
        .iter()
        .zip(&logs)
        .map(|(CutOutput { kept, state, .. }, logs)| {
            let save_every = Duration::from_secs(args.save_every);
            let state = StateFile { path: state, model: opened.checkpoint.hash(), save_every };
            Cut { kept, state: Some(state), logs }
        })
        .collect();
    let results = heal_cuts(&model, &to_heal, &set.train, &recipe, &run, &context.progress)?;
    let source = ModelId {
        id: opened.name.clone(),
        hash: opened.checkpoint.hash().to_owned(),
        num_hidden_layers: opened.config().num_hidden_layers,
    };
    let (mut failed, mut records, mut written) = (None, Vec::new(), Vec::new());
    for (mut cut, healed) in cuts.into_iter().zip(results) {
        let heading = cut.heading();
        let healed = match healed {
            Ok(healed) => healed,
            Err(error) => {
                if let Some(heading) = heading {
                    context.printer.warn(&format!("{heading}: {error}"));
                }
                failed = failed.or(Some(error));
                continue;
            }
        };
        let sample = match output::writes_model(args) {
            true => Some(LossSample::of(&healed, &model, &healed.kept, &set.train, &run, &context.progress)?),
            false => None,
        };
        let kept = opened.numbering()?.originals(&healed.kept)?;
        if lop.is_some() {
            let all = opened.numbering()?.originals(&LayerSet::all(opened.config().num_hidden_layers))?;
            cut.drop = Some(all.iter().filter(|layer| !kept.contains(*layer)).collect::<LayerSet>().to_string());
        }
        let mut record = Record {
            format: 1,
            lopper_version: env!("CARGO_PKG_VERSION"),
            source: &source,
            kept,
            lop: lop.map(|LopArgs { to, step, criterion, .. }| LopSettings { to: *to, step: *step, criterion }),
            data: &args.data,
            mix: args.mix.as_deref(),
            data_sets: rows.iter().filter_map(|rows| rows.data_set.as_ref()).collect(),
            held_out_file: match &args.held_out {
                Some(HeldOutArg::File(path)) => Some(path),
                _ => None,
            },
            filters: args.filters.settings(),
            decontaminate: &args.filters.decontaminate,
            examples: &report,
            recipe: &recipe,
            workers: run.workers,
            evaluation: Some(&run.evaluation).filter(|evaluation| evaluation.every > 0),
            stats: &healed.stats,
            written: None,
        };
        output::write(context, &opened, (args, &cut), &healed, sample.as_ref(), &mut record)?;
        if let Some(heading) = heading {
            context.printer.note(&heading);
        }
        for doubt in healed.stats.info(&recipe).doubts().iter().filter(|doubt| !doubts.contains(doubt)) {
            context.printer.warn(doubt);
        }
        output::report(context, &opened.numbering()?, (args, &cut), &record)?;
        records.push(serde_json::to_value(&record)?);
        written.push(cut.state);
    }
    // If one stays, it is found finished the next time, which costs nothing.
    written.iter().for_each(|state| drop(std::fs::remove_file(state)));
    match (failed, args.json) {
        (Some(error), _) => Err(error),
        (None, false) => Ok(()),
        (None, true) if args.drop.len() > 1 => context.printer.json(&records),
        (None, true) => context.printer.json(&records[0]),
    }
}

/// When held-out examples are evaluated.
fn evaluation(args: &HealArgs, lop: bool) -> Evaluation {
    let Some(every) = args.eval_steps else { return Evaluation::default() };
    let keep = match args.keep {
        Some(KeepArg::Last) => Keep::Last,
        // Losses of different depths do not compare.
        None if lop => Keep::Last,
        Some(KeepArg::Best) | None => Keep::Best,
    };
    Evaluation { every: every.get(), keep, patience: args.patience.map_or(0, NonZero::get) }
}

/// What is known of a training before it begins.
fn planned(train: &[Document], report: &ExampleReport, steps: usize, recipe: &HealRecipe) -> HealInfo {
    let (examples, warmup, answers) = (train.len(), recipe.warmup.of(steps), Some(report.counts()));
    HealInfo { examples, steps, warmup, answers, ..HealInfo::default() }
}

/// The recipe for the model's size, with what the user chose.
fn recipe(opened: &OpenModel, args: &HealArgs, lop: bool) -> Result<HealRecipe> {
    let method = match args.method {
        MethodArg::Lora => Method::Lora,
        MethodArg::Full => Method::Full,
    };
    let adapter = [
        ("--r", args.r.is_some()),
        ("--alpha", args.alpha.is_some()),
        ("--dropout", args.dropout.is_some()),
        ("--rslora", args.rslora),
        ("--dora", args.dora),
        ("--load-in-4bit", args.load_in_4bit),
    ];
    if let Some((option, _)) = adapter.iter().find(|(_, given)| method == Method::Full && *given) {
        return Err(Fault::new(format!("{option} is a setting of adapters"))
            .expected("--method lora")
            .got("--method full")
            .hint(format!("leave {option} out"))
            .into());
    }
    let shapes = expected_tensors(opened.config());
    let parameters = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let mut recipe = HealRecipe::for_size(parameters, method);
    let lora = &mut recipe.lora;
    lora.r = args.r.unwrap_or(lora.r);
    lora.alpha = args.alpha.unwrap_or(lora.alpha);
    lora.dropout = args.dropout.unwrap_or(lora.dropout);
    (lora.rslora, lora.dora) = (args.rslora, args.dora);
    recipe.learning_rate = args.lr.unwrap_or(recipe.learning_rate);
    recipe.warmup = args.warmup.map_or(recipe.warmup, Warmup::Steps);
    (recipe.decay, recipe.decay_shape) = match args.schedule {
        None => (recipe.decay, DecayShape::Linear),
        Some(ScheduleArg::Constant) => (0.0, DecayShape::Linear),
        Some(ScheduleArg::Linear) => (1.0, DecayShape::Linear),
        Some(ScheduleArg::Cosine) => (1.0, DecayShape::Cosine),
        Some(ScheduleArg::Wsd) => (0.2, DecayShape::Linear),
    };
    if let (Some(ScheduleArg::Constant), Some(decay)) = (args.schedule, args.decay.filter(|decay| *decay != 0.0)) {
        return Err(Fault::new("--decay lets the learning rate fall, and --schedule constant does not")
            .expected("one of them")
            .got(format!("--schedule constant --decay {decay}"))
            .hint("`--schedule wsd` stays constant and falls over the last steps")
            .into());
    }
    recipe.decay = args.decay.unwrap_or(recipe.decay);
    recipe.layers = args.train_layers;
    recipe.batch = args.batch.unwrap_or(recipe.batch);
    recipe.epochs = args.epochs.unwrap_or(recipe.epochs);
    let context = opened.config().max_position_embeddings;
    recipe.max_length = args.max_length.unwrap_or(recipe.max_length.min(context));
    recipe.checkpointing = args.checkpointing.unwrap_or(recipe.checkpointing);
    recipe.mixed = args.bf16;
    recipe.train_on_inputs = args.train_on_inputs;
    recipe.load_in_4bit = args.load_in_4bit;
    recipe.stochastic_rounding = args.stochastic_rounding;
    recipe.seed = args.seed;
    recipe.distillation = args.distill.distillation();
    if recipe.distillation.is_some() && args.drop.is_empty() && !lop {
        return Err(Fault::new("--distill learns from the model before the cut")
            .expected("that model, and --drop with the layers that the cut leaves out")
            .got("no --drop")
            .hint("the layers of a cut are in its cut.json")
            .into());
    }
    if recipe.layers == TrainedLayers::FromCut && args.drop.is_empty() {
        return Err(Fault::new("without --drop it is not known where layers were removed")
            .expected("the uncut model, and --drop with the layers that the cut leaves out")
            .got("no --drop")
            .hint("the layers of a cut are in its cut.json; --train-layers last:N needs none")
            .into());
    }
    check_dtype(opened, args)?;
    recipe.check()?;
    if recipe.max_length > context {
        return Err(Fault::new("--max-length is beyond the model's context")
            .expected(format!("at most {context} tokens"))
            .got(recipe.max_length.to_string())
            .hint("leave it out to use the whole context")
            .into());
    }
    Ok(recipe)
}

/// Refuses a type of weights that nothing is written in, and rounding to one that the weights are not written in.
fn check_dtype(opened: &OpenModel, args: &HealArgs) -> Result<()> {
    if args.out_dtype.is_some() && !output::writes_model(args) {
        return Err(Fault::new("--out-dtype is for whole models")
            .expected("--merge or --method full")
            .got("an adapter, which is written in float32")
            .hint("leave --out-dtype out, or add --merge")
            .into());
    }
    let dtype = output::out_dtype(opened, args);
    if args.stochastic_rounding && args.method == MethodArg::Full && dtype != Dtype::BF16 {
        return Err(Fault::new("--stochastic-rounding is to bfloat16, and the weights are written as something else")
            .expected("a model in bfloat16, or --out-dtype bfloat16")
            .got(torch_name(dtype)?)
            .hint("leave --stochastic-rounding out: nothing is gained by it where weights are stored more precisely")
            .into());
    }
    Ok(())
}
