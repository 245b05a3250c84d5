//! Values as Python prints them, and the filters and tests whose results differ from jinja2's.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, escape_formatter, filters};

/// Values within values that are printed.
pub(super) const MAX_DEPTH: usize = 100;
/// Bytes of a printed value. Values that hold each other twice, again and again, would fill any memory.
pub(super) const MAX_BYTES: usize = 1 << 24;

/// Adds what jinja2 does otherwise than the engine.
pub(super) fn add(environment: &mut Environment<'static>) {
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Number | ValueKind::Seq | ValueKind::Map => Ok(out.write_str(&text(value)?)?),
        _ => escape_formatter(out, state, value),
    });
    environment.set_unknown_method_callback(super::methods::call);
    environment.add_filter("string", text);
    environment.add_filter("trim", |value: &Value, chars: Option<String>| -> Result<String, Error> {
        let value = text(value)?;
        Ok(match chars {
            Some(chars) => value.trim_matches(|c| chars.contains(c)).to_owned(),
            None => value.trim_matches(is_space).to_owned(),
        })
    });
    for name in ["d", "default"] {
        environment.add_filter(name, default);
    }
    environment.add_filter("int", |state: &State, value: &Value, default, base, kwargs: Kwargs| {
        filters::int(state, value, Some(or_zero(default, &kwargs, Value::from(0))?), base, kwargs)
    });
    environment.add_filter("float", |state: &State, value: &Value, default, kwargs: Kwargs| {
        filters::float(state, value, Some(or_zero(default, &kwargs, Value::from(0.0))?), kwargs)
    });
    environment.add_test("callable", |value: &Value| value.is_undefined() || value.kind() == ValueKind::Plain);
    environment.add_test("sequence", |value: &Value| is_container(value));
    environment.add_test("iterable", |value: &Value| is_container(value) || value.kind() == ValueKind::Iterable);
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment.add_function("cycler", |items: Rest<Value>| minijinja_contrib::globals::cycler(items.to_vec()));
}

/// Whether `value` has a length and items, in the eyes of Python.
fn is_container(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
}

fn or_zero(given: Option<Value>, kwargs: &Kwargs, zero: Value) -> Result<Value, Error> {
    Ok(match given {
        Some(given) => given,
        None => kwargs.get::<Option<Value>>("default")?.unwrap_or(zero),
    })
}

fn default(value: Value, other: Option<Value>, boolean: Option<bool>, kwargs: Kwargs) -> Result<Value, Error> {
    let other = match other {
        Some(other) => other,
        None => kwargs.get::<Option<Value>>("default_value")?.unwrap_or_else(|| Value::from("")),
    };
    let boolean = boolean.or(kwargs.get("boolean")?).unwrap_or(false);
    kwargs.assert_all_used()?;
    Ok(if value.is_undefined() || boolean && !value.is_true() { other } else { value })
}

/// Whether `str.strip` removes `c`.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// `str(value)`.
///
/// # Errors
/// For a value that is too large or too deep.
pub(super) fn text(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None if value.is_undefined() => Ok(String::new()),
        None => {
            let mut out = String::new();
            write_repr(value, &mut out, 0)?;
            Ok(out)
        }
    }
}

/// Adds `repr(value)` to `out`.
fn write_repr(value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    check(out.len(), depth)?;
    match value.kind() {
        ValueKind::String => write_quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Seq => {
            let is_tuple = value.downcast_object_ref::<Tuple>().is_some();
            out.push(if is_tuple { '(' } else { '[' });
            let mut count = 0;
            for item in value.try_iter()? {
                out.push_str(if count > 0 { ", " } else { "" });
                write_repr(&item, out, depth + 1)?;
                count += 1;
            }
            out.push_str(match (is_tuple, count) {
                (true, 1) => ",)",
                (true, _) => ")",
                (false, _) => "]",
            });
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(&key, out, depth + 1)?;
                out.push_str(": ");
                write_repr(&value.get_item(&key)?, out, depth + 1)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// Refuses to print more.
pub(super) fn check(bytes: usize, depth: usize) -> Result<(), Error> {
    if bytes > MAX_BYTES || depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value is too large to be printed"));
    }
    Ok(())
}

fn write_quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                let written = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
                debug_assert!(written.is_ok());
            }
        }
    }
    out.push(quote);
}

/// As Python has it: neither a control, format, private or unassigned character nor a separator. Rust's standard
/// library escapes the same ones, and combining characters at the beginning of a text only.
fn is_printable(c: char) -> bool {
    let mut text = String::from("a");
    text.push(c);
    text.escape_debug().count() == 2
}

/// A number as Python prints it: `1e-07` and `1e+16` where Rust has `0.0000001` and `1e16`.
pub(super) fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

fn float(number: f64) -> String {
    if !number.is_finite() {
        return number.to_string().to_lowercase();
    }
    // The shortest digits that are read as the same number, in both languages.
    let shortest = format!("{number:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    match exponent.parse().unwrap_or(0) {
        -4..16 => {
            let plain = number.to_string();
            if plain.contains('.') { plain } else { plain + ".0" }
        }
        exponent => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", i32::abs(exponent))
        }
    }
}
