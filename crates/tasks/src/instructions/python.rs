//! What Python's texts and its reader of JSON do, where Rust's differ.

/// A white space character of Python's `re`, as a class.
pub(super) const SPACE: &str = r"[\s\x1c-\x1f]";
/// A word's character of Python's `re`: letters and numbers of Unicode without marks, and `_`.
pub(super) const WORD: &str = r"[\p{L}\p{N}_]";

/// Most digits that Python reads as a whole number.
const MOST_DIGITS: usize = 4300;

/// Whether a character is white space: four separators more than in Unicode.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// The text without white space around it.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.isupper`: there is a letter with a case, and all of those are capitals.
pub(super) fn is_upper(text: &str) -> bool {
    let cased = |c: char| c.is_lowercase() || c.is_uppercase() || is_title(c);
    text.chars().any(char::is_uppercase) && text.chars().all(|c| !cased(c) || c.is_uppercase())
}

/// `str.islower`: there is a letter with a case, and all of those are small.
pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && text.chars().all(|c| !c.is_uppercase() && !is_title(c))
}

/// The letters of Unicode that are two, the first of them a capital.
fn is_title(c: char) -> bool {
    matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ' | '\u{1f88}'..='\u{1f8f}' | '\u{1f98}'..='\u{1f9f}' | '\u{1fa8}'..='\u{1faf}'
        | '\u{1fbc}' | '\u{1fcc}' | '\u{1ffc}')
}

/// Whether `json.loads` reads a text: also `NaN` and `Infinity`, and halves of surrogate pairs, but no whole number of
/// more than 4300 digits.
pub(super) fn is_json(text: &str) -> bool {
    let mut reader = Json { bytes: text.as_bytes(), at: 0 };
    reader.document().is_some()
}

struct Json<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Json<'_> {
    fn document(&mut self) -> Option<()> {
        // What is open: a list, or an object.
        let mut open: Vec<bool> = Vec::new();
        loop {
            self.space();
            // A value, or the beginning of one.
            match self.peek()? {
                b'[' => {
                    self.at += 1;
                    self.space();
                    if self.peek()? != b']' {
                        open.push(false);
                        continue;
                    }
                    self.at += 1;
                }
                b'{' => {
                    self.at += 1;
                    self.space();
                    if self.peek()? != b'}' {
                        open.push(true);
                        self.key()?;
                        continue;
                    }
                    self.at += 1;
                }
                _ => self.scalar()?,
            }
            // What follows a value.
            loop {
                self.space();
                let Some(&object) = open.last() else { return (self.at == self.bytes.len()).then_some(()) };
                match (self.peek()?, object) {
                    (b',', _) => {
                        self.at += 1;
                        self.space();
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    (b']', false) | (b'}', true) => {
                        self.at += 1;
                        open.pop();
                    }
                    _ => return None,
                }
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.bytes[self.at..].starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    fn key(&mut self) -> Option<()> {
        self.text()?;
        self.space();
        self.word(":")
    }

    fn scalar(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.text(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'N' => self.word("NaN"),
            b'I' => self.word("Infinity"),
            b'-' if self.bytes[self.at..].starts_with(b"-I") => self.word("-Infinity"),
            _ => self.number(),
        }
    }

    fn text(&mut self) -> Option<()> {
        self.word("\"")?;
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(()),
                b'\\' => {
                    let escaped = self.peek()?;
                    self.at += 1;
                    match escaped {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            let digits = self.bytes.get(self.at..self.at + 4)?;
                            self.at += 4;
                            digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                        }
                        _ => return None,
                    }
                }
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.word("-");
        let whole = self.digits();
        let first = self.at - whole;
        // After a zero the number ends, and what follows is one thing too many.
        if whole == 0 || (whole > 1 && self.bytes[first] == b'0') {
            return None;
        }
        let mut is_whole = true;
        for (mark, signs) in [(&b"."[..], &b""[..]), (&b"eE"[..], &b"+-"[..])] {
            let from = self.at;
            if self.peek().is_some_and(|byte| mark.contains(&byte)) {
                self.at += 1;
                if self.peek().is_some_and(|byte| signs.contains(&byte)) {
                    self.at += 1;
                }
                match self.digits() {
                    0 => self.at = from,
                    _ => is_whole = false,
                }
            }
        }
        (!is_whole || whole <= MOST_DIGITS).then_some(())
    }

    fn digits(&mut self) -> usize {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - from
    }
}
