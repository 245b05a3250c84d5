//! Regular expressions with the meaning of Python's `re`, which task files of lm-evaluation-harness use.
//!
//! fancy-regex reads the same syntax, look-around and back-references included; what differs and occurs in such files
//! is translated: `$` also matches before a line feed at the end, and `\Z` is the very end. A pattern without
//! look-around runs in linear time; one with it fails after a limited number of steps.

use fancy_regex::{Captures, Regex};
use lopper_record::Fault;

/// A pattern, compiled.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
    source: String,
}

impl Pattern {
    /// Compiles a pattern in the syntax of Python's `re`.
    ///
    /// # Errors
    /// A [`Fault`] if it is not valid.
    pub fn new(source: &str) -> Result<Self, Fault> {
        let regex = Regex::new(&translated(source)).map_err(|error| {
            Fault::new("the regular expression is not valid")
                .expected("a pattern as Python's `re` reads it")
                .got(format!("`{source}`: {error}"))
        })?;
        Ok(Self { regex, source: source.to_owned() })
    }

    /// The result of `re.findall`: for each match its groups, or the whole match if the pattern has none. A group that
    /// did not take part in the match is empty.
    ///
    /// # Errors
    /// A [`Fault`] if matching takes more steps than allowed.
    pub fn find_all<'t>(&self, text: &'t str) -> Result<Vec<Vec<&'t str>>, Fault> {
        let mut found = Vec::new();
        let mut at = 0;
        while at <= text.len() {
            let Some(captures) = self.regex.captures_from_pos(text, at).map_err(|_| self.too_slow())? else { break };
            let Some(whole) = captures.get(0) else { break };
            found.push(groups(&captures));
            // After an empty match the search goes on one character further.
            at = if whole.end() > whole.start() { whole.end() } else { next(text, whole.end()) };
        }
        Ok(found)
    }

    /// `text` with all matches removed, as `re.sub` with an empty replacement.
    ///
    /// # Errors
    /// A [`Fault`] if matching takes more steps than allowed.
    pub fn removed(&self, text: &str) -> Result<String, Fault> {
        self.replaced(text, "")
    }

    /// `text` with all matches replaced by `with`, in which groups cannot be named.
    ///
    /// # Errors
    /// A [`Fault`] if matching takes more steps than allowed.
    pub fn replaced(&self, text: &str, with: &str) -> Result<String, Fault> {
        let kept = self.regex.try_replacen(text, 0, fancy_regex::NoExpand(with)).map_err(|_| self.too_slow())?;
        Ok(kept.into_owned())
    }

    fn too_slow(&self) -> Fault {
        Fault::new("a regular expression takes too long on a response")
            .got(format!("`{}`", self.source))
            .hint("write it without nested repetition or look-around")
    }
}

fn groups<'t>(captures: &Captures<'t>) -> Vec<&'t str> {
    let from = usize::from(captures.len() > 1);
    (from..captures.len()).map(|i| captures.get(i).map_or("", |group| group.as_str())).collect()
}

fn next(text: &str, at: usize) -> usize {
    at + text[at..].chars().next().map_or(1, char::len_utf8)
}

/// The pattern with `$` outside brackets as in Python, unless its flags switch to multi-line mode, and with `\Z`.
fn translated(source: &str) -> String {
    let by_line = source.starts_with("(?") && source.find(')').is_some_and(|end| source[..end].contains('m'));
    let mut out = String::with_capacity(source.len() + 8);
    let mut class = false;
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('Z') if !class => out.push_str("\\z"),
                Some(escaped) => out.extend(['\\', escaped]),
                None => out.push('\\'),
            },
            '[' => {
                // An opening bracket inside a class is itself.
                out.push_str(if class { "\\[" } else { "[" });
                class = true;
            }
            ']' => {
                class = false;
                out.push(c);
            }
            '$' if !class && !by_line => out.push_str("(?=\\n?\\z)"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_python() {
        let find = |pattern: &str, text: &str| -> Vec<Vec<String>> {
            let found = Pattern::new(pattern).unwrap();
            let found = found.find_all(text).unwrap();
            found.into_iter().map(|groups| groups.into_iter().map(str::to_owned).collect()).collect()
        };
        assert_eq!(find("a|(b)", "ab"), [[""], ["b"]]);
        assert_eq!(find(r"\d", "1é2"), [["1"], ["2"]]);
        assert_eq!(find(r"x*", "axb"), [[""], ["x"], [""], [""]]);
        assert_eq!(find(r"[$a]", "$"), [["$"]]);
        assert_eq!(Pattern::new(r"\.$").unwrap().removed("5.\n").unwrap(), "5\n");
        assert_eq!(Pattern::new(r"\.\Z").unwrap().removed("5.\n").unwrap(), "5.\n");
        assert_eq!(Pattern::new(r"(?s).*#### ").unwrap().removed("a\nb #### 7").unwrap(), "7");
        assert!(Pattern::new("(").unwrap_err().got.unwrap().contains("`(`"));
    }

    #[test]
    fn a_pattern_that_explodes_is_a_fault() {
        let pattern = Pattern::new(r"(?=(a|aa)+$)(a|a)*\1b").unwrap();
        assert!(pattern.find_all(&"a".repeat(5000)).is_err());
    }
}
