//! Rows as JSON lines and as comma-separated values.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use lopper_record::{Fault, Result};
use serde_json::{Map, Value};

use super::{Budget, Row, weight};

/// Longest line; a row longer than this is none.
const LONGEST_LINE: u64 = 64 << 20;

/// One object on each line; empty lines are no rows.
pub(super) fn json_lines(path: &Path) -> Result<Vec<Row>> {
    let fault = |got: String| Fault::new("the rows cannot be read").file(path).got(got).hint("is it the right file?");
    let mut file = BufReader::new(File::open(path).map_err(|error| fault(error.to_string()))?);
    let (mut rows, mut budget, mut line) = (Vec::new(), Budget::default(), Vec::new());
    loop {
        line.clear();
        let read = (&mut file).take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(|e| fault(e.to_string()))?;
        if read == 0 {
            return Ok(rows);
        }
        if read as u64 == LONGEST_LINE {
            return Err(fault(format!("a line of more than {LONGEST_LINE} bytes")).into());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        budget.take(line.len()).map_err(fault)?;
        rows.push(match serde_json::from_slice::<Value>(&line) {
            Ok(Value::Object(row)) => Ok(row),
            Ok(_) => Err("the line is not a JSON object".to_owned()),
            Err(error) => Err(format!("the line is not JSON: {error}")),
        });
    }
}

/// Rows under a header; every value is text, which a task's columns turn into what they declare.
pub(super) fn comma_separated(path: &Path) -> Result<Vec<Row>> {
    let fault = |got: String| Fault::new("the rows cannot be read").file(path).got(got).hint("is it the right file?");
    let file = File::open(path).map_err(|error| fault(error.to_string()))?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
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

    fn read(ending: &str, text: &str, reader: fn(&Path) -> Result<Vec<Row>>) -> Vec<Row> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(format!("rows.{ending}"));
        std::fs::write(&path, text).unwrap();
        reader(&path).unwrap()
    }

    #[test]
    fn lines_that_are_no_rows_are_kept_apart() {
        let rows = read("jsonl", "{\"a\":1}\n\n[1]\n{\"a\":\n{\"a\":\"é\"}", json_lines);
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[0].as_ref().unwrap()["a"], 1);
        assert!(rows[1].as_ref().unwrap_err().contains("object") && rows[2].is_err());
        assert_eq!(rows[3].as_ref().unwrap()["a"], "é");
        let rows = read("csv", "q,a\n\"x, y\",1\nonly\n\"two\nlines\",2\n", comma_separated);
        assert_eq!(rows[0].as_ref().unwrap()["q"], "x, y");
        assert!(rows[1].as_ref().unwrap_err().contains("1 values"));
        assert_eq!(rows[2].as_ref().unwrap()["q"], "two\nlines");
        assert!(read("csv", "", comma_separated).is_empty());
    }
}
