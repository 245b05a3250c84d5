//! `lopper prune`: writes a model without some of its layers. The layers are named, taken from a
//! plan, or chosen by a criterion. With `--compensate`, weights of the others are changed to make up for them.

mod adapter;
mod compensate;

use lopper_model::checkpoint::torch_name;
use lopper_prune::criteria::{self, Measures, Request};
use lopper_prune::{Choice, MergekitCut, Plan, WriteOptions, write_compensated, write_pruned};
use lopper_record::{Context as _, Fault, LayerSet, Result, ensure_new};

use super::score;
use crate::args::PruneArgs;
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::{command_line, table};
pub use adapter::adapter_id;
use compensate::Prepared;

pub fn run(context: &Context, args: &PruneArgs) -> Result<()> {
    // Before the work, so that a forgotten --force does not cost it.
    ensure_new(&args.out, args.force)?;
    let opened = OpenModel::open(context, &args.model)?;
    let prepared = match args.compensate {
        Some(method) => Some(Prepared::new(context, &opened, &args.input, method.into())?),
        None => None,
    };
    let options = WriteOptions {
        force: args.force,
        keep_pattern: args.keep_pattern,
        verify: !args.no_verify,
        ..WriteOptions::default()
    };
    let named = args.drop.is_some() || args.drop_one_based.is_some() || args.plan.is_some() || args.criterion.is_some();
    if args.adapter.is_none() && !named {
        return Err(Fault::new("no layers to remove were named")
            .expected("--drop LAYERS, --plan FILE or --criterion NAME; or --adapter DIR, to fold it in alone")
            .got("none of them")
            .hint("`lopper score` and `lopper search` say which layers a model can do without")
            .into());
    }
    if let Some(directory) = &args.adapter {
        let plan = if named { Some(plan(context, &opened, args)?) } else { None };
        return adapter::run(context, &opened, args, directory, plan, &options);
    }
    let mut plan = Plan { command: Some(command_line::command_line()), ..plan(context, &opened, args)? };
    if let Some(adapter) = &plan.choice.adapter {
        context.printer.warn(&format!(
            "the layers were chosen with the adapter `{}`, which this model is written without; fold it in with \
             --adapter",
            adapter.id
        ));
    }
    let (checkpoint, progress) = (&opened.checkpoint, &context.progress);
    let report = match prepared {
        None => {
            if let Some(earlier) = &plan.compensation {
                let method = earlier.method.name();
                context.printer.warn(&format!(
                    "the plan's cut was compensated by `{method}`, and this one is not: add --compensate {method}"
                ));
            }
            write_pruned(checkpoint, &plan, &args.out, &options, progress)?
        }
        Some(prepared) => {
            prepared.check(&opened, &plan)?;
            let compensated = prepared.run(context, &opened, &mut plan)?;
            write_compensated(checkpoint, &plan, &compensated, &args.out, &options, progress)?
        }
    };
    context.printer.note(&format!(
        "dropped layers {} of {} ({}); {} left in {} layers",
        plan.dropped,
        opened.name,
        plan.choice.criterion,
        table::bytes(report.weight_bytes),
        report.num_hidden_layers
    ));
    if let Some(verification) = &report.plan.verification {
        let other = match &report.plan.compensation {
            None => format!("{} with those layers skipped", opened.name),
            Some(_) => "the compensated model before it was written".to_owned(),
        };
        context.printer.note(&format!(
            "same logits as {other}: largest difference {:.1e} over {} tokens",
            verification.max_logit_difference, verification.tokens
        ));
    }
    let changed: Vec<&str> = report.plan.config_changes.iter().map(|change| change.key.as_str()).collect();
    context.printer.note(&format!("changed in config.json: {}", changed.join(", ")));
    report.warnings.iter().for_each(|warning| context.printer.warn(warning));
    context.printer.result(&report.directory.display().to_string())
}

fn plan(context: &Context, opened: &OpenModel, args: &PruneArgs) -> Result<Plan> {
    let given = |dropped: &LayerSet| Plan::unhashed(&opened.checkpoint, &opened.name, dropped, Choice::given());
    if let Some(path) = &args.plan {
        let Some(cut) = MergekitCut::read(path)? else { return Plan::read(path) };
        let stored = opened.checkpoint.dtype();
        if let Some(dtype) = cut.dtype.as_deref().filter(|dtype| torch_name(stored).ok() != Some(*dtype)) {
            context
                .printer
                .warn(&format!("the weights stay {stored}: Lopper copies them and does not convert to {dtype}"));
        }
        let dropped = cut.dropped(&opened.numbering()?, path)?;
        if !cut.is_of(&opened.names()) {
            let message = format!("the plan is for `{}`, and the model is `{}`", cut.model, opened.name);
            if !args.force {
                return Err(Fault::new(message)
                    .file(path)
                    .expected(format!("slices of `{}`", opened.name))
                    .got(format!("slices of `{}`", cut.model))
                    .hint("if it is the same model under another name, add --force")
                    .into());
            }
            context.printer.warn(&message);
        }
        return given(&dropped);
    }
    if let Some(spec) = &args.drop {
        return given(&opened.layers(spec)?);
    }
    if let Some(spec) = &args.drop_one_based {
        return given(&one_based(opened, spec)?);
    }
    let criterion = criteria::criterion(args.criterion.as_deref().context("no layers were named")?)?;
    let num_layers = opened.config().num_hidden_layers;
    let remove = args.remove.context("--remove was not given")?;
    criteria::check_removal(num_layers, remove)?;
    let mut choice = Choice { criterion: criterion.name.to_owned(), ..Choice::given() };
    let mut scores = None;
    if criterion.needs_scores {
        let calibration = score::calibration(context, opened, &args.input)?;
        // No more than the criterion reads.
        let what = Measures { perplexity: criterion.name == "perplexity", linear: criterion.name == "linear" };
        let adapter = args.adapter.as_deref();
        let model = opened.model_with_adapter(context, adapter)?;
        choice.adapter = adapter.map(adapter_id).transpose()?;
        let mut measured = criteria::measure(&context.engine(model.clone())?, &calibration, what, &context.progress)?;
        if criterion.name == "taylor" {
            measured.taylor = Some(criteria::taylor(&model, &calibration, &context.progress)?);
        }
        scores = Some(measured);
        choice.calibration = Some(calibration.id());
    }
    let request = Request { num_layers, remove, scores: scores.as_ref(), seed: args.seed };
    let selection = criteria::select(criterion, &request)?;
    choice.seed = criterion.needs_seed.then_some(args.seed);
    choice.scores = selection.scores;
    let dropped = opened.numbering()?.originals(&selection.dropped)?;
    Plan::unhashed(&opened.checkpoint, &opened.name, &dropped, choice)
}

/// The layers that `spec` lists from 1, by their original numbers from 0.
fn one_based(opened: &OpenModel, spec: &str) -> Result<LayerSet> {
    let layers = opened.numbering()?.original_layers();
    let wrong = |got: String| {
        Fault::new("layers were to be counted from 1")
            .expected(format!("layers from 1 to {layers}"))
            .got(got)
            .hint("--drop counts from 0")
    };
    // NeMo separates by spaces.
    let listed = match spec.contains([',', '-']) {
        true => spec.to_owned(),
        false => spec.split_whitespace().collect::<Vec<_>>().join(","),
    };
    let mut shifted = String::with_capacity(listed.len());
    for part in listed.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
        match digits.parse::<usize>() {
            Ok(number) if (1..=layers).contains(&number) => shifted.push_str(&(number - 1).to_string()),
            Err(_) if digits.is_empty() => {}
            _ => return Err(wrong(digits.chars().take(40).collect()).into()),
        }
        shifted.push_str(&part[digits.len()..]);
    }
    // Every number is in range now: what is left to refuse is the form of the list.
    opened.layers(&shifted)
}
