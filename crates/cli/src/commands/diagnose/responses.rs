//! A file of responses, whoever wrote them.

use std::path::Path;

use lopper_diagnose::response_file::{FileMetrics, measure};
use lopper_diagnose::{diagnose_outcomes, graded_samples, ledger};
use lopper_record::study::{Diagnosis, LedgerEntry, Programs};
use lopper_record::{Fault, Result, ensure_new_file, write_atomic_with};
use serde::Serialize;

use super::table::{degeneration_rows, percent_of, reasoning_rows, side_by_side};
use crate::args::{BenchmarkArgs, DiagnoseArgs, DtypeArg};
use crate::context::Context;
use crate::table;

/// Ledger entries of each cause that the JSON document has.
const SHOWN_ENTRIES: usize = 3;

/// What the arguments that are refused belong to.
const EXPECTED: &str = "a MODEL, not a file of responses";

/// The JSON document.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    found: &'a FileMetrics,
    /// Against the uncut model's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    diagnosis: Option<&'a Diagnosis>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ledger: &'a [LedgerEntry],
}

pub fn run(context: &Context, args: &DiagnoseArgs) -> Result<()> {
    let model_only = [
        ("--drop", args.drop.is_some()),
        ("--sweep", args.sweep),
        ("--tasks", !args.tasks.is_empty()),
        ("--prompts", args.prompts.is_some()),
        ("--arithmetic", args.arithmetic.is_some()),
        ("--operations", args.operations.is_some()),
        ("--digits", args.digits.is_some()),
        ("--temperature", args.temperature.is_some()),
        ("--stream", args.run.stream),
        ("--dtype", args.run.dtype != DtypeArg::default()),
        ("--memory", args.run.memory.is_some()),
        ("--out", args.out.is_some()),
    ];
    super::refuse(&model_only, &args.subject, EXPECTED)?;
    super::refuse(&args.rows.all(), &args.subject, EXPECTED)?;
    super::refuse(&of_tasks(&args.benchmark), &args.subject, EXPECTED)?;
    for path in args.figures_out.iter().chain(&args.ledger_out) {
        ensure_new_file(path, args.force)?;
    }
    if args.ledger_out.is_some() && args.base.is_none() {
        return Err(Fault::new("a ledger compares two models")
            .expected("--base UNCUT.jsonl, the same items answered by the uncut model")
            .got("--ledger-out alone")
            .hint("`lopper eval --samples-out` writes such files")
            .into());
    }
    let path = Path::new(&args.subject);
    let (limit, progress) = (args.limit.map(std::num::NonZero::get), &context.progress);
    let markers = args.benchmark.reasoning.markers();
    let markers = markers.as_ref();
    let found = match &args.figures_out {
        None => measure(path, limit, markers, progress, &mut |_| Ok(()))?,
        Some(to) => write_atomic_with(to, |out| {
            measure(path, limit, markers, progress, &mut |figures| {
                Ok(writeln!(out, "{}", serde_json::to_string(figures)?)?)
            })
        })?,
    };
    for broken in &found.broken_lines {
        context.printer.warn(&format!("{}: line {}: {}", path.display(), broken.line, broken.why));
    }
    if found.broken > found.broken_lines.len() {
        let more = found.broken - found.broken_lines.len();
        context.printer.warn(&format!("{}: {more} more lines could not be read", path.display()));
    }
    let compared = match &args.base {
        None => None,
        Some(from) => {
            let (own, base) = (graded_samples::read(path, limit, markers)?, graded_samples::read(from, None, markers)?);
            let compared = diagnose_outcomes(&own.outcomes, Some(&base.outcomes));
            if compared.0.ledger.is_none() {
                return Err(nothing_shared(path, from).into());
            }
            Some(compared)
        }
    };
    if let (Some((_, entries)), Some(to)) = (&compared, &args.ledger_out) {
        ledger::write(to, entries)?;
    }
    let shown = compared.as_ref().map(|(_, entries)| ledger::excerpt(entries, SHOWN_ENTRIES)).unwrap_or_default();
    let diagnosis = compared.as_ref().map(|(diagnosis, _)| diagnosis);
    if args.json {
        return context.printer.json(&Document { found: &found, diagnosis, ledger: &shown });
    }
    let mut text = human(&found);
    if let Some(diagnosis) = diagnosis {
        // What the file's own lines have told already is not told twice.
        let diagnosis = Diagnosis { degeneration: None, reasoning: None, programs: None, ..diagnosis.clone() };
        text += &format!("\n\n{}", side_by_side(&["against the uncut model".to_owned()], &[&diagnosis]));
    }
    context.printer.result(&text)
}

fn nothing_shared(path: &Path, base: &Path) -> Fault {
    Fault::new("the two files judge no item in common")
        .file(path)
        .expected("the same tasks and items, known by `task` and by `id` or `doc_id`")
        .got(format!("none that is in {}", base.display()))
        .hint("let both models answer the same items with the same program")
}

/// Which arguments for asking tasks were given: a file asks nothing.
fn of_tasks(args: &BenchmarkArgs) -> [(&'static str, bool); 11] {
    [
        ("--data-root", args.data_root.is_some()),
        ("--shots", args.shots.is_some()),
        ("--apply-chat-template", args.apply_chat_template),
        ("--examples-in-one-message", args.examples_in_one_message),
        ("--system", args.system.is_some()),
        ("--max-new-tokens", args.max_new_tokens.is_some()),
        ("--truncate-questions", args.truncate_questions),
        ("--template-var", !args.template.template_var.is_empty()),
        ("--max-thinking-tokens", args.reasoning.max_thinking_tokens.is_some()),
        ("--no-loop-stop", args.no_loop_stop),
        ("--allow-code-execution", args.allow_code_execution),
    ]
}

fn human(found: &FileMetrics) -> String {
    let steps = &found.steps;
    let mut rows = degeneration_rows(&found.degeneration);
    rows.extend(reasoning_rows(found.reasoning.as_ref()));
    let count = |n: usize| table::count(n as u64);
    rows.push(["equations checked".into(), count(steps.equations)]);
    rows.push(["false ones".into(), format!("{} {}", count(steps.wrong), percent_of(steps.wrong, steps.equations))]);
    let slipped = percent_of(steps.responses_with_a_slip, steps.responses);
    rows.push([
        "responses with a false equation".into(),
        format!("{} of {} {slipped}", count(steps.responses_with_a_slip), count(steps.responses)),
    ]);
    if let Some(programs) = &found.programs {
        rows.extend(
            Programs::NAMES.iter().zip(programs.counts()).map(|(name, n)| [format!("programs: {name}"), count(n)]),
        );
    }
    if found.without_text > 0 {
        rows.push(["lines without text of their own".into(), count(found.without_text)]);
    }
    if found.broken > 0 {
        rows.push(["lines that could not be read".into(), count(found.broken)]);
    }
    let mut out = table::render(["", ""], &rows).trim_start().to_owned();
    if !found.loops.is_empty() {
        out.push_str("\n\nloops (line, times, from word, repeated words)\n");
        for at in &found.loops {
            let unit: String = at.looped.unit.chars().take(60).flat_map(char::escape_debug).collect();
            out += &format!("  {}  {}×  {}  {unit}\n", at.line, at.looped.times, at.looped.begins_at_word + 1);
        }
    }
    if !steps.slips.is_empty() {
        out.push_str("\nfirst false equations (line)\n");
        for at in &steps.slips {
            let equation: String = at.equation.chars().take(80).flat_map(char::escape_debug).collect();
            out += &format!("  {}  {equation}  (is {})\n", at.line, at.value);
        }
    }
    out.trim_end().to_owned()
}
