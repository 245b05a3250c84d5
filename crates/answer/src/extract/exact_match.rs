//! `exact_match` of lm-evaluation-harness (`lm_eval/api/metrics.py`, 0.4.13).

use lopper_record::Fault;
use serde::{Deserialize, Serialize};

use super::pattern::Pattern;

/// What the comparison ignores, as in a task's `metric_list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExactMatchSettings {
    /// Patterns whose matches are removed from both sides, one after the other.
    pub regexes_to_ignore: Vec<String>,
    /// Compare in lower case.
    pub ignore_case: bool,
    /// Remove ASCII punctuation.
    pub ignore_punctuation: bool,
    /// Remove ASCII digits.
    pub ignore_numbers: bool,
}

/// What both filters with these settings ignore in the same way: patterns and case.
#[derive(Debug, Clone)]
pub(super) struct Ignored {
    patterns: Vec<Pattern>,
    case: bool,
}

impl Ignored {
    pub fn new(settings: &ExactMatchSettings) -> Result<Self, Fault> {
        let patterns =
            settings.regexes_to_ignore.iter().map(|source| Pattern::new(source)).collect::<Result<_, _>>()?;
        Ok(Self { patterns, case: settings.ignore_case })
    }

    pub fn removed(&self, text: &str) -> Result<String, Fault> {
        let mut text = text.to_owned();
        for pattern in &self.patterns {
            text = pattern.removed(&text)?;
        }
        Ok(if self.case { text.to_lowercase() } else { text })
    }
}

/// Compares a prediction with a reference after removing from both what is ignored.
#[derive(Debug, Clone)]
pub struct ExactMatch {
    ignored: Ignored,
    settings: ExactMatchSettings,
}

impl ExactMatch {
    /// A comparison with these settings.
    ///
    /// # Errors
    /// A [`Fault`] if a pattern is not valid.
    pub fn new(settings: ExactMatchSettings) -> Result<Self, Fault> {
        Ok(Self { ignored: Ignored::new(&settings)?, settings })
    }

    /// Whether the two are equal.
    ///
    /// # Errors
    /// A [`Fault`] if matching takes more steps than allowed.
    pub fn is_match(&self, prediction: &str, reference: &str) -> Result<bool, Fault> {
        Ok(self.simplified(prediction)? == self.simplified(reference)?)
    }

    fn simplified(&self, text: &str) -> Result<String, Fault> {
        let mut text = self.ignored.removed(text)?;
        if self.settings.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        if self.settings.ignore_numbers {
            text.retain(|c| !c.is_ascii_digit());
        }
        // lm-evaluation-harness compares numpy strings, which drop NULs at the end.
        text.truncate(text.trim_end_matches('\0').len());
        Ok(text)
    }
}
