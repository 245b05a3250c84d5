//! `exact_match` of lm-evaluation-harness (`lm_eval/api/metrics.py`, 0.4.13).

use lopper_record::Fault;
use serde::{Deserialize, Serialize};

use super::pattern::Pattern;

/// What is ignored, as a task's `metric_list` says.
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

/// Compares a prediction with a reference after both were simplified.
#[derive(Debug, Clone)]
pub struct ExactMatch {
    ignored: Vec<Pattern>,
    settings: ExactMatchSettings,
}

impl ExactMatch {
    /// A comparison with these settings.
    ///
    /// # Errors
    /// A [`Fault`] if a pattern is none.
    pub fn new(settings: ExactMatchSettings) -> Result<Self, Fault> {
        let ignored = settings.regexes_to_ignore.iter().map(|source| Pattern::new(source)).collect::<Result<_, _>>()?;
        Ok(Self { ignored, settings })
    }

    /// GSM8K's settings: commas, dollar signs, all up to `#### ` and a full stop at the end are ignored.
    ///
    /// # Errors
    /// None in practice; those of [`ExactMatch::new`].
    pub fn gsm8k() -> Result<Self, Fault> {
        let regexes_to_ignore = [",", r"\$", "(?s).*#### ", r"\.$"].map(str::to_owned).to_vec();
        Self::new(ExactMatchSettings { regexes_to_ignore, ignore_case: true, ..Default::default() })
    }

    /// Whether the two are equal.
    ///
    /// # Errors
    /// A [`Fault`] if matching takes more steps than allowed.
    pub fn is_match(&self, prediction: &str, reference: &str) -> Result<bool, Fault> {
        Ok(self.simplified(prediction)? == self.simplified(reference)?)
    }

    fn simplified(&self, text: &str) -> Result<String, Fault> {
        let mut text = text.to_owned();
        for pattern in &self.ignored {
            text = pattern.removed(&text)?;
        }
        if self.settings.ignore_case {
            text = text.to_lowercase();
        }
        if self.settings.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        if self.settings.ignore_numbers {
            text.retain(|c| !c.is_ascii_digit());
        }
        // numpy's strings, in which lm-evaluation-harness compares, do not keep NULs at the end.
        text.truncate(text.trim_end_matches('\0').len());
        Ok(text)
    }
}
