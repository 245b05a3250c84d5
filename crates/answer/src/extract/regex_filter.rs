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
        Ok(trimmed(selected(&found, self.group_select).unwrap_or(&self.fallback)).to_owned())
    }
}

/// The text of the match that `group_select` picks: of several groups the first that is not empty, one group (or none)
/// as it is. None where that match does not exist, or all of its groups are empty.
pub(super) fn selected<'t>(found: &[Vec<&'t str>], group_select: isize) -> Option<&'t str> {
    let index = match usize::try_from(group_select) {
        Ok(index) => index,
        Err(_) => found.len().checked_sub(group_select.unsigned_abs())?,
    };
    match found.get(index)?[..] {
        [only] => Some(only),
        ref groups => groups.iter().find(|group| !group.is_empty()).copied(),
    }
}

/// Whether Python counts a character as white space: four separators more than Unicode.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// What Python's `strip` leaves.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(is_space)
}
