//! Reading a number from free text.

/// The last whole number of a text: digits with an optional sign and thousands separators. A
/// decimal counts when nothing but zeros follows its point; a last number that is not whole, or does
/// not fit, gives none.
///
/// This is the flexible reading of lm-evaluation-harness's GSM8K, except that `7-3` ends in 3, not
/// in −3, and that `4.00` is 4.
pub fn last_number(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let end = bytes.iter().rposition(u8::is_ascii_digit)? + 1;
    let inner = |c: u8| c.is_ascii_digit() || c == b',' || c == b'.';
    let mut start = end;
    while start > 0 && inner(bytes[start - 1]) {
        start -= 1;
    }
    // A comma or a full stop that no digit precedes belongs to the text before.
    start += bytes[start..end].iter().position(u8::is_ascii_digit)?;
    // A sign, also the typographic one, unless it follows an operand.
    let before = text.get(..start)?;
    let negative = before
        .strip_suffix(['-', '−'])
        .is_some_and(|before| !before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == ')'));
    let number = text.get(start..end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.bytes().any(|c| c != b'0') {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    format!("{sign}{}", whole.replace(',', "")).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_is_read_as_people_write_it() {
        let cases = [
            ("2 + 2 = 4", Some(4)),
            ("The answer is 1,234.", Some(1234)),
            ("It is -12!", Some(-12)),
            ("-7", Some(-7)),
            ("#### −7", Some(-7)),
            ("9−7", Some(7)),
            ("7-3", Some(3)),
            ("(1+2)-3", Some(3)),
            ("$4.00", Some(4)),
            ("about 4.5", None),
            ("1.2.3", None),
            ("so, .5", Some(5)),
            ("é9é", Some(9)),
            ("no number", None),
            ("", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(last_number(text), expected, "{text:?}");
        }
    }
}
