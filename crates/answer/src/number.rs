//! Reads a written number: digits, thousands separators, a decimal point, repeating digits, a power of ten.
//!
//! `1,234` is one number outside brackets, but two entries in `(1,234)`; `1{,}234`, `1,\!234` and `1\,234` are one
//! number everywhere. `1e3` and `1e-3` are scientific notation; with a space, a brace or a caret, `e` is Euler's
//! number.

use num_bigint::BigInt;
use num_traits::{One, Pow, Zero};

use crate::token::Rational;

/// Most digits of a number.
const MAX_DIGITS: usize = 600;
/// Largest power of ten of `1e…`.
const MAX_EXPONENT: u32 = 400;

/// A number, and the byte at which its text ends.
#[derive(Debug)]
pub(crate) struct Written {
    pub value: Rational,
    /// Digits after the point, if there is one.
    pub places: Option<u32>,
    pub end: usize,
}

/// Separators between groups of three digits, apart from a bare comma.
const GROUPS: [&str; 9] = ["{,}", ",\\!", "\\,", "\\ ", "\\;", "\\:", "~", " ", "\u{202f}"];

/// The number that begins at `start`; none if there is none. `commas`: whether a bare comma may separate thousands.
///
/// # Errors
/// The reason, if the number is too long.
pub(crate) fn read(text: &str, start: usize, commas: bool) -> Result<Option<Written>, &'static str> {
    let bytes = text.as_bytes();
    let first = digits(bytes, start);
    let pointed = bytes.get(first) == Some(&b'.') && (bytes.get(first + 1).is_some_and(u8::is_ascii_digit));
    if first == start && !pointed {
        return Ok(None);
    }
    let mut whole = text[start..first].to_owned();
    let mut end = grouped(text, start, first, commas, &mut whole);
    let mut fraction = String::new();
    let mut places = None;
    let mut repeating = String::new();
    if bytes.get(end) == Some(&b'.') {
        let last = digits(bytes, end + 1);
        let (cycle, after) = cycle(text, last);
        if last > end + 1 || !cycle.is_empty() {
            fraction.push_str(&text[end + 1..last]);
            repeating.push_str(cycle);
            places = cycle.is_empty().then_some((last - end - 1) as u32);
            end = after;
        } else if !bytes.get(end + 1).is_some_and(|next| *next == b'.' || next.is_ascii_alphanumeric()) {
            // A point with nothing after it ends a sentence, or the number.
            end += 1;
        }
    }
    if whole.len() + fraction.len() + repeating.len() > MAX_DIGITS {
        return Err("a number has too many digits");
    }
    let ten = BigInt::from(10);
    let scale: BigInt = Pow::pow(&ten, fraction.len());
    let mut value = Rational::new(integer(&format!("{whole}{fraction}")), scale.clone());
    if !repeating.is_empty() {
        let nines: BigInt = Pow::pow(&ten, repeating.len()) - BigInt::one();
        value += Rational::new(integer(&repeating), nines * scale);
    }
    if let Some((exponent, after)) = exponent(bytes, end) {
        if exponent.unsigned_abs() > MAX_EXPONENT {
            return Err("a power of ten is too large");
        }
        let power: BigInt = Pow::pow(&ten, exponent.unsigned_abs() as usize);
        value = if exponent < 0 { value / power } else { value * power };
        places = None;
        end = after;
    }
    Ok(Some(Written { value, places, end }))
}

fn integer(digits: &str) -> BigInt {
    if digits.is_empty() { BigInt::zero() } else { digits.parse().unwrap_or_default() }
}

/// End of the digits from `start`.
fn digits(bytes: &[u8], start: usize) -> usize {
    bytes[start.min(bytes.len())..].iter().position(|c| !c.is_ascii_digit()).map_or(bytes.len(), |n| start + n)
}

/// Appends the groups of three digits that follow to `whole`, and returns where they end. Either all that is written
/// like a group is one, or nothing is.
fn grouped(text: &str, start: usize, first: usize, commas: bool, whole: &mut String) -> usize {
    if first == start || first - start > 3 || text.as_bytes()[start] == b'0' {
        return first;
    }
    let separators = GROUPS.iter().copied().chain(commas.then_some(","));
    for separator in separators {
        let (mut end, mut groups) = (first, String::new());
        while let Some(rest) = text[end..].strip_prefix(separator) {
            let from = text.len() - rest.len();
            let to = digits(text.as_bytes(), from);
            if to - from != 3 {
                if to > from {
                    groups.clear();
                }
                break;
            }
            groups.push_str(&text[from..to]);
            end = to;
        }
        if !groups.is_empty() {
            whole.push_str(&groups);
            return end;
        }
    }
    first
}

/// The repeating digits under a bar at `at`, and where the bar ends.
fn cycle(text: &str, at: usize) -> (&str, usize) {
    for command in ["\\overline{", "\\bar{", "\\overline ", "\\bar "] {
        let Some(rest) = text[at..].strip_prefix(command) else { continue };
        let from = text.len() - rest.len();
        let to = digits(text.as_bytes(), from);
        if to == from {
            continue;
        }
        if !command.ends_with('{') {
            return (&text[from..from + 1], from + 1);
        }
        if text.as_bytes().get(to) == Some(&b'}') {
            return (&text[from..to], to + 1);
        }
    }
    ("", at)
}

/// `e` or `E`, a sign, digits, and no letter after them.
fn exponent(bytes: &[u8], at: usize) -> Option<(i32, usize)> {
    if !matches!(bytes.get(at)?, b'e' | b'E') {
        return None;
    }
    let signed = matches!(bytes.get(at + 1)?, b'+' | b'-');
    let from = at + 1 + usize::from(signed);
    let to = digits(bytes, from);
    if to == from || bytes.get(to).is_some_and(|next| next.is_ascii_alphabetic() || *next == b'^') {
        return None;
    }
    let value = std::str::from_utf8(&bytes[from..to]).ok()?.parse::<i32>().unwrap_or(i32::MAX);
    Some((if bytes[at + 1] == b'-' { -value } else { value }, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, commas: bool) -> (String, usize) {
        let written = read(text, 0, commas).unwrap().unwrap();
        (written.value.to_string(), written.end)
    }

    #[test]
    fn numbers_are_exact_and_end_where_they_end() {
        for (text, expected, end) in [
            ("12", "12", 2),
            ("1,234", "1234", 5),
            ("1,234,567.5", "2469135/2", 11),
            ("1,23", "1", 1),
            ("1,234,56", "1", 1),
            ("0,234", "0", 1),
            ("1{,}234", "1234", 7),
            ("10,\\!080", "10080", 8),
            ("12 000", "12000", 6),
            ("12\\,000", "12000", 7),
            ("1234 567", "1234", 4),
            (".0000672", "21/312500", 8),
            ("5.", "5", 2),
            ("5.x", "5", 1),
            ("0.\\overline{3}", "1/3", 14),
            ("0.1\\overline{6}", "1/6", 15),
            ("1e3", "1000", 3),
            ("2.5E-3", "1/400", 6),
            ("2e^3", "2", 1),
            ("2e3x", "2", 1),
            ("2e", "2", 1),
        ] {
            assert_eq!(value(text, true), (expected.to_owned(), end), "{text}");
        }
        assert_eq!(value("1,234", false), ("1".to_owned(), 1));
        assert_eq!(value("1{,}234", false), ("1234".to_owned(), 7));
    }

    #[test]
    fn other_text_and_too_long_numbers_are_refused() {
        assert!(read("x", 0, true).unwrap().is_none());
        assert!(read(".", 0, true).unwrap().is_none());
        assert!(read("1e99999", 0, true).is_err());
        assert!(read(&"9".repeat(1000), 0, true).is_err());
    }
}
