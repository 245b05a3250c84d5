//! Rows as JSON Lines: one object on each line. Objects that are written over several lines are read as well, such as
//! those of `jq` or a file that is one document.

use std::io::{BufRead, Cursor, Read};
use std::path::PathBuf;

use lopper_record::Result;
use serde_json::Value;

use crate::json::{self, Nesting};
use crate::source::{Source, read_line, unreadable};
use crate::{LONGEST_ROW, Row};

/// The objects of a text. Empty lines are no rows.
pub(crate) struct JsonLines {
    text: Box<dyn BufRead>,
    path: PathBuf,
    /// Lines read so far.
    number: usize,
    /// Whether objects go over several lines; none before the first row.
    spans_lines: Option<bool>,
    line: Vec<u8>,
}

impl JsonLines {
    pub fn new(source: Source) -> Self {
        let path = source.path.clone();
        Self { text: Box::new(source.text()), path, number: 0, spans_lines: None, line: vec![] }
    }

    fn read(&mut self) -> std::io::Result<Option<(usize, Row)>> {
        loop {
            let read = read_line(&mut self.text, &mut self.line, LONGEST_ROW)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            let number = self.number;
            if read > LONGEST_ROW {
                return Ok(Some((number, Err(format!("the line is longer than {LONGEST_ROW} bytes")))));
            }
            if self.line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let row = match json::parse(&self.line) {
                Ok(Value::Object(row)) => Ok(row),
                Ok(_) => Err("the line is not a JSON object".to_owned()),
                Err(error) => match self.object_of_lines()? {
                    Some(row) => return Ok(Some((number, Ok(row)))),
                    None => Err(format!("the line is not JSON: {error}")),
                },
            };
            self.spans_lines.get_or_insert(false);
            return Ok(Some((number, row)));
        }
    }

    /// The object that begins on the line that was read last and ends on a later one. Where there is none, the lines
    /// are left to be read again.
    fn object_of_lines(&mut self) -> std::io::Result<Option<serde_json::Map<String, Value>>> {
        let mut nesting = Nesting::default();
        nesting.take_all(&self.line);
        if self.spans_lines == Some(false) || nesting.is_closed() || self.line.trim_ascii_start().first() != Some(&b'{')
        {
            return Ok(None);
        }
        let (mut object, mut more, mut lines) = (self.line.clone(), vec![], 0);
        while !nesting.is_closed() && (object.len() as u64) < LONGEST_ROW {
            if read_line(&mut self.text, &mut more, LONGEST_ROW - object.len() as u64)? == 0 {
                break;
            }
            lines += 1;
            nesting.take_all(&more);
            object.extend_from_slice(&more);
        }
        if let (true, Ok(Value::Object(row))) = (nesting.is_closed(), json::parse(&object)) {
            self.number += lines;
            self.spans_lines = Some(true);
            return Ok(Some(row));
        }
        let after = object.split_off(self.line.len());
        let rest = std::mem::replace(&mut self.text, Box::new(std::io::empty()));
        self.text = Box::new(Cursor::new(after).chain(rest));
        self.spans_lines = Some(false);
        Ok(None)
    }
}

impl Iterator for JsonLines {
    type Item = Result<(usize, Row)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().map_err(|error| unreadable(&self.path, error).into()).transpose()
    }
}
