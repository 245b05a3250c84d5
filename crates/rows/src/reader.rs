//! The rows of a file, whatever its format.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use lopper_record::{Fault, Result};
use serde_json::Value;

use crate::json_array::JsonArray;
use crate::json_lines::JsonLines;
use crate::parquet::Parquet;
use crate::separated::Separated;
use crate::source::{Count, Source, unreadable};
use crate::{MOST_BYTES, MOST_ROWS, Row};

/// The rows of a file in order, read as they are asked for, each with the number of its line, or its own where rows are
/// no lines; both from 1. An item is an error where reading cannot go on.
pub struct RowReader {
    rows: Box<dyn Iterator<Item = Result<(usize, Row)>>>,
    path: PathBuf,
    size: Option<u64>,
    read: Count,
    /// What may still be read, for callers that keep the rows.
    budget: Option<Budget>,
}

impl RowReader {
    /// Opens a file of rows, for callers that keep them: a file beyond the bounds of memory is refused.
    ///
    /// # Errors
    /// A [`Fault`] for a file that cannot be read, is too large, or is not what its ending says.
    pub fn open(path: &Path) -> Result<Self> {
        Self::bounded(Source::open(path, false)?)
    }

    /// Opens a file of rows of any size, for callers that keep nothing of them: memory does not grow with the file.
    /// `-` is standard input.
    ///
    /// # Errors
    /// A [`Fault`] for a file that cannot be read, or is not what its ending says.
    pub fn stream(path: &Path) -> Result<Self> {
        Self::of(Source::open(path, true)?)
    }

    /// Opens the files of a split as one, bounded as [`RowReader::open`] bounds each of them; rows are counted on from
    /// one to the next.
    ///
    /// # Errors
    /// As [`RowReader::open`], also where there is no file.
    pub fn open_all(files: &[PathBuf]) -> Result<Self> {
        let mut rest = VecDeque::from(files.to_vec());
        let Some(first) = rest.pop_front() else {
            return Err(Fault::new("there is no file of rows").expected("at least one").into());
        };
        let first = Self::open(&first)?;
        let (path, size, read) = (first.path.clone(), first.size, first.read.clone());
        let rows = Files { current: first, rest, before: 0, last: 0 };
        Ok(Self { rows: Box::new(rows), path, size, read, budget: None })
    }

    fn bounded(source: Source) -> Result<Self> {
        if let Some(size) = source.size.filter(|size| *size > MOST_BYTES) {
            let fault = unreadable(&source.path, format!("{size} bytes"));
            return Err(fault.expected(format!("at most {MOST_BYTES} bytes")).hint("give a smaller file").into());
        }
        Ok(Self { budget: Some(Budget::default()), ..Self::of(source)? })
    }

    fn of(source: Source) -> Result<Self> {
        let (path, size, read) = (source.path.clone(), source.size, source.count.clone());
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
        let rows: Box<dyn Iterator<Item = _>> = match ending.as_deref() {
            Some("parquet") => Box::new(Parquet::open(&path, size, read.clone())?),
            Some("csv") => Box::new(Separated::new(source, b',')?),
            Some("tsv") => Box::new(Separated::new(source, b'\t')?),
            _ if source.is_parquet() => Box::new(Parquet::open(&path, size, read.clone())?),
            _ if source.is_array() => Box::new(JsonArray::new(source)),
            _ => Box::new(JsonLines::new(source)),
        };
        Ok(Self { rows, path, size, read, budget: None })
    }

    /// Bytes of the file, if it is one.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Bytes of the file that were read so far, about: what is read ahead counts.
    pub fn bytes_read(&self) -> u64 {
        self.read.get()
    }
}

impl Iterator for RowReader {
    type Item = Result<(usize, Row)>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.rows.next()?;
        if let (Some(budget), Ok((_, row))) = (&mut self.budget, &item)
            && let Err(got) = budget.take(row.as_ref().map_or(0, |row| row.values().map(weight).sum()))
        {
            self.rows = Box::new(std::iter::empty());
            return Some(Err(unreadable(&self.path, got).hint("give a smaller file").into()));
        }
        Some(item)
    }
}

/// Several files, one after the other.
struct Files {
    current: RowReader,
    rest: VecDeque<PathBuf>,
    /// The number of the last row of the files before.
    before: usize,
    last: usize,
}

impl Iterator for Files {
    type Item = Result<(usize, Row)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.current.next() {
                Some(Ok((number, row))) => {
                    self.last = self.before + number;
                    return Some(Ok((self.last, row)));
                }
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    let next = RowReader::open(&self.rest.pop_front()?);
                    self.before = self.last;
                    match next {
                        Ok(next) => self.current = next,
                        Err(error) => return Some(Err(error)),
                    }
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LONGEST_ROW;
    use serde_json::Map;

    fn read_bytes(ending: &str, bytes: &[u8]) -> Result<Vec<(usize, Row)>> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(format!("rows{ending}"));
        std::fs::write(&path, bytes).unwrap();
        RowReader::open(&path)?.collect()
    }

    fn read(ending: &str, text: &str) -> Vec<Row> {
        read_bytes(ending, text.as_bytes()).unwrap().into_iter().map(|(_, row)| row).collect()
    }

    /// Numbers of the rows, and whether they are rows.
    fn numbers(ending: &str, text: &str) -> Vec<(usize, bool)> {
        read_bytes(ending, text.as_bytes()).unwrap().into_iter().map(|(at, row)| (at, row.is_ok())).collect()
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

    #[test]
    fn objects_over_several_lines_are_rows() {
        let spread = "{\n  \"p\": \"a }\\\" {\"\n}\n\n{\n  \"p\": [1]\n}\n{\"p\": 2}\n";
        assert_eq!(numbers(".json", spread), [(1, true), (5, true), (8, true)]);
        assert_eq!(read(".jsonl", spread)[0].as_ref().unwrap()["p"], "a }\" {");
        // A broken first line does not swallow the others.
        let broken = "{\"p\": [\n{\"p\": 1}\n{\"p\": 2}\n";
        assert_eq!(numbers(".jsonl", broken), [(1, false), (2, true), (3, true)]);
        assert_eq!(numbers(".jsonl", "{\"p\": 1}\n{\n\"p\": 2}\n"), [(1, true), (2, false), (3, false)]);
        assert_eq!(numbers(".json", "{\n\"p\": 1\n"), [(1, false), (2, false)]);
    }

    #[test]
    fn an_array_is_read_element_by_element() {
        assert_eq!(numbers(".json", "[]"), []);
        assert_eq!(numbers(".json", " [ ]\n"), []);
        let mixed = "[{\"p\": \"],\"}, 3, {\"p\": [{}, [1]]},{\"p\" 1}, {\"p\": NaN}]";
        assert_eq!(numbers(".json", mixed), [(1, true), (2, false), (3, true), (4, false), (5, true)]);
        for text in ["[{\"p\": 1}, {\"p\"", "[{\"p\": 1}] {}", "[", "[{\"p\": \"]"] {
            let fault = read_bytes(".json", text.as_bytes()).unwrap_err().into_fault().unwrap();
            assert!(fault.got.unwrap().contains("array"), "{text}");
        }
    }

    #[test]
    fn text_that_is_packed_or_encoded_otherwise_is_named() {
        let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain("{}".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        for (bytes, got) in [(&utf16[..], "UTF-16"), (b"\x1f\x8b\x08", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd")] {
            let fault = read_bytes(".jsonl", bytes).unwrap_err().into_fault().unwrap();
            assert!(fault.got.unwrap().contains(got) && fault.hint.is_some());
        }
    }

    #[test]
    fn what_is_too_long_is_skipped_and_the_rest_is_read() {
        let long = "x".repeat(LONGEST_ROW as usize);
        let lines = format!("{{\"p\": 1}}\n{{\"p\": \"{long}\"}}\n{{\"p\": 2}}\n");
        assert_eq!(numbers(".jsonl", &lines), [(1, true), (2, false), (3, true)]);
        let array = format!("[{{\"p\": 1}}, {{\"p\": \"{long}\"}}, {{\"p\": 2}}]");
        assert_eq!(numbers(".json", &array), [(1, true), (2, false), (3, true)]);
        // A quotation mark without its end would take the rest of the file.
        let fault = read_bytes(".csv", format!("p\n\"{long}{long}").as_bytes()).unwrap_err().into_fault().unwrap();
        assert!(fault.got.unwrap().contains("quotation mark"));
    }

    #[test]
    fn files_of_a_split_are_counted_on() {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = place.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = [file("a.jsonl", "{\"p\":1}\n\n{\"p\":2}\n"), file("b.csv", "p\n3\n"), file("c.json", "[{}]")];
        let rows: Vec<_> = RowReader::open_all(&files).unwrap().map(|row| row.unwrap().0).collect();
        assert_eq!(rows, [1, 3, 4, 5]);
        assert!(RowReader::open_all(&[]).is_err());
        let missing = [files[0].clone(), place.path().join("none.jsonl")];
        assert!(RowReader::open_all(&missing).unwrap().last().unwrap().is_err());
    }

    #[test]
    fn how_far_it_has_come_is_known() {
        let parquet = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tasks/rows.parquet");
        let lines = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(lines.path(), "{\"p\": 1}\n".repeat(100_000)).unwrap();
        for path in [parquet.as_path(), lines.path()] {
            let mut rows = RowReader::stream(path).unwrap();
            let size = rows.size().unwrap();
            assert!(rows.next().unwrap().unwrap().1.is_ok());
            assert!((1..size / 2).contains(&rows.bytes_read()), "{path:?}: {} of {size}", rows.bytes_read());
            assert!(rows.by_ref().all(|row| row.is_ok()));
            assert_eq!(rows.bytes_read(), size);
        }
    }
}
