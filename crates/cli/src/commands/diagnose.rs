//! `lopper diagnose`: what broke, in a model or in a file of responses.

mod model;
mod responses;
mod sweep;
mod table;

use std::path::Path;

use lopper_record::{Fault, Result};

use crate::args::DiagnoseArgs;
use crate::context::Context;

pub fn run(context: &Context, args: &DiagnoseArgs) -> Result<()> {
    if is_responses(&args.subject) { responses::run(context, args) } else { model::run(context, args) }
}

/// Whether the argument names a file of responses: by its ending, or because a file of that name is there (a model is
/// a directory).
fn is_responses(subject: &str) -> bool {
    let path = Path::new(subject);
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let of_rows = ["jsonl", "ndjson", "json", "csv", "tsv", "parquet"].contains(&ending);
    subject == "-" || !path.is_dir() && (of_rows || path.exists())
}

/// Refuses arguments that belong to the other kind of subject.
fn refuse(given: &[(&str, bool)], subject: &str, expected: &str) -> Result<()> {
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((argument, _)) => Err(Fault::new(format!("{argument} belongs to {expected}"))
            .expected(expected)
            .got(subject)
            .hint(format!("leave {argument} out"))
            .into()),
    }
}
