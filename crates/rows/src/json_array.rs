//! Rows as the objects of one JSON array, read one after the other.

use std::io::BufRead;
use std::path::PathBuf;

use lopper_record::Result;
use serde_json::Value;

use crate::json::{self, Nesting};
use crate::source::{Source, Text, unreadable};
use crate::{LONGEST_ROW, Row};

/// The elements of an array.
pub(crate) struct JsonArray {
    text: Text,
    path: PathBuf,
    number: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is read yet.
    Before,
    Within,
    /// The array has ended, or cannot be read on.
    After,
}

/// An element's bytes; none for one that is too long.
type Element = Option<Vec<u8>>;

impl JsonArray {
    pub fn new(source: Source) -> Self {
        let path = source.path.clone();
        Self { text: source.text(), path, number: 0, state: State::Before }
    }

    fn read(&mut self) -> Result<Option<Element>, String> {
        if self.state == State::After {
            return Ok(None);
        }
        if self.state == State::Before {
            // The file begins with a bracket.
            self.skip_white_space()?;
            self.text.consume(1);
        }
        let first = self.state == State::Before;
        self.state = State::Within;
        let element = self.element()?;
        if self.state == State::After {
            if self.skip_white_space()?.is_some() {
                return Err("text after the end of the array".to_owned());
            }
            if first && element.as_ref().is_some_and(|bytes| bytes.iter().all(u8::is_ascii_whitespace)) {
                return Ok(None);
            }
        }
        Ok(Some(element))
    }

    /// The bytes up to the next comma, or the bracket that ends the array; both are read too.
    fn element(&mut self) -> Result<Element, String> {
        let (mut nesting, mut bytes, mut length) = (Nesting::default(), Vec::new(), 0);
        loop {
            let part = self.text.fill_buf().map_err(|error| error.to_string())?;
            if part.is_empty() {
                return Err(format!("an array without its end, after {} elements", self.number));
            }
            let end = part.iter().position(|byte| {
                let ends = nesting.is_closed() && matches!(byte, b',' | b']');
                nesting.take(*byte);
                ends
            });
            let until = end.unwrap_or(part.len());
            length += until as u64;
            if length <= LONGEST_ROW {
                bytes.extend_from_slice(&part[..until]);
            } else {
                bytes = vec![];
            }
            if let Some(at) = end {
                if part[at] == b']' {
                    self.state = State::After;
                }
                self.text.consume(at + 1);
                return Ok((length <= LONGEST_ROW).then_some(bytes));
            }
            self.text.consume(until);
        }
    }

    /// The next byte that is not white space, which is not read.
    fn skip_white_space(&mut self) -> Result<Option<u8>, String> {
        loop {
            let part = self.text.fill_buf().map_err(|error| error.to_string())?;
            let at = part.iter().position(|byte| !byte.is_ascii_whitespace());
            match at {
                Some(at) => {
                    let byte = part[at];
                    self.text.consume(at);
                    return Ok(Some(byte));
                }
                None if part.is_empty() => return Ok(None),
                None => {
                    let all = part.len();
                    self.text.consume(all);
                }
            }
        }
    }
}

impl Iterator for JsonArray {
    type Item = Result<(usize, Row)>;

    fn next(&mut self) -> Option<Self::Item> {
        let element = match self.read() {
            Ok(element) => element?,
            Err(got) => {
                self.state = State::After;
                return Some(Err(unreadable(&self.path, got).into()));
            }
        };
        self.number += 1;
        let row = match element.map(|bytes| json::parse(&bytes)) {
            Some(Ok(Value::Object(row))) => Ok(row),
            Some(Ok(_)) => Err("the element is not a JSON object".to_owned()),
            Some(Err(error)) => Err(format!("the element is not JSON: {error}")),
            None => Err(format!("the element is longer than {LONGEST_ROW} bytes")),
        };
        Some(Ok((self.number, row)))
    }
}
