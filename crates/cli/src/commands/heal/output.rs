//! The output of `lopper heal`: an adapter or a whole model, with the record of its making.

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

use lopper_heal::{Base, Divergence, HealStats, Healed, LossSample, Removal, Stopped};
use lopper_model::checkpoint::{Dtype, torch_name};
use lopper_model::{Checkpoint, Model};
use lopper_prune::writer::{put_in_place, temporary_directory};
use lopper_prune::{Choice, Plan, write_trained};
use lopper_record::{Context as _, Fault, LayerNumbering, Result, Scratch, ensure_new, write_atomic};

use super::cuts::CutOutput;
use super::{RECORD, Record};
use crate::args::{HealArgs, MethodArg};
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::table;

/// Whether the output is a whole model and not an adapter.
pub fn writes_model(args: &HealArgs) -> bool {
    args.merge || args.method == MethodArg::Full
}

/// Writes the output, and what is known of it to `heal.json`. The loss of a whole model is measured as it is on the
/// disk, on `sample`, before it is renamed into place.
pub fn write(
    context: &Context,
    opened: &OpenModel,
    (args, cut): (&HealArgs, &CutOutput),
    healed: &Healed,
    sample: Option<&LossSample<'_>>,
    record: &mut Record<'_>,
) -> Result<()> {
    let (out, drop) = (&cut.out, cut.drop.as_deref());
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    let scratch = Scratch::of(out)?;
    let temporary = temporary_directory(scratch.directory())?;
    if writes_model(args) {
        let plan = match drop {
            Some(spec) => Some(Plan::new(&opened.checkpoint, &opened.name, &opened.layers(spec)?, Choice::given())?),
            None => None,
        };
        let (model, dtype) = (&healed.model, out_dtype(opened, args));
        let measured = |written: &Arc<Checkpoint>| {
            if let Some(sample) = sample {
                let written = Model::mapped(written)?;
                record.written = Some(sample.of_written(written, torch_name(dtype)?, &context.progress)?);
            }
            Ok(section(record))
        };
        let warnings = write_trained(&opened.checkpoint, plan.as_ref(), model, dtype, measured, temporary.path())?;
        warnings.iter().for_each(|warning| context.printer.warn(warning));
    } else {
        // PEFT would put the adapter on the wrong layers of the uncut model.
        let base = drop.is_none().then(|| match &opened.snapshot {
            Some(snapshot) => Base { name: &snapshot.id, revision: Some(&snapshot.commit) },
            None => Base { name: &opened.name, revision: None },
        });
        healed.save_adapter(temporary.path(), base)?;
    }
    let json = serde_json::to_string_pretty(record)? + "\n";
    write_atomic(&temporary.path().join(RECORD), json.as_bytes())?;
    put_in_place(temporary, out, cut.replaces(args))
}

/// What the weights of a whole model are stored in.
pub fn out_dtype(opened: &OpenModel, args: &HealArgs) -> Dtype {
    args.out_dtype.map_or_else(|| opened.checkpoint.dtype(), Dtype::from)
}

/// The end of the model's card.
fn section(record: &Record<'_>) -> String {
    let stats = record.stats;
    format!(
        "## Healed with Lopper\n\n\
         Finetuned from `{}` with the layers {} (counted from 0 in the original model); the loss was taken on \
         the answers only.\n\n\
         - recipe: {}\n- examples: {}, {} steps, {} tokens\n- {}\n- source: hash `{}`\n\
         - Lopper {}\n\n\
         Figures above this section describe the model before. `{RECORD}` holds these for programs.\n",
        record.source.id,
        record.kept,
        record.recipe.summary(stats.steps),
        stats.examples,
        stats.steps,
        stats.tokens,
        losses(record),
        record.source.hash,
        record.lopper_version,
    )
}

/// The losses of the training, and of the model as it was written, for its card.
fn losses(record: &Record<'_>) -> String {
    let trained = format!("loss in nats per token: {}", record.stats.info(record.recipe).losses());
    match &record.written {
        Some(written) => format!("{trained}\n- {}", written.summary()),
        None => trained,
    }
}

/// Says what was done, and what to be wary of; the record itself, as JSON, is the caller's to print.
pub fn report(
    context: &Context,
    numbering: &LayerNumbering,
    (args, cut): (&HealArgs, &CutOutput),
    record: &Record<'_>,
) -> Result<()> {
    let stats = record.stats;
    if !stats.removals.is_empty() {
        context.printer.note(&removals(stats, numbering)?);
    }
    context.printer.note(&format!(
        "{} steps, {} tokens in {:.1} s ({:.0} tokens/s); {} (nats per token)",
        stats.steps,
        table::count(stats.tokens),
        stats.seconds,
        stats.tokens as f64 / stats.seconds.max(1e-9),
        stats.info(record.recipe).losses()
    ));
    match (&stats.stopped, stats.planned_steps) {
        (Some(Stopped::Patience), Some(planned)) => context.printer.note(&format!(
            "stopped after {} of {planned} steps: the held-out loss had not fallen for {} evaluations",
            stats.steps,
            args.patience.map_or(0, NonZero::get)
        )),
        (Some(Stopped::Diverged(divergence)), _) => context.printer.warn(&format!(
            "{}; written are the weights of step {}, the best before",
            diverged(divergence),
            stats.kept_step.unwrap_or_default()
        )),
        _ => {}
    }
    match stats.kept_step {
        Some(0) => context.printer.warn("no evaluation was better than the start: the weights are those of the start"),
        Some(step) if step != stats.steps => {
            let loss = stats.held_out.map_or(f64::NAN, |loss| loss.last);
            context.printer.note(&format!("written are the weights of step {step}, with the lowest loss, {loss:.4}"));
        }
        _ => {}
    }
    if let Some(warning) = record.written.as_ref().and_then(|written| written.warning(args.merge)) {
        context.printer.warn(&warning);
    }
    if let Some(drop) = cut.drop.as_ref().filter(|_| !writes_model(args)) {
        context.printer.note(&format!(
            "the adapter belongs on the model that `lopper prune {} --drop {drop}` writes; here, give --drop {drop} \
             --adapter together",
            args.model
        ));
    }
    if args.json {
        return Ok(());
    }
    context.printer.result(&cut.out.display().to_string())?;
    match &record.written {
        Some(written) => context.printer.result(&written.summary()),
        None => Ok(()),
    }
}

/// The layers that were removed during the training, a line for each removal.
fn removals(stats: &HealStats, numbering: &LayerNumbering) -> Result<String> {
    let row = |removal: &Removal| {
        let loss = |at: usize| removal.held_out_loss.map_or_else(|| "–".to_owned(), |loss| format!("{:.4}", loss[at]));
        Ok([removal.step.to_string(), numbering.originals(&removal.layers)?.to_string(), loss(0), loss(1)])
    };
    let rows = stats.removals.iter().map(row).collect::<Result<Vec<_>>>()?;
    let header = ["after step", "removed", "held-out loss before", "and after"];
    Ok(format!("layers were removed as follows:\n{}", table::render(header, &rows)))
}

/// A divergence after which better weights were there.
fn diverged(divergence: &Divergence) -> String {
    let Divergence { step, noticed, start, loss, documents } = divergence;
    let mut rows = documents.clone();
    rows.sort_unstable();
    rows.dedup();
    let rows = rows.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    if loss.is_finite() {
        format!(
            "training diverged: from step {step} to step {noticed} the loss was above its start ({loss:.3} on average \
             for {start:.3}); in the batch before: rows {rows}"
        )
    } else {
        format!("training diverged: at step {step} the loss was no number; in the batch: rows {rows}")
    }
}

/// Refuses outputs that exist, and with `--force` those that replacing would do harm to.
pub fn check(opened: &OpenModel, out: &Path, replace: bool) -> Result<()> {
    ensure_new(out, replace)?;
    if out.symlink_metadata().is_err() {
        return Ok(());
    }
    if let (Some(source), Ok(out)) = (opened.checkpoint.directory(), out.canonicalize())
        && source.canonicalize()?.starts_with(&out)
    {
        return Err(Fault::new("the output would replace the model that is being healed")
            .file(out)
            .expected("another directory")
            .hint("choose another path")
            .into());
    }
    let empty = || out.read_dir().is_ok_and(|mut entries| entries.next().is_none());
    if out.join(RECORD).is_file() || empty() {
        return Ok(());
    }
    Err(Fault::new("the output exists and is not one of `lopper heal`")
        .file(out)
        .expected(format!("a directory with {RECORD}, an empty one, or nothing"))
        .hint("--force replaces only such directories; remove this one by hand if you mean it")
        .into())
}
