//! JSON as programs write it: what the standard says, and `NaN`, `Infinity` and `-Infinity` as Python's `json` writes
//! numbers that are none, read as `null`.

use serde_json::Value;

const NOT_NUMBERS: [&str; 3] = ["NaN", "-Infinity", "Infinity"];

/// The value that `text` holds.
pub(crate) fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(text).or_else(|error| match without_not_numbers(text) {
        Some(text) => serde_json::from_slice(&text),
        None => Err(error),
    })
}

/// `text` with `null` for every value that is no number, if there is one.
fn without_not_numbers(text: &[u8]) -> Option<Vec<u8>> {
    let (mut output, mut rest, mut quoted, mut found) = (Vec::with_capacity(text.len()), text, false, false);
    while let [first, after @ ..] = rest {
        let name = NOT_NUMBERS.iter().find(|name| !quoted && rest.starts_with(name.as_bytes()));
        if let Some(name) = name {
            output.extend_from_slice(b"null");
            (rest, found) = (&rest[name.len()..], true);
            continue;
        }
        output.push(*first);
        rest = after;
        match first {
            b'"' => quoted = !quoted,
            b'\\' if quoted => {
                output.extend(after.first());
                rest = after.get(1..).unwrap_or_default();
            }
            _ => {}
        }
    }
    found.then_some(output)
}

/// Follows the nesting of a JSON text byte by byte, without reading what it says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Nesting {
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl Nesting {
    pub fn take(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = self.quoted,
            b'"' => self.quoted = !self.quoted,
            _ if self.quoted => {}
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    pub fn take_all(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.take(*byte));
    }

    /// Whether no text, list or object is open.
    pub fn is_closed(&self) -> bool {
        self.depth == 0 && !self.quoted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_python_writes_for_no_number_is_null() {
        let text = r#"{"a": NaN, "b": [Infinity, -Infinity, 1], "c": "NaN \" NaN"}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), json!({"a": null, "b": [null, null, 1], "c": "NaN \" NaN"}));
        for wrong in ["{\"a\": Nan}", "NaN1", "\"NaN", "{\"a\": \"x\\"] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nesting_is_followed_through_texts() {
        for (text, closed) in
            [("{\"}\\\"\": [", false), ("{\"}\\\"\": [1]}", true), ("\"\\\\\"", true), ("\"\\\"", false)]
        {
            let mut nesting = Nesting::default();
            nesting.take_all(text.as_bytes());
            assert_eq!(nesting.is_closed(), closed, "{text}");
        }
    }
}
