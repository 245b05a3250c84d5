//! Examples from rows of files and data sets.

use super::layouts::{ColumnNames, Columns};
use super::{ExampleFilter, ExampleLimits, Examples, Renderer, layouts};
use lopper_record::{Fault, Result};
use lopper_rows::RowReader;
use std::path::{Path, PathBuf};

/// Rows of prompts and answers.
#[derive(Debug, Clone)]
pub struct RowSource {
    /// What messages call them: the file, or the data set.
    pub name: PathBuf,
    /// The files that hold them, in order.
    pub files: Vec<PathBuf>,
    /// Columns that are named otherwise than in the [`layouts`].
    pub columns: ColumnNames,
}

impl RowSource {
    /// The rows of one file, in any of the [`layouts`].
    pub fn file(path: &Path) -> Self {
        Self { name: path.to_path_buf(), files: vec![path.to_path_buf()], columns: ColumnNames::default() }
    }

    /// The rows in order, read as they are asked for, each with its number from 1, or the number of its line.
    ///
    /// # Errors
    /// A [`Fault`] when the first file cannot be read; an item is one where a later one cannot.
    pub fn rows(&self) -> Result<impl Iterator<Item = Result<(usize, Result<Columns, String>)>>> {
        let renamed =
            |(number, row): (usize, lopper_rows::Row)| (number, row.and_then(|row| self.columns.renamed(row)));
        Ok(RowReader::open_all(&self.files)?.map(move |row| row.map(renamed)))
    }
}

/// Reads rows in any of the [`layouts`], one after the other: nothing of a row is kept but its tokens. Those that are
/// not usable, or that `filter` leaves out, are counted and reported.
///
/// # Errors
/// A [`Fault`] when a file cannot be read, no row is usable, or they need a chat template that the model lacks.
pub fn read_examples(
    source: &RowSource,
    renderer: &Renderer<'_>,
    limits: ExampleLimits,
    filter: &mut ExampleFilter<'_>,
) -> Result<Examples> {
    let mut examples = Examples::default();
    for numbered in source.rows()? {
        let (number, row) = numbered?;
        match row.and_then(layouts::example) {
            Ok(example) => examples.add(renderer, number, &example, limits, filter)?,
            Err(what) => {
                examples.report.rows += 1;
                examples.complain(number, what);
            }
        }
    }
    if examples.documents.is_empty() {
        return Err(nothing(&source.name, &examples, limits.max_length).into());
    }
    Ok(examples)
}

fn nothing(path: &Path, examples: &Examples, max_length: usize) -> Fault {
    let report = &examples.report;
    let mut got = format!(
        "{} rows: {} unusable, {} longer than {max_length} tokens, {} cut off, {} repetitive",
        report.rows,
        report.unusable,
        report.too_long,
        report.cut_off + report.context_full,
        report.repetitive
    );
    for (count, why) in report.counts().filtered() {
        got.push_str(&format!(", {count} {why}"));
    }
    if let Some((line, what)) = report.complaints.first() {
        got.push_str(&format!("; row {line}: {what}"));
    }
    Fault::new("no usable examples")
        .file(path)
        .expected("lines such as {\"messages\": [{\"role\": \"user\", …}, {\"role\": \"assistant\", …}]}")
        .got(got)
        .hint("`lopper generate` writes such a file; answers that are cut off need a larger --max-new-tokens there")
}
