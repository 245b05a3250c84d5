//! Rows as JSON lines and as comma-separated values.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use lopper_record::{Fault, Result};
use serde_json::{Map, Value};

use super::{Budget, MOST_BYTES, Row, json, weight};

/// Longest line; a row longer than this is none.
const LONGEST_LINE: u64 = 64 << 20;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

fn unreadable(path: &Path, got: String) -> Fault {
    Fault::new("the rows cannot be read").file(path).got(got).hint("is it the right file?")
}

/// The file's text, behind a byte order mark if it has one.
fn open(path: &Path) -> Result<BufReader<File>> {
    let fault = |error: std::io::Error| unreadable(path, error.to_string());
    let mut file = BufReader::new(File::open(path).map_err(fault)?);
    if file.fill_buf().map_err(fault)?.starts_with(BYTE_ORDER_MARK) {
        file.consume(BYTE_ORDER_MARK.len());
    }
    Ok(file)
}

/// The first byte of the file that is not white space.
pub(super) fn begins_with(path: &Path) -> Result<Option<u8>> {
    let mut file = open(path)?;
    let text = file.fill_buf().map_err(|error| unreadable(path, error.to_string()))?;
    Ok(text.iter().copied().find(|byte| !byte.is_ascii_whitespace()))
}

/// One object on each line; empty lines are no rows.
pub(super) struct JsonLines {
    file: BufReader<File>,
    path: PathBuf,
    budget: Budget,
    number: usize,
    line: Vec<u8>,
}

impl JsonLines {
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { file: open(path)?, path: path.to_path_buf(), budget: Budget::default(), number: 0, line: vec![] })
    }

    fn read(&mut self) -> Result<Option<(usize, Row)>, String> {
        loop {
            self.line.clear();
            let mut line = (&mut self.file).take(LONGEST_LINE);
            let read = line.read_until(b'\n', &mut self.line).map_err(|error| error.to_string())?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if read as u64 == LONGEST_LINE {
                return Err(format!("line {} has more than {LONGEST_LINE} bytes", self.number));
            }
            if self.line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            self.budget.take(self.line.len())?;
            let row = match json::parse(&self.line) {
                Ok(Value::Object(row)) => Ok(row),
                Ok(_) => Err("the line is not a JSON object".to_owned()),
                Err(error) => Err(format!("the line is not JSON: {error}")),
            };
            return Ok(Some((self.number, row)));
        }
    }
}

impl Iterator for JsonLines {
    type Item = Result<(usize, Row)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().map_err(|got| unreadable(&self.path, got).into()).transpose()
    }
}

/// The objects of one JSON array.
pub(super) fn json_array(path: &Path) -> Result<Vec<Row>> {
    let mut text = Vec::new();
    open(path)?.take(MOST_BYTES).read_to_end(&mut text).map_err(|error| unreadable(path, error.to_string()))?;
    let Value::Array(rows) = json::parse(&text).map_err(|error| unreadable(path, format!("not JSON: {error}")))? else {
        return Err(unreadable(path, "JSON that is not an array".to_owned()).into());
    };
    let row = |value| match value {
        Value::Object(row) => Ok(row),
        _ => Err("the element is not a JSON object".to_owned()),
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Rows under a header; every value is text, which a task's columns turn into what they declare.
pub(super) fn separated(path: &Path, delimiter: u8) -> Result<Vec<Row>> {
    let fault = |got: String| unreadable(path, got);
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(open(path)?);
    let header = reader.headers().map_err(|error| fault(error.to_string()))?.clone();
    let (mut rows, mut budget) = (Vec::new(), Budget::default());
    for record in reader.records() {
        let row: Row = match record {
            Ok(record) if record.len() != header.len() => {
                Err(format!("{} values under {} headings", record.len(), header.len()))
            }
            Ok(record) => {
                let pairs = header.iter().zip(&record);
                Ok(pairs.map(|(name, value)| (name.to_owned(), Value::from(value))).collect::<Map<_, _>>())
            }
            Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => Err(error.to_string()),
            Err(error) => return Err(fault(error.to_string()).into()),
        };
        budget.take(row.as_ref().map_or(0, |row| row.values().map(weight).sum())).map_err(fault)?;
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RowReader;

    fn read(ending: &str, text: &str) -> Vec<Row> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(format!("rows{ending}"));
        std::fs::write(&path, text).unwrap();
        RowReader::open(&path).unwrap().map(|row| row.unwrap().1).collect()
    }

    #[test]
    fn lines_that_are_no_rows_are_kept_apart() {
        let rows = read(".jsonl", "{\"a\":1}\n\n[1]\n{\"a\":\n{\"a\":\"é\"}");
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[0].as_ref().unwrap()["a"], 1);
        assert!(rows[1].as_ref().unwrap_err().contains("object") && rows[2].is_err());
        assert_eq!(rows[3].as_ref().unwrap()["a"], "é");
        let rows = read(".csv", "q,a\n\"x, y\",1\nonly\n\"two\nlines\",2\n");
        assert_eq!(rows[0].as_ref().unwrap()["q"], "x, y");
        assert!(rows[1].as_ref().unwrap_err().contains("1 values"));
        assert_eq!(rows[2].as_ref().unwrap()["q"], "two\nlines");
        assert!(read(".csv", "").is_empty());
    }

    #[test]
    fn the_same_rows_in_every_dress() {
        let expected: Vec<Row> = ["hi", "there"].map(|text| Ok(Map::from_iter([("p".to_owned(), text.into())]))).into();
        for (ending, text) in [
            (".jsonl", "\u{feff}{\"p\": \"hi\"}\r\n{\"p\": \"there\"}\r\n"),
            (".json", "{\"p\": \"hi\"}\n{\"p\": \"there\"}"),
            (".json", "\u{feff}\r\n[{\"p\": \"hi\"}, {\"p\": \"there\"}]"),
            ("", " [{\"p\": \"hi\"},\n{\"p\": \"there\"}]"),
            (".csv", "\u{feff}p\r\nhi\r\nthere\r\n"),
            (".tsv", "p\nhi\nthere"),
        ] {
            assert_eq!(read(ending, text), expected, "{ending} {text:?}");
        }
        assert!(read(".json", "[1]")[0].as_ref().unwrap_err().contains("object"));
        assert!(read(".txt", "hi")[0].is_err());
    }
}
