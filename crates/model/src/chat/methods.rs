//! Methods of Python's strings, lists and maps. Those that the engine's own compatibility layer
//! (`minijinja_contrib::pycompat`) has as Python has them are left to it.

use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::python::is_space;

/// Longest text that padding may make.
const MAX_WIDTH: usize = 10_000;

/// Calls `method` of `value`.
pub(super) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let known = match (value.kind(), value.as_str()) {
        (ValueKind::String, Some(text)) => string(text, method, args)?,
        (ValueKind::Seq, _) => sequence(value, method, args)?,
        (ValueKind::Map, _) if method == "copy" => {
            let () = from_args(args)?;
            Some(value.clone())
        }
        _ => None,
    };
    match known {
        Some(result) => Ok(result),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn string(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<String>,) = from_args(args)?;
            let strips = |c: char| chars.as_ref().map_or_else(|| is_space(c), |chars| chars.contains(c));
            Value::from(match method {
                "strip" => text.trim_matches(strips),
                "lstrip" => text.trim_start_matches(strips),
                _ => text.trim_end_matches(strips),
            })
        }
        "split" | "rsplit" => {
            let (separator, limit, kwargs): (Option<String>, Option<i64>, Kwargs) = from_args(args)?;
            let separator = separator.or(kwargs.get("sep")?);
            let limit = limit.or(kwargs.get("maxsplit")?);
            kwargs.assert_all_used()?;
            let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
            split(text, separator.as_deref(), limit, method == "rsplit")?.into_iter().map(Value::from).collect()
        }
        "splitlines" => {
            let (keep_ends, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
            let keep_ends = keep_ends.or(kwargs.get("keepends")?).unwrap_or(false);
            kwargs.assert_all_used()?;
            lines(text, keep_ends).into_iter().map(Value::from).collect()
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            require(!separator.is_empty(), "empty separator")?;
            let last = method == "rpartition";
            let found = if last { text.rsplit_once(separator) } else { text.split_once(separator) };
            let parts = match found {
                Some((before, after)) => [before, separator, after],
                None if last => ["", "", text],
                None => [text, "", ""],
            };
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        "startswith" | "endswith" => {
            let (affix, start, end): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
            let Some((_, within)) = slice(text, start, end) else { return Ok(Some(Value::from(false))) };
            let matches = |affix: &Value| match affix.as_str() {
                Some(affix) if method == "startswith" => Ok(within.starts_with(affix)),
                Some(affix) => Ok(within.ends_with(affix)),
                None => {
                    Err(Error::new(ErrorKind::InvalidOperation, format!("{method} needs a text or a tuple of them")))
                }
            };
            let mut found = false;
            if affix.downcast_object_ref::<Tuple>().is_some() {
                for affix in affix.try_iter()? {
                    found |= matches(&affix)?;
                }
            } else {
                found = matches(affix)?;
            }
            Value::from(found)
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let (part, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            let within = slice(text, start, end);
            if method == "count" {
                let count = |within: &str| match part {
                    "" => within.chars().count() + 1,
                    part => within.matches(part).count(),
                };
                return Ok(Some(Value::from(within.map_or(0, |(_, within)| count(within)))));
            }
            let position = within.and_then(|(offset, within)| {
                let at = if method.starts_with('r') { within.rfind(part) } else { within.find(part) };
                at.map(|at| offset + within[..at].chars().count())
            });
            match position {
                Some(position) => Value::from(position),
                None if method.ends_with("find") => Value::from(-1),
                None => return Err(Error::new(ErrorKind::InvalidOperation, "substring not found")),
            }
        }
        "removeprefix" | "removesuffix" => {
            let (affix,): (&str,) = from_args(args)?;
            let removed = match method {
                "removeprefix" => text.strip_prefix(affix),
                _ => text.strip_suffix(affix),
            };
            Value::from(removed.unwrap_or(text))
        }
        "title" => {
            let () = from_args(args)?;
            let mut inside = false;
            let mut title = String::with_capacity(text.len());
            for c in text.chars() {
                match inside {
                    true => title.extend(c.to_lowercase()),
                    false => title.extend(c.to_uppercase()),
                }
                // Every letter after something that has no case begins a word.
                inside = c.is_lowercase() || c.is_uppercase();
            }
            Value::from(title)
        }
        "swapcase" => {
            let () = from_args(args)?;
            let mut swapped = String::with_capacity(text.len());
            for c in text.chars() {
                match c.is_uppercase() {
                    true => swapped.extend(c.to_lowercase()),
                    false => swapped.extend(c.to_uppercase()),
                }
            }
            Value::from(swapped)
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            require(width <= MAX_WIDTH, "too wide")?;
            let missing = width.saturating_sub(text.chars().count());
            let fill = if method == "zfill" { '0' } else { fill.unwrap_or(' ') };
            let before = match method {
                "ljust" => 0,
                // Where one side gets more, it is the left one for odd widths.
                "center" => missing / 2 + (missing & width & 1),
                _ => missing,
            };
            let padding = |count| std::iter::repeat_n(fill, count);
            let sign = text.len() - text.trim_start_matches(['+', '-']).len();
            let (sign, rest) = text.split_at(if method == "zfill" { sign.min(1) } else { 0 });
            let padded = sign.chars().chain(padding(before)).chain(rest.chars()).chain(padding(missing - before));
            Value::from(padded.collect::<String>())
        }
        _ => return Ok(None),
    }))
}

fn sequence(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "copy" => {
            let () = from_args(args)?;
            Ok(Some(value.clone()))
        }
        "index" => {
            let (searched,): (&Value,) = from_args(args)?;
            let position = value.try_iter()?.position(|item| item == *searched);
            position
                .map(|at| Some(Value::from(at)))
                .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "the list does not hold what is searched"))
        }
        _ => Ok(None),
    }
}

fn require(condition: bool, otherwise: &'static str) -> Result<(), Error> {
    if condition { Ok(()) } else { Err(Error::new(ErrorKind::InvalidOperation, otherwise)) }
}

/// `text[start:end]`, with the number of characters before it; none where it begins behind the end.
fn slice(text: &str, start: Option<i64>, end: Option<i64>) -> Option<(usize, &str)> {
    if start.is_none() && end.is_none() {
        return Some((0, text));
    }
    let length = text.chars().count();
    let position = |index: i64| match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => length.saturating_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    let (start, end) = (position(start.unwrap_or(0)), end.map_or(length, position).min(length));
    if start > end {
        return None;
    }
    let byte = |position: usize| text.char_indices().nth(position).map_or(text.len(), |(at, _)| at);
    Some((start, &text[byte(start)..byte(end)]))
}

/// `str.split`, or `str.rsplit` where it is `reversed`, with at most `limit` cuts.
fn split<'a>(text: &'a str, separator: Option<&str>, limit: usize, reversed: bool) -> Result<Vec<&'a str>, Error> {
    let pieces = limit.saturating_add(1);
    if let Some(separator) = separator {
        require(!separator.is_empty(), "empty separator")?;
        if !reversed {
            return Ok(text.splitn(pieces, separator).collect());
        }
        let mut parts: Vec<_> = text.rsplitn(pieces, separator).collect();
        parts.reverse();
        return Ok(parts);
    }
    let (mut parts, mut rest) = (Vec::new(), text.trim_matches(is_space));
    while !rest.is_empty() {
        let cut = if reversed { rest.rfind(is_space) } else { rest.find(is_space) };
        match cut.filter(|_| parts.len() < limit) {
            Some(at) if reversed => {
                parts.push(rest[at..].trim_start_matches(is_space));
                rest = rest[..at].trim_end_matches(is_space);
            }
            Some(at) => {
                parts.push(&rest[..at]);
                rest = rest[at..].trim_start_matches(is_space);
            }
            None => {
                // The rest keeps the white space at its outer end.
                let whole = match (parts.is_empty(), reversed) {
                    (true, false) => text.trim_start_matches(is_space),
                    (true, true) => text.trim_end_matches(is_space),
                    _ => rest,
                };
                parts.push(if limit == 0 { whole } else { rest });
                break;
            }
        }
    }
    if reversed {
        parts.reverse();
    }
    Ok(parts)
}

/// The lines of `text`, which end where Python's do.
fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let ends = |c| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let (mut lines, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = rest.find(ends).unwrap_or(rest.len());
        let marker = match &rest[end..] {
            marker if marker.starts_with("\r\n") => 2,
            marker => marker.chars().next().map_or(0, char::len_utf8),
        };
        lines.push(&rest[..if keep_ends { end + marker } else { end }]);
        rest = &rest[end + marker..];
    }
    lines
}
