//! The `tojson` filter of chat templates, which is `json.dumps` of Python with `ensure_ascii=False`: its spaces differ
//! from those of compact JSON, its numbers are Python's, and it escapes no HTML.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::python::{check, number};

const MAX_INDENT: usize = 64;

/// The filter, with the arguments that transformers gives it: `ensure_ascii`, `indent`, `separators`, `sort_keys`, in
/// this order or by name.
pub(super) fn tojson(value: &Value, arguments: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let given = |position: usize, name: &str| match arguments.get(position) {
        Some(value) => Ok(Some(value.clone())),
        None => kwargs.get::<Option<Value>>(name),
    };
    let is_set = |given: Option<Value>| given.is_some_and(|value| value.is_true());
    let ensure_ascii = is_set(given(0, "ensure_ascii")?);
    let indent = given(1, "indent")?.filter(|indent| !indent.is_none());
    let separators = given(2, "separators")?.filter(|separators| !separators.is_none());
    let sort_keys = is_set(given(3, "sort_keys")?);
    kwargs.assert_all_used()?;
    if arguments.len() > 4 {
        return Err(ErrorKind::TooManyArguments.into());
    }
    let indent = indent.map(|indent| match indent.as_str() {
        Some(text) => text.chars().take(MAX_INDENT).collect(),
        None => " ".repeat(usize::try_from(indent).unwrap_or(0).min(MAX_INDENT)),
    });
    let (between, after_key) = match separators {
        Some(separators) => {
            let texts: Vec<String> = separators.try_iter()?.map(|text| text.to_string()).collect();
            let Ok([between, after_key]) = <[String; 2]>::try_from(texts) else {
                return Err(Error::new(ErrorKind::InvalidOperation, "tojson: two separators are needed"));
            };
            (between, after_key)
        }
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let mut writer = Writer { out: String::new(), ensure_ascii, sort_keys, indent, between, after_key };
    writer.value(value, 0)?;
    Ok(Value::from_safe_string(writer.out))
}

struct Writer {
    out: String,
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    between: String,
    after_key: String,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        check(self.out.len(), depth)?;
        match value.kind() {
            ValueKind::None | ValueKind::Bool | ValueKind::Number => self.out.push_str(&plain(value)),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                self.out.push('[');
                let mut empty = true;
                for item in value.try_iter()? {
                    self.separate(empty, depth);
                    self.value(&item, depth + 1)?;
                    empty = false;
                }
                self.end(empty, depth);
                self.out.push(']');
            }
            ValueKind::Map => {
                let mut keys = Vec::new();
                for key in value.try_iter()? {
                    keys.push((key_text(&key)?, key));
                }
                if self.sort_keys {
                    keys.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.out.push('{');
                for (index, (text, key)) in keys.iter().enumerate() {
                    self.separate(index == 0, depth);
                    self.text(text);
                    self.out.push_str(&self.after_key);
                    self.value(&value.get_item(key)?, depth + 1)?;
                }
                self.end(keys.is_empty(), depth);
                self.out.push('}');
            }
            kind => return Err(Error::new(ErrorKind::InvalidOperation, format!("{kind} cannot be written as JSON"))),
        }
        Ok(())
    }

    /// What comes before an item.
    fn separate(&mut self, first: bool, depth: usize) {
        if !first {
            self.out.push_str(&self.between);
        }
        self.line(depth + 1);
    }

    fn end(&mut self, empty: bool, depth: usize) {
        if !empty {
            self.line(depth);
        }
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\x08' => self.out.push_str("\\b"),
                '\x0c' => self.out.push_str("\\f"),
                c if c < ' ' || self.ensure_ascii && c > '~' => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let written = write!(self.out, "\\u{unit:04x}");
                        debug_assert!(written.is_ok());
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// `null`, a boolean or a number.
fn plain(value: &Value) -> String {
    match value.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if value.is_true() { "true" } else { "false" }.to_owned(),
        _ => match number(value).as_str() {
            "inf" => "Infinity".to_owned(),
            "-inf" => "-Infinity".to_owned(),
            "nan" => "NaN".to_owned(),
            number => number.to_owned(),
        },
    }
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::None | ValueKind::Bool | ValueKind::Number => Ok(plain(key)),
        kind => Err(Error::new(ErrorKind::InvalidOperation, format!("{kind} cannot be a key in JSON"))),
    }
}
