//! What `lopper heal` leaves out of usable examples: the evaluated items that it looks for, and what it says.

use std::path::Path;

use lopper_heal::examples::{ExampleReport, layouts};
use lopper_heal::{EvaluatedTexts, ExampleText, RowSource};
use lopper_record::{Fault, Result};
use lopper_tasks::{DataRoot, Resources, evaluated_texts};

use crate::args::{FilterArgs, GENERATED_ITEMS};
use crate::context::Context;
use crate::{rows, table};

/// The seed by which `lopper eval` draws items if none is given.
const SEED: u64 = 0;
/// From so many examples on, one answer to a twentieth of the prompts is worth a warning.
const ENOUGH: usize = 20;

/// The items of `--decontaminate`.
pub fn evaluated(context: &Context, root: &DataRoot, args: &FilterArgs) -> Result<Option<EvaluatedTexts>> {
    let mut texts = EvaluatedTexts::default();
    for name in &args.decontaminate {
        if rows::is_file_of_rows(name) {
            of_rows(name, &mut texts)?;
            continue;
        }
        let resources = Resources { data_root: root.clone(), code: None };
        for (task, item) in evaluated_texts(&[name], (GENERATED_ITEMS, SEED), &resources)? {
            texts.add(&task, item);
        }
    }
    if args.decontaminate.is_empty() {
        return Ok(None);
    }
    context
        .printer
        .note(&format!("examples that overlap with {} evaluated items are left out", table::count(texts.len() as u64)));
    Ok(Some(texts))
}

/// Adds the questions in a file of rows: samples of `lopper eval`, or prompts in any of the layouts.
fn of_rows(name: &str, texts: &mut EvaluatedTexts) -> Result<()> {
    let source = RowSource::file(Path::new(name));
    let before = texts.len();
    for numbered in source.rows()? {
        let Ok(row) = numbered?.1 else { continue };
        let text = |column: &str| row.get(column).and_then(|value| value.as_str()).map(str::to_owned);
        let mut item: Vec<String> = ["prompt", "instruction", "question"].into_iter().filter_map(text).collect();
        if let Ok(example) = layouts::example(row)
            && let ExampleText::Chat(chat) = example.text
        {
            let questions = chat.messages.iter().filter(|turn| turn.role == "user");
            item.extend(questions.map(|turn| turn.text().into_owned()));
        }
        if !item.is_empty() {
            texts.add(name, item);
        }
    }
    if texts.len() > before {
        return Ok(());
    }
    Err(Fault::new("there is nothing to look for in the examples")
        .file(name)
        .expected(
            "rows with `prompt`, `question`, `instruction` or `messages`, such as `lopper eval --samples-out` writes",
        )
        .got("none")
        .hint("is it the right file? --decontaminate also takes the names of tasks")
        .into())
}

/// Says with what examples overlap, and what of their answers is the same.
pub fn say(context: &Context, report: &ExampleReport) {
    if report.overlap > 0 {
        let of = |(name, count): (&String, &usize)| format!("{} with items of {name}", table::count(*count as u64));
        let found: Vec<String> = report.overlap_with.iter().map(of).collect();
        context.printer.note(&format!("examples that overlap: {}", found.join(", ")));
    }
    if report.same_answer > 0 {
        context.printer.note(&format!(
            "{} examples have the answer of another prompt's, and are learned",
            table::count(report.same_answer as u64)
        ));
    }
    if let Some((times, tokens)) = report.commonest_answer
        && report.used >= ENOUGH
        && 20 * times > report.used
    {
        context.printer.warn(&format!(
            "one answer of {tokens} tokens is that of {} of {} examples: is it a refusal?",
            table::count(times as u64),
            table::count(report.used as u64)
        ));
    }
}
