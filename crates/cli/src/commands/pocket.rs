//! `lopper pocket`: the embedded model's data and training.

use lopper_infer::TextModel;
use lopper_measure::{Execution, evaluate};
use lopper_model::{Checkpoint, Model};
use lopper_pocket::Split;
use lopper_record::{Fault, LayerSet, Result, ensure_new_file, write_atomic};
use lopper_study::pocket::{self, CardRow};
use lopper_tasks::{GenerationPolicy, ItemSelection, Resources, Suite};

use crate::args::{DataArgs, PocketArgs, PocketCommand, TrainArgs};
use crate::context::Context;

pub fn run(context: &Context, args: &PocketArgs) -> Result<()> {
    match &args.command {
        PocketCommand::Data(args) => data(context, args),
        PocketCommand::Train(args) => train(context, args),
    }
}

fn data(context: &Context, args: &DataArgs) -> Result<()> {
    let split = Split::from_name(&args.split).ok_or_else(|| {
        Fault::new("there is no such split")
            .expected("`train`, `select` or `report`")
            .got(args.split.clone())
            .hint("items that are reported on come from `report`")
    })?;
    if let Some(path) = &args.out {
        ensure_new_file(path, args.force)?;
    }
    let mut lines = Vec::new();
    let written = lopper_pocket::export_jsonl(&args.task, split, args.seed, args.number, &mut lines)?;
    if written < args.number {
        context.printer.warn(&format!("the split holds only {written} different items that this seed reaches"));
    }
    match &args.out {
        Some(path) => write_atomic(path, &lines),
        None => context.printer.result(String::from_utf8_lossy(&lines).trim_end()),
    }
}

fn train(context: &Context, args: &TrainArgs) -> Result<()> {
    // Said now and not after an hour of training.
    for (option, value) in [("--steps", args.steps), ("--eval-items", args.eval_items)] {
        if value == 0 {
            return Err(Fault::new(format!("`{option}` is too small"))
                .expected("at least 1")
                .got("0")
                .hint("leave it out to take the default")
                .into());
        }
    }
    let state = pocket::state_file(&args.out);
    if state.exists() {
        context.printer.note(&format!("continuing from {}", state.display()));
    }
    let trained = pocket::train(&args.out, args.steps, &context.progress).inspect_err(|error| {
        if error.is_interrupted() {
            context.printer.note("interrupted; the same command continues the run");
        }
    })?;
    let out = args.out.join("model");
    pocket::export(&trained, &out, &pocket::card(&trained, &[]))?;
    // The card's figures are of the model as it is stored, read back.
    let rows = held_out(context, &Checkpoint::open(&out)?, args.eval_items)?;
    pocket::export(&trained, &out, &pocket::card(&trained, &rows))?;
    for (task, metric, value, _, n) in &rows {
        context.printer.result(&format!("{task:18} {metric:12} {value:.3}  ({n} items)"))?;
    }
    context.printer.result(&out.display().to_string())
}

fn held_out(context: &Context, checkpoint: &Checkpoint, items: usize) -> Result<Vec<CardRow>> {
    let text = TextModel::new(context.engine(Model::from_checkpoint(checkpoint)?)?, checkpoint)?;
    let selection = ItemSelection::new(Split::Report, items, 0);
    let suite = Suite::prepare(&text, &["pocket"], &selection, &GenerationPolicy::default(), &Resources::default())?;
    let uncut = LayerSet::all(text.engine.model().num_layers());
    let outcomes = evaluate(&text, &suite, &[uncut], &Execution::default(), &context.progress)?.into_first();
    let rows = outcomes.iter().flat_map(|outcome| {
        outcome
            .metrics
            .iter()
            .map(|(metric, score)| (outcome.task.clone(), metric.clone(), score.value, score.ci95, score.n))
    });
    Ok(rows.collect())
}
