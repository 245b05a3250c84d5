//! Rows of files and data sets: every file of rows that a user names is read here.
//!
//! Parquet, JSON Lines, JSON arrays and CSV are read, by the file's ending or, where it has none of theirs, by how it
//! begins. A byte order mark, line ends of Windows and the `NaN` and `Infinity` of Python's `json` (read as `null`) are
//! no faults.
//!
//! ```
//! use lopper_rows::RowReader;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let file = tempfile::NamedTempFile::with_suffix(".jsonl")?;
//! # std::fs::write(file.path(), "{\"prompt\": \"hi\"}\n[]\n")?;
//! # let path = file.path();
//! let rows: Vec<_> = RowReader::open(path)?.collect::<Result<_, _>>()?;
//! assert_eq!(rows[0].1.as_ref().unwrap()["prompt"], "hi");
//! assert_eq!(rows[1], (2, Err("the line is not a JSON object".to_owned())));
//! # Ok(())
//! # }
//! ```
//!
//! A data root holds one file for each split, `DATA SET/CONFIG/SPLIT.parquet` (or `.jsonl`, `.csv`), or the
//! pieces that repositories of the hub have, `SPLIT-00000-of-00002.parquet` or `SPLIT/0000.parquet`. What it lacks a
//! [`RowFetcher`] may bring. Files are untrusted: a row that cannot be read is a [`Row`] that says why, a file that
//! cannot is a [`Fault`](lopper_record::Fault); sizes are bounded.

mod fetch;
mod json;
mod json_array;
mod json_lines;
mod parquet;
mod reader;
mod root;
mod separated;
mod source;

pub use fetch::{RowFetcher, SplitFiles};
pub use reader::RowReader;
pub use root::{DATA_ROOT_VARIABLE, DataRoot};

use std::path::{Path, PathBuf};

use lopper_record::{Fault, Result};
use serde_json::{Map, Value};

/// A row's columns, or why it could not be read.
pub type Row = Result<Map<String, Value>, String>;

/// Most rows of a file; the largest split of the benchmarks has about 100 000.
const MOST_ROWS: usize = 4_000_000;
/// Most bytes of a file, and of all text in it once decompressed.
const MOST_BYTES: u64 = 2 << 30;
/// Longest row in bytes; one that is longer is none.
const LONGEST_ROW: u64 = 64 << 20;

/// All rows of one split.
#[derive(Debug, Clone)]
pub struct Table {
    /// Which file each row is in.
    pub parts: Parts,
    /// Its rows, in order.
    pub rows: Vec<Row>,
}

/// Endings of files that can be read, in the order in which they are looked for.
pub const ENDINGS: [&str; 3] = ["parquet", "jsonl", "csv"];

/// The files of a split, each with the number of its first row.
#[derive(Debug, Clone, Default)]
pub struct Parts(Vec<(usize, PathBuf)>);

impl Parts {
    /// The file that a row is in.
    pub fn file(&self, row: usize) -> &Path {
        let part = self.0.iter().rev().find(|(first, _)| *first <= row);
        part.map_or(Path::new(""), |(_, path)| path)
    }
}

impl Table {
    /// Reads the files of a split, one after the other; a file's ending says of which kind it is.
    ///
    /// # Errors
    /// A [`Fault`] for a file that cannot be read, is too large, or is not what its ending says.
    pub fn read(files: &[PathBuf]) -> Result<Self> {
        let mut table = Self { parts: Parts::default(), rows: vec![] };
        for path in files {
            table.parts.0.push((table.rows.len(), path.clone()));
            table.rows.extend(Self::rows_of(path)?);
            if table.rows.len() > MOST_ROWS {
                return Err(Fault::new("the rows are too many")
                    .file(path)
                    .expected(format!("at most {MOST_ROWS}"))
                    .got(table.rows.len().to_string())
                    .hint("give a smaller file")
                    .into());
            }
        }
        Ok(table)
    }

    /// The file that a row is in.
    pub fn file(&self, row: usize) -> &Path {
        self.parts.file(row)
    }

    fn rows_of(path: &Path) -> Result<Vec<Row>> {
        RowReader::open(path)?.map(|row| Ok(row?.1)).collect()
    }
}
