//! The `regex` filter of lm-evaluation-harness (`lm_eval/filters/extraction.py`, 0.4.13), followed by its `take_first`:
//! one string from one response.

use lopper_record::Fault;

use super::pattern::Pattern;

/// The result where nothing is found.
const FALLBACK: &str = "[invalid]";

/// Finds a pattern in a response. `group_select` picks one of all matches, from the end if it is negative; of a match
/// with groups, the first that is not empty counts.
#[derive(Debug, Clone)]
pub struct RegexFilter {
    pattern: Pattern,
    group_select: isize,
    fallback: String,
}

impl RegexFilter {
    /// A filter with a pattern in the syntax of Python's `re`.
    ///
    /// # Errors
    /// A [`Fault`] if the pattern is not valid.
    pub fn new(pattern: &str, group_select: isize, fallback: Option<&str>) -> Result<Self, Fault> {
        let fallback = fallback.unwrap_or(FALLBACK).to_owned();
        Ok(Self { pattern: Pattern::new(pattern)?, group_select, fallback })
    }

    /// The result where nothing is found.
    pub fn fallback(&self) -> &str {
        &self.fallback
    }

    /// The filter's result for a response. Where `group_select` picks a match that does not exist, for which
    /// lm-evaluation-harness stops with an error, it is the fallback.
    ///
    /// # Errors
    /// A [`Fault`] if matching takes more steps than allowed.
    pub fn apply(&self, response: &str) -> Result<String, Fault> {
        let found = self.pattern.find_all(response)?;
        let index = match usize::try_from(self.group_select) {
            Ok(index) => Some(index),
            Err(_) => found.len().checked_sub(self.group_select.unsigned_abs()),
        };
        let Some(groups) = index.and_then(|index| found.get(index)) else { return Ok(self.fallback.clone()) };
        let chosen = match groups[..] {
            // One group, or none: its text as it is, even if empty.
            [only] => only,
            _ => match groups.iter().find(|group| !group.is_empty()) {
                Some(group) => group,
                None => self.fallback.as_str(),
            },
        };
        // Python's white space includes four separators that Unicode's does not.
        Ok(chosen.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)).to_owned())
    }
}
