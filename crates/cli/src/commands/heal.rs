//! `lopper heal`: finetunes a model, whole or without some of its layers, on its own answers.
//!
//! The unfinished run is kept in `OUT.partial`, so that the same command continues after an
//! interrupt. The output appears whole or not at all.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lopper_heal::examples::{ExampleReport, Examples};
use lopper_heal::{
    Base, Document, HealRecipe, HealStats, Healed, HoldOut, Method, Renderer, RowSource, Run, StateFile, Warmup, heal,
    read_examples,
};
use lopper_model::tensors::expected_tensors;
use lopper_prune::writer::{put_in_place, temporary_directory};
use lopper_prune::{Choice, ModelId, Plan, write_trained};
use lopper_record::study::HealInfo;
use lopper_record::{Context as _, Fault, LayerSet, Result, ensure_new, write_atomic};
use serde::Serialize;

use super::benchmark;
use crate::args::{HealArgs, MethodArg};
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::rows::{self, DataSetRows};
use crate::table;

/// What was done, beside the result; also what tells that a directory is one.
const RECORD: &str = "heal.json";
/// How often an unfinished run is saved.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// The contents of [`RECORD`].
#[derive(Serialize)]
struct Record<'a> {
    format: u32,
    lopper_version: &'static str,
    /// The model that was given.
    source: ModelId,
    /// The layers that were healed, in the original numbering.
    kept: LayerSet,
    data: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_set: Option<&'a DataSetRows>,
    examples: &'a ExampleReport,
    recipe: &'a HealRecipe,
    workers: usize,
    stats: &'a HealStats,
}

pub fn run(context: &Context, args: &HealArgs) -> Result<()> {
    let opened = OpenModel::open(context, &args.model)?;
    check_output(&opened, args)?;
    let kept = opened.kept(args.drop.as_deref())?;
    let recipe = recipe(&opened, args)?;
    let rows =
        rows::named(&benchmark::data_root(context, None), &args.data, &args.rows, args.answer_column.as_deref())?;
    let examples = examples(context, &opened, args, &rows.source, &recipe)?;
    let report = examples.report.clone();
    let set = examples.hold_out(args.held_out.map_or(HoldOut::Tenth, HoldOut::Number));
    if set.held_out_examples > 0 {
        context.printer.note(&format!(
            "{} examples are held out of the training, to measure the loss on them",
            set.held_out_examples
        ));
    }
    let steps = recipe.steps(set.train.len());
    let doubts = planned(&set.train, &report, steps, &recipe).doubts();
    for doubt in &doubts {
        context.printer.warn(doubt);
    }

    let state = beside(&args.out, ".partial");
    if args.force && state.is_file() {
        std::fs::remove_file(&state).with_context(|| format!("removing {}", state.display()))?;
    }
    if state.is_file() {
        context.printer.note("continuing an unfinished run");
    }
    let model = opened.model(context)?;
    let run = Run {
        state: Some(StateFile { path: &state, model: opened.checkpoint.hash(), save_every: SAVE_EVERY }),
        held_out: &set.held_out,
        ..Run::for_model(&model, context.threads, &recipe)
    };
    let healed = heal(&model, &kept, &set.train, &recipe, &run, &context.progress)?;

    let record = Record {
        format: 1,
        lopper_version: env!("CARGO_PKG_VERSION"),
        source: ModelId {
            id: opened.name.clone(),
            hash: opened.checkpoint.hash().to_owned(),
            num_hidden_layers: opened.config().num_hidden_layers,
        },
        kept: opened.numbering()?.originals(&kept)?,
        data: &args.data,
        data_set: rows.data_set.as_ref(),
        examples: &report,
        recipe: &recipe,
        workers: run.workers,
        stats: &healed.stats,
    };
    write(context, &opened, args, &healed, &record)?;
    // If it stays, it is found finished the next time, which costs nothing.
    let _ = std::fs::remove_file(&state);
    for doubt in healed.stats.info(&recipe).doubts().iter().filter(|doubt| !doubts.contains(doubt)) {
        context.printer.warn(doubt);
    }
    tell(context, args, &healed, &record)
}

/// What is known of a training before it begins.
fn planned(train: &[Document], report: &ExampleReport, steps: usize, recipe: &HealRecipe) -> HealInfo {
    let (examples, warmup, answers) = (train.len(), recipe.warmup.of(steps), Some(report.counts()));
    HealInfo { examples, steps, warmup, answers, ..HealInfo::default() }
}

/// The recipe for the model's size, with what the user chose.
fn recipe(opened: &OpenModel, args: &HealArgs) -> Result<HealRecipe> {
    let method = match args.method {
        MethodArg::Lora => Method::Lora,
        MethodArg::Full => Method::Full,
    };
    let adapter = [("--r", args.r.is_some()), ("--alpha", args.alpha.is_some()), ("--dropout", args.dropout.is_some())];
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
    recipe.learning_rate = args.lr.unwrap_or(recipe.learning_rate);
    recipe.warmup = args.warmup.map_or(recipe.warmup, Warmup::Steps);
    recipe.batch = args.batch.unwrap_or(recipe.batch);
    recipe.epochs = args.epochs.unwrap_or(recipe.epochs);
    let context = opened.config().max_position_embeddings;
    recipe.max_length = args.max_length.unwrap_or(recipe.max_length.min(context));
    recipe.checkpointing = args.checkpointing.unwrap_or(recipe.checkpointing);
    recipe.mixed = args.bf16;
    recipe.seed = args.seed;
    recipe.distillation = args.distill.distillation();
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

fn examples(
    context: &Context,
    opened: &OpenModel,
    args: &HealArgs,
    source: &RowSource,
    recipe: &HealRecipe,
) -> Result<Examples> {
    let text = opened.chat_tokenizer(&args.template)?;
    let renderer = Renderer::of(&text);
    let examples = read_examples(source, &renderer, recipe.max_length)?;
    let report = &examples.report;
    context.printer.note(&format!(
        "{} of {} examples, {} tokens{}",
        table::count(report.used as u64),
        table::count(report.rows as u64),
        table::count(examples.tokens() as u64),
        left_out(report, recipe.max_length)
    ));
    for (line, what) in &report.complaints {
        context.printer.warn(&format!("{}, row {line}: {what}", args.data));
    }
    if report.tokens_differ > 0 {
        context.printer.warn(&format!(
            "the recorded tokens of {} examples are not their text in this model's tokens; they are rendered again",
            report.tokens_differ
        ));
    }
    for remark in examples.remarks(&renderer) {
        context.printer.warn(&remark);
    }
    if report.without_end > 0 {
        context.printer.warn(&format!(
            "{} examples have no end token after the answer, so ending is not learned",
            report.without_end
        ));
    }
    Ok(examples)
}

fn left_out(report: &ExampleReport, max_length: usize) -> String {
    let reasons = [
        (report.too_long, format!("longer than {max_length} tokens")),
        (report.cut_off, "cut off at the length limit".to_owned()),
        (report.context_full, "cut off at the end of the context".to_owned()),
        (report.repetitive, "repetitive".to_owned()),
        (report.unusable, "not usable".to_owned()),
    ];
    let reasons: Vec<String> =
        reasons.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
    if reasons.is_empty() { String::new() } else { format!(" (left out: {})", reasons.join(", ")) }
}

/// Whether the output is a whole model and not an adapter.
fn writes_model(args: &HealArgs) -> bool {
    args.merge || args.method == MethodArg::Full
}

fn write(context: &Context, opened: &OpenModel, args: &HealArgs, healed: &Healed, record: &Record<'_>) -> Result<()> {
    let parent = match args.out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    let temporary = temporary_directory(parent)?;
    if writes_model(args) {
        let plan = match &args.drop {
            Some(spec) => Some(Plan::new(&opened.checkpoint, &opened.name, &opened.layers(spec)?, Choice::given())?),
            None => None,
        };
        let model = &healed.model;
        let warnings = write_trained(&opened.checkpoint, plan.as_ref(), model, &section(record), temporary.path())?;
        warnings.iter().for_each(|warning| context.printer.warn(warning));
    } else {
        // PEFT would put the adapter on the wrong layers of the uncut model.
        let base = args.drop.is_none().then(|| match &opened.snapshot {
            Some(snapshot) => Base { name: &snapshot.id, revision: Some(&snapshot.commit) },
            None => Base { name: &opened.name, revision: None },
        });
        healed.save_adapter(temporary.path(), base)?;
    }
    let json = serde_json::to_string_pretty(record)? + "\n";
    write_atomic(&temporary.path().join(RECORD), json.as_bytes())?;
    put_in_place(temporary, &args.out, args.force)
}

/// The end of the model's card.
fn section(record: &Record<'_>) -> String {
    let stats = record.stats;
    format!(
        "## Healed with Lopper\n\n\
         Finetuned from `{}` with the layers {} (counted from 0 in the original model); the loss was taken on \
         the answers only.\n\n\
         - recipe: {}\n- examples: {}, {} steps, {} tokens\n- loss in nats per token: {}\n- source: hash `{}`\n\
         - Lopper {}\n\n\
         Figures above this section describe the model before. `{RECORD}` holds these for programs.\n",
        record.source.id,
        record.kept,
        record.recipe.summary(stats.steps),
        stats.examples,
        stats.steps,
        stats.tokens,
        stats.info(record.recipe).losses(),
        record.source.hash,
        record.lopper_version,
    )
}

fn tell(context: &Context, args: &HealArgs, healed: &Healed, record: &Record<'_>) -> Result<()> {
    let stats = &healed.stats;
    context.printer.note(&format!(
        "{} steps, {} tokens in {:.1} s ({:.0} tokens/s); {} (nats per token)",
        stats.steps,
        table::count(stats.tokens),
        stats.seconds,
        stats.tokens as f64 / stats.seconds.max(1e-9),
        stats.info(record.recipe).losses()
    ));
    if let Some(drop) = args.drop.as_ref().filter(|_| !writes_model(args)) {
        context.printer.note(&format!(
            "the adapter belongs on the model that `lopper prune {} --drop {drop}` writes; here, give --drop {drop} \
             --adapter together",
            args.model
        ));
    }
    if args.json {
        return context.printer.json(record);
    }
    context.printer.result(&args.out.display().to_string())
}

/// Refuses outputs that exist, and with `--force` those that replacing would do harm to.
fn check_output(opened: &OpenModel, args: &HealArgs) -> Result<()> {
    ensure_new(&args.out, args.force)?;
    if args.out.symlink_metadata().is_err() {
        return Ok(());
    }
    if let (Some(source), Ok(out)) = (opened.checkpoint.directory(), args.out.canonicalize())
        && source.canonicalize()?.starts_with(&out)
    {
        return Err(Fault::new("the output would replace the model that is being healed")
            .file(&args.out)
            .expected("another directory")
            .hint("choose another path")
            .into());
    }
    let empty = || args.out.read_dir().is_ok_and(|mut entries| entries.next().is_none());
    if args.out.join(RECORD).is_file() || empty() {
        return Ok(());
    }
    Err(Fault::new("the output exists and is not one of `lopper heal`")
        .file(&args.out)
        .expected(format!("a directory with {RECORD}, an empty one, or nothing"))
        .hint("--force replaces only such directories; remove this one by hand if you mean it")
        .into())
}

/// `path` with an ending; `out/` is `out`.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.components().collect::<PathBuf>().into_os_string();
    name.push(ending);
    name.into()
}
