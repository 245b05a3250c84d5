//! What the sentinels show of one model in full, for its diagnosis: abilities that its tasks do not measure.
//!
//! Tasks measure more items than sentinels do, so a figure comes from the tasks where they have it. Which figures they
//! lack is decided once, by the uncut model, so that a cut is always compared with the same items.

use lopper_record::study::{Arithmetic, Brackets, Degeneration, Diagnosis, Mean, Reasoning, SentinelReading};
use serde::{Deserialize, Serialize};

use crate::arithmetic::{DigitLogprobs, summarize};
use crate::probe_set::ProbeResults;

/// Mean words of a response below which the tasks' responses are no text that can degenerate: there are hardly any
/// 4-grams in them to repeat.
const SHORT_RESPONSE: f64 = 20.0;

/// The figures of one model's sentinels; absent where a probe measured nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SentinelProbes {
    /// The digits' log-probabilities of each arithmetic item.
    pub digits: Vec<DigitLogprobs>,
    /// The arithmetic probe, without the change against the uncut model.
    pub arithmetic: Option<Arithmetic>,
    /// The bracket probe.
    pub brackets: Option<Brackets>,
    /// Short responses to open prompts.
    pub text: Option<Degeneration>,
    /// What was thought before them.
    pub reasoning: Option<Reasoning>,
    /// Perplexity on held-out text.
    pub perplexity: Option<Mean>,
}

impl SentinelProbes {
    /// Perplexity on held-out text.
    pub fn perplexity(&self) -> Option<f64> {
        self.perplexity.map(|mean| mean.value)
    }

    /// Its 95 % interval, from the texts.
    pub fn perplexity_ci95(&self) -> Option<[f64; 2]> {
        self.perplexity.and_then(|mean| mean.ci95)
    }

    /// The figures that cuts are stopped by.
    pub fn reading(&self) -> SentinelReading {
        let thoughts = || self.reasoning.as_ref().and_then(|figures| figures.text.rep_4);
        SentinelReading {
            arithmetic: self.arithmetic.as_ref().and_then(|figures| figures.accuracy).map(|mean| mean.value),
            brackets: self.brackets.as_ref().and_then(|figures| figures.balanced).map(|mean| mean.value),
            // So few tokens are often all thought.
            rep_4: self.text.as_ref().and_then(|figures| figures.rep_4).or_else(thoughts).map(|mean| mean.value),
            perplexity: self.perplexity(),
            perplexity_ci95: self.perplexity_ci95(),
        }
    }
}

impl From<ProbeResults> for SentinelProbes {
    fn from(results: ProbeResults) -> Self {
        let (digits, arithmetic) = results.digits.unzip();
        let count = results.brackets.as_ref().and_then(|figures| figures.balanced).map_or(0, |mean| mean.n);
        let source = |what: &str, count: usize| format!("sentinels: {count} {what}");
        let brackets = results.brackets.map(|figures| Brackets { source: source("bracket items", count), ..figures });
        let text = results
            .degeneration
            .map(|figures| Degeneration { source: source("open prompts", figures.responses), ..figures });
        Self {
            digits: digits.unwrap_or_default(),
            arithmetic,
            brackets,
            text,
            reasoning: results.reasoning,
            perplexity: results.perplexity,
        }
    }
}

/// Which figures of a diagnosis come from the sentinels, because the tasks do not measure them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProbeGaps {
    arithmetic: bool,
    brackets: bool,
    text: bool,
}

impl ProbeGaps {
    /// What the uncut model's tasks do not measure.
    pub fn of(uncut: &Diagnosis) -> Self {
        let short = |figures: &Degeneration| figures.words.is_none_or(|words| words.value < SHORT_RESPONSE);
        Self {
            arithmetic: uncut.arithmetic.is_none(),
            brackets: uncut.brackets.is_none(),
            text: uncut.degeneration.as_ref().is_none_or(short),
        }
    }

    /// Puts those figures into the diagnosis of the model with the sentinels `own`; `uncut` are the uncut model's
    /// sentinels, if that is another one. The perplexity is always the sentinels'.
    pub fn fill(self, diagnosis: &mut Diagnosis, own: &SentinelProbes, uncut: Option<&SentinelProbes>) {
        (diagnosis.perplexity, diagnosis.perplexity_ci95) = (own.perplexity(), own.perplexity_ci95());
        if self.arithmetic {
            let before = uncut.map(|uncut| uncut.digits.as_slice());
            let change = summarize(&own.digits, before).logprob_change;
            diagnosis.arithmetic =
                own.arithmetic.clone().map(|figures| Arithmetic { logprob_change: change, ..figures });
        }
        if self.brackets {
            diagnosis.brackets.clone_from(&own.brackets);
        }
        if self.text {
            diagnosis.degeneration.clone_from(&own.text);
            diagnosis.reasoning = own.reasoning.clone().or(diagnosis.reasoning.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes(right: usize) -> SentinelProbes {
        let mut logprobs = [-9.0; 10];
        logprobs[3] = -1.0;
        let digits = vec![DigitLogprobs { logprobs, right }];
        SentinelProbes {
            arithmetic: Some(summarize(&digits, None)),
            digits,
            brackets: Some(Brackets { balanced: Some(mean(0.5)), ..Brackets::default() }),
            text: Some(Degeneration { responses: 4, rep_4: Some(mean(7.0)), ..Degeneration::default() }),
            reasoning: None,
            perplexity: Some(mean(8.0)),
        }
    }

    fn mean(value: f64) -> Mean {
        Mean { value, ci95: None, n: 4 }
    }

    fn tasks(words: f64) -> Diagnosis {
        let degeneration = Degeneration { responses: 60, words: Some(mean(words)), ..Degeneration::default() };
        Diagnosis { degeneration: Some(degeneration), ..Diagnosis::default() }
    }

    #[test]
    fn what_no_task_measures_comes_from_the_sentinels() {
        let (uncut, cut) = (probes(3), probes(4));
        let gaps = ProbeGaps::of(&tasks(1.0));
        let mut diagnosis = tasks(2.0);
        gaps.fill(&mut diagnosis, &cut, Some(&uncut));
        let arithmetic = diagnosis.arithmetic.unwrap();
        assert_eq!((arithmetic.accuracy.unwrap().value, arithmetic.logprob_change.unwrap().value), (0.0, -8.0));
        assert_eq!((diagnosis.brackets, diagnosis.degeneration), (cut.brackets.clone(), cut.text.clone()));
        assert_eq!(diagnosis.perplexity, Some(8.0));
        assert_eq!(cut.reading().arithmetic, Some(0.0));
        assert_eq!((cut.reading().brackets, cut.reading().rep_4), (Some(0.5), Some(7.0)));

        let mut whole = tasks(2.0);
        gaps.fill(&mut whole, &uncut, None);
        assert_eq!(whole.arithmetic.unwrap().logprob_change, None, "the uncut model is not compared with itself");
    }

    #[test]
    fn what_tasks_measure_stays_theirs_also_where_a_cut_writes_less() {
        let measured = Diagnosis {
            arithmetic: Some(Arithmetic { source: "pocket_arith".into(), ..Arithmetic::default() }),
            brackets: Some(Brackets::default()),
            ..tasks(40.0)
        };
        let gaps = ProbeGaps::of(&measured);
        assert_eq!(gaps, ProbeGaps::default());
        let mut cut = Diagnosis { degeneration: tasks(1.0).degeneration, ..measured };
        let before = cut.clone();
        gaps.fill(&mut cut, &probes(4), Some(&probes(3)));
        assert_eq!(cut, Diagnosis { perplexity: Some(8.0), ..before });
    }
}
