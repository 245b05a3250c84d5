//! Rows of data sets: where they lie, and reading them.
//!
//! A data root holds one file for each split, `DATA SET/CONFIG/SPLIT.parquet` (or `.jsonl`, `.csv`), which
//! is how data sets of the hub are laid out. Files are untrusted: a row that cannot be read is a
//! [`Row`] that says why, a file that cannot is a [`Fault`](lopper_record::Fault); sizes are bounded.

mod parquet;
mod root;
mod text;

pub use root::{DATA_ROOT_VARIABLE, DataRoot};

use std::path::{Path, PathBuf};

use anyhow::Result;
use lopper_record::Fault;
use serde_json::{Map, Value};

/// A row's columns, or why it could not be read.
pub type Row = Result<Map<String, Value>, String>;

/// Most rows of a file; the largest split of the benchmarks has about 100 000.
const MOST_ROWS: usize = 4_000_000;
/// Most bytes of a file, and of all text in it once decompressed.
const MOST_BYTES: u64 = 2 << 30;

/// All rows of one file.
#[derive(Debug, Clone)]
pub struct Table {
    /// The file.
    pub path: PathBuf,
    /// Its rows, in order.
    pub rows: Vec<Row>,
}

/// Endings of files that can be read, in the order in which they are looked for.
pub const ENDINGS: [&str; 3] = ["parquet", "jsonl", "csv"];

impl Table {
    /// Reads a file of rows; its ending says of which kind it is.
    ///
    /// # Errors
    /// A [`Fault`] for a file that cannot be read, is too large, or is not what its ending says.
    pub fn read(path: &Path) -> Result<Self> {
        let fault = |got: String| Fault::new("the rows cannot be read").file(path).got(got).hint("check the path");
        let size = std::fs::metadata(path).map_err(|error| fault(error.to_string()))?.len();
        if size > MOST_BYTES {
            return Err(fault(format!("{size} bytes")).expected(format!("at most {MOST_BYTES} bytes")).into());
        }
        let rows = match path.extension().and_then(|ending| ending.to_str()) {
            Some("parquet") => parquet::read(path)?,
            Some("jsonl") => text::json_lines(path)?,
            Some("csv") => text::comma_separated(path)?,
            other => {
                return Err(fault(format!("the ending {:?}", other.unwrap_or_default()))
                    .expected("a .parquet, .jsonl or .csv file")
                    .into());
            }
        };
        Ok(Self { path: path.to_path_buf(), rows })
    }
}

/// Counts what has been read against the bounds.
#[derive(Default)]
struct Budget {
    rows: usize,
    bytes: u64,
}

impl Budget {
    /// Takes one row of about `bytes` bytes.
    fn take(&mut self, bytes: usize) -> Result<(), String> {
        self.rows += 1;
        self.bytes += bytes as u64;
        match self.rows > MOST_ROWS || self.bytes > MOST_BYTES {
            true => Err(format!("more than {MOST_ROWS} rows, or {MOST_BYTES} bytes of text")),
            false => Ok(()),
        }
    }
}

/// Bytes of text in a value, roughly.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 16,
        Value::Array(list) => list.iter().map(weight).sum::<usize>() + 16,
        Value::Object(map) => map.iter().map(|(name, value)| name.len() + weight(value)).sum::<usize>() + 16,
        _ => 16,
    }
}
