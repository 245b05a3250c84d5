//! A file of responses, whoever wrote them.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use lopper_eval::diagnostics::responses::{FileFigures, examine};
use lopper_record::{ensure_new, write_atomic};

use super::table::{degeneration_rows, percent_of};
use crate::args::DiagnoseArgs;
use crate::env::Env;
use crate::progress::Progress;
use crate::table;

pub fn run(env: &Env, args: &DiagnoseArgs) -> Result<()> {
    let model_only = [
        ("--drop", args.drop.is_some()),
        ("--sweep", args.sweep),
        ("--tasks", !args.tasks.is_empty()),
        ("--prompts", args.prompts.is_some()),
        ("--arithmetic", args.arithmetic.is_some()),
        ("--operations", args.operations.is_some()),
        ("--digits", args.digits.is_some()),
        ("--temperature", args.temperature.is_some()),
        ("--out", args.out.is_some()),
    ];
    super::refuse(&model_only, &args.subject, "a MODEL, not a file of responses")?;
    if let Some(path) = &args.figures_out {
        ensure_new(path, args.force)?;
    }
    let path = Path::new(&args.subject);
    let size = std::fs::metadata(path).map_or(0, |file| file.len());
    let progress = Progress::of_bytes(env.printer, "reading", size);
    let mut lines = args.figures_out.as_ref().map(|_| tempfile::tempfile().map(BufWriter::new)).transpose()?;
    let found = examine(
        path,
        args.limit.map(std::num::NonZero::get),
        &|bytes| {
            progress.set_bytes(bytes);
            env.check_interrupt()
        },
        &mut |figures| {
            if let Some(lines) = &mut lines {
                serde_json::to_writer(&mut *lines, figures)?;
                lines.write_all(b"\n")?;
            }
            Ok(())
        },
    )?;
    drop(progress);
    for broken in &found.broken_lines {
        env.printer.warn(&format!("{}: line {}: {}", path.display(), broken.line, broken.why));
    }
    if found.broken > found.broken_lines.len() {
        let more = found.broken - found.broken_lines.len();
        env.printer.warn(&format!("{}: {more} more lines could not be read", path.display()));
    }
    if let (Some(lines), Some(to)) = (lines, &args.figures_out) {
        let file = lines.into_inner().map_err(|error| error.into_error()).context("cannot write the figures")?;
        write_atomic(to, &read_back(file)?)?;
    }
    if args.json {
        return env.printer.json(&found);
    }
    env.printer.result(&human(&found))
}

fn read_back(mut file: std::fs::File) -> Result<Vec<u8>> {
    use std::io::{Read, Seek};
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn human(found: &FileFigures) -> String {
    let steps = &found.steps;
    let mut rows = degeneration_rows(&found.degeneration);
    let count = |n: usize| table::count(n as u64);
    rows.push(["equations checked".into(), count(steps.equations)]);
    rows.push(["false ones".into(), format!("{} {}", count(steps.wrong), percent_of(steps.wrong, steps.equations))]);
    let slipped = percent_of(steps.responses_with_a_slip, steps.responses);
    rows.push([
        "responses with a false equation".into(),
        format!("{} of {} {slipped}", count(steps.responses_with_a_slip), count(steps.responses)),
    ]);
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
