//! The examples of `lopper heal`: to train on, and held out.

use lopper_heal::examples::{ExampleReport, Examples};
use lopper_heal::{ExampleFilter, HealRecipe, HoldOut, Renderer, RowSource, TrainingSet, read_examples};
use lopper_infer::ChatTokenizer;
use lopper_record::{Fault, Result};
use lopper_tasks::DataRoot;

use super::filter;
use crate::args::{HealArgs, HeldOutArg};
use crate::context::Context;
use crate::rows::NamedRows;
use crate::table;

/// Reads what is trained on and what is held out.
pub fn read(
    context: &Context,
    text: &ChatTokenizer,
    args: &HealArgs,
    (rows, root): (&[NamedRows], &DataRoot),
    recipe: &HealRecipe,
) -> Result<(TrainingSet, ExampleReport)> {
    let renderer = Renderer::of(text);
    let evaluated = filter::evaluated(context, root, &args.filters)?;
    // One for all files, so that duplicates are found across them.
    let mut leave_out = ExampleFilter::new(&args.filters.settings(), evaluated.as_ref());
    let parts = rows
        .iter()
        .map(|rows| of_source(context, &rows.source, &renderer, (recipe, &mut leave_out), "examples"))
        .collect::<Result<Vec<_>>>()?;
    let examples = Examples::joined(parts, args.mix.as_deref(), recipe.seed)?;
    if examples.report.not_drawn > 0 {
        context.printer.note(&format!(
            "{} examples are left out for the proportions of --mix",
            table::count(examples.report.not_drawn as u64)
        ));
    }
    let report = examples.report.clone();
    filter::say(context, &report);
    let set = match &args.held_out {
        None => examples.hold_out(HoldOut::Tenth),
        Some(HeldOutArg::None) => examples.hold_out(HoldOut::Number(0)),
        Some(HeldOutArg::Number(number)) => examples.hold_out(HoldOut::Number(*number)),
        Some(HeldOutArg::Fraction(fraction)) => examples.hold_out(HoldOut::Fraction(checked(*fraction)?)),
        Some(HeldOutArg::File(path)) => {
            // All DATA are read by the same names of columns.
            let columns = rows.first().map(|rows| rows.source.columns.clone()).unwrap_or_default();
            let source = RowSource { columns, ..RowSource::file(path) };
            let others =
                of_source(context, &source, &renderer, (recipe, &mut ExampleFilter::none()), "held-out examples")?;
            examples.hold_out_others(others)?
        }
    };
    if set.left_out > 0 {
        context.printer.note(&format!(
            "{} examples have the prompt of a held-out one, and are left out of the training",
            table::count(set.left_out as u64)
        ));
    }
    if set.held_out_examples > 0 {
        context.printer.note(&format!(
            "{} examples are held out of the training, to measure the loss on them",
            table::count(set.held_out_examples as u64)
        ));
    }
    if args.eval_steps.is_some() && set.held_out.is_empty() {
        return Err(Fault::new("--eval-steps has no held-out examples to measure the loss on")
            .expected("at least one held-out example")
            .got(format!("{} examples, all of them to train on", set.train.len()))
            .hint("hold some out with --held-out, such as `--held-out 0.1`")
            .into());
    }
    Ok((set, report))
}

/// A fraction of the examples, between none and all.
fn checked(fraction: f64) -> Result<f64> {
    if fraction > 0.0 && fraction < 1.0 {
        return Ok(fraction);
    }
    Err(Fault::new("--held-out is out of range")
        .expected("a fraction above 0 and below 1, a whole number, a file, or `none`")
        .got(fraction.to_string())
        .hint("`--held-out 0.1` holds out a tenth; write a file of such a name as `./NAME`")
        .into())
}

fn of_source(
    context: &Context,
    source: &RowSource,
    renderer: &Renderer<'_>,
    (recipe, leave_out): (&HealRecipe, &mut ExampleFilter<'_>),
    what: &str,
) -> Result<Examples> {
    let examples = read_examples(source, renderer, recipe.limits(recipe.max_length), leave_out)?;
    let (report, name) = (&examples.report, source.name.display());
    context.printer.note(&format!(
        "{} of {} {what}, {} tokens{}",
        table::count(report.used as u64),
        table::count(report.rows as u64),
        table::count(examples.tokens() as u64),
        left_out(report, recipe.max_length)
    ));
    if report.used_cut_off > 0 {
        context.printer.note(&format!(
            "{} of them were cut off at the length limit, and are learned as far as they go",
            table::count(report.used_cut_off as u64)
        ));
    }
    for (line, what) in &report.complaints {
        context.printer.warn(&format!("{name}, row {line}: {what}"));
    }
    if report.tokens_differ > 0 {
        context.printer.warn(&format!(
            "the recorded tokens of {} examples are not their text in this model's tokens; they are rendered again",
            report.tokens_differ
        ));
    }
    for remark in examples.remarks(renderer) {
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
    let filtered = report.counts().filtered();
    let reasons: Vec<String> =
        reasons.into_iter().chain(filtered.iter().map(|(count, why)| format!("{count} {why}"))).collect();
    if reasons.is_empty() { String::new() } else { format!(" (left out: {})", reasons.join(", ")) }
}
