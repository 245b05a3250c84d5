//! Rows of comma-separated or tab-separated values, under a header. Every value is text, which a task's columns turn
//! into what they declare.

use std::io::Read;
use std::path::PathBuf;

use lopper_record::{Fault, Result};

use crate::source::{Count, Source, Text, unreadable};
use crate::{LONGEST_ROW, Row};

/// Text of which a row may take only so much.
struct Bounded {
    text: Text,
    left: Count,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(std::io::Error::other(format!(
                "a row of more than {LONGEST_ROW} bytes: is there a quotation mark without its end?"
            )));
        }
        let read = self.text.read(buffer)?;
        self.left.set(left.saturating_sub(read as u64));
        Ok(read)
    }
}

/// The records of a text.
pub(crate) struct Separated {
    records: csv::StringRecordsIntoIter<Bounded>,
    header: Vec<String>,
    left: Count,
    path: PathBuf,
    number: usize,
    ended: bool,
}

impl Separated {
    /// Reads the header.
    ///
    /// # Errors
    /// A [`Fault`] where it cannot be read.
    pub fn new(source: Source, delimiter: u8) -> Result<Self> {
        let (path, left) = (source.path.clone(), Count::default());
        left.set(LONGEST_ROW);
        let text = Bounded { text: source.text(), left: left.clone() };
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text);
        let header = reader.headers().map_err(|error| unreadable(&path, error))?;
        let header = header.iter().map(str::to_owned).collect();
        Ok(Self { records: reader.into_records(), header, left, path, number: 0, ended: false })
    }
}

impl Iterator for Separated {
    type Item = Result<(usize, Row)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        self.left.set(LONGEST_ROW);
        let row = match self.records.next()? {
            Ok(record) if record.len() != self.header.len() => {
                Err(format!("{} values under {} headings", record.len(), self.header.len()))
            }
            Ok(record) => Ok(self.header.iter().cloned().zip(record.iter().map(Into::into)).collect()),
            Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => Err(error.to_string()),
            Err(error) => {
                self.ended = true;
                let fault: Fault = unreadable(&self.path, error);
                return Some(Err(fault.into()));
            }
        };
        self.number += 1;
        Some(Ok((self.number, row)))
    }
}
