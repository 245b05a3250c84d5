//! The `tojson` filter of chat templates: `json.dumps` of Python with `ensure_ascii=False`, whose
//! spaces differ from those of compact JSON and which escapes no HTML.

use std::collections::BTreeMap;
use std::io::{self, Write};

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

const MAX_INDENT: usize = 64;

/// The filter. Keywords: `indent`, `sort_keys`; others that Python knows change nothing here.
pub(super) fn tojson(value: Value, indent: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let indent: Option<Value> = match indent {
        Some(indent) => Some(indent),
        None => kwargs.get("indent")?,
    };
    let sort_keys: Option<bool> = kwargs.get("sort_keys")?;
    let _: Option<bool> = kwargs.get("ensure_ascii")?;
    kwargs.assert_all_used()?;
    let mut json = serde_json::to_value(&value).map_err(failed)?;
    if sort_keys == Some(true) {
        json = sorted(json);
    }
    let mut bytes = Vec::new();
    let result = match indent.filter(|indent| !indent.is_none()) {
        None => json.serialize(&mut Serializer::with_formatter(&mut bytes, Python)),
        Some(indent) => {
            let width = match indent.as_str() {
                Some(text) => text.to_owned(),
                None => {
                    let width = usize::try_from(indent).unwrap_or(0).min(MAX_INDENT);
                    " ".repeat(width)
                }
            };
            let pretty = PrettyFormatter::with_indent(width.as_bytes());
            json.serialize(&mut Serializer::with_formatter(&mut bytes, pretty))
        }
    };
    result.map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(failed)?;
    Ok(Value::from_safe_string(text))
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::InvalidOperation, "cannot be written as JSON").with_source(error)
}

fn sorted(json: serde_json::Value) -> serde_json::Value {
    match json {
        serde_json::Value::Object(object) => {
            let ordered: BTreeMap<_, _> = object.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            serde_json::Value::Object(ordered.into_iter().collect())
        }
        serde_json::Value::Array(values) => values.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// `", "` between items and `": "` after keys.
struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
