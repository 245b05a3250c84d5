//! The `regex` filter of lm-evaluation-harness (`lm_eval/filters/extraction.py`, 0.4.13), followed by
//! its `take_first`: one string out of one response.

use lopper_record::Fault;

use super::pattern::Pattern;

/// Stands for an answer that was not found.
const FALLBACK: &str = "[invalid]";

/// Finds a pattern in a response. Of all matches `group_select` picks one, from the end if it is
/// negative; of a match with groups, the first that is not empty counts.
#[derive(Debug, Clone)]
pub struct RegexFilter {
    pattern: Pattern,
    group_select: isize,
    fallback: String,
}

impl RegexFilter {
    /// A filter with a pattern of Python's `re`.
    ///
    /// # Errors
    /// A [`Fault`] if the pattern is none.
    pub fn new(pattern: &str, group_select: isize, fallback: Option<&str>) -> Result<Self, Fault> {
        let fallback = fallback.unwrap_or(FALLBACK).to_owned();
        Ok(Self { pattern: Pattern::new(pattern)?, group_select, fallback })
    }

    /// What stands for an answer that was not found.
    pub fn fallback(&self) -> &str {
        &self.fallback
    }

    /// GSM8K's `strict-match`: the number after `####`.
    ///
    /// # Errors
    /// None in practice; those of [`RegexFilter::new`].
    pub fn gsm8k_strict() -> Result<Self, Fault> {
        Self::new(r"#### (\-?[0-9\.\,]+)", 0, None)
    }

    /// GSM8K's `flexible-extract`: the last number.
    ///
    /// # Errors
    /// None in practice; those of [`RegexFilter::new`].
    pub fn gsm8k_flexible() -> Result<Self, Fault> {
        Self::new(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1, None)
    }

    /// What the filter returns for a response. Where `group_select` picks a match that is not there,
    /// which stops lm-evaluation-harness with an error, this is the fallback.
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
        // Python counts four separators among white space that Unicode does not.
        Ok(chosen.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)).to_owned())
    }
}
