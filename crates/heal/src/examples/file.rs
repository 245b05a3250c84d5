//! Examples from a file of rows.

use super::{Examples, Renderer, layouts};
use lopper_record::{Fault, Result};
use lopper_rows::RowReader;
use std::path::Path;

/// Reads the rows of a file ([`RowReader`]) in any of the [`layouts`]. Those that are not usable are counted and
/// reported.
///
/// # Errors
/// A [`Fault`] when the file cannot be read, holds no usable row, or needs a chat template that the model lacks.
pub fn read_examples(path: &Path, renderer: &Renderer<'_>, max_length: usize) -> Result<Examples> {
    let mut examples = Examples::default();
    for numbered in RowReader::open(path)? {
        let (number, row) = numbered?;
        match row.and_then(layouts::example) {
            Ok(example) => examples.add(renderer, number, &example, max_length)?,
            Err(what) => {
                examples.report.rows += 1;
                examples.complain(number, what);
            }
        }
    }
    if examples.documents.is_empty() {
        return Err(nothing(path, &examples, max_length).into());
    }
    Ok(examples)
}

fn nothing(path: &Path, examples: &Examples, max_length: usize) -> Fault {
    let report = &examples.report;
    let mut got = format!(
        "{} rows: {} unusable, {} longer than {max_length} tokens, {} cut off",
        report.rows, report.unusable, report.too_long, report.unfinished
    );
    if let Some((line, what)) = report.complaints.first() {
        got.push_str(&format!("; row {line}: {what}"));
    }
    Fault::new("no usable examples")
        .file(path)
        .expected("lines such as {\"messages\": [{\"role\": \"user\", …}, {\"role\": \"assistant\", …}]}")
        .got(got)
        .hint("`lopper generate` writes such a file; answers that are cut off need a larger --max-new-tokens there")
}
