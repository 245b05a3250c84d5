//! Racing: candidates that cannot win any more are not evaluated on further items.

use lopper_measure::{ItemScores, Objective};
use serde::{Deserialize, Serialize};

/// When candidates are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Racing {
    /// Items of each task in the first sample; each further sample is as large as all before it.
    pub first: usize,
    /// Standard errors of the paired difference by which a candidate must be behind to be dropped.
    pub errors: f64,
    /// Differences of the objective below this do not matter: the race ends when no candidate that is
    /// left can be, by two standard errors, further behind than this.
    pub indifference: f64,
}

impl Default for Racing {
    /// Samples of 16, 32, 64, … items; dropped at 2.5 standard errors, which a candidate that is as
    /// good as the leader reaches in about one comparison of 160; two points of a hundred count as none.
    fn default() -> Self {
        Self { first: 16, errors: 2.5, indifference: 0.02 }
    }
}

impl Racing {
    /// Where the sample after the first `done` items ends.
    pub(super) fn next(self, done: usize) -> usize {
        if done == 0 { self.first.max(1) } else { done * 2 }
    }

    /// The candidates that may still win, and whether what is between them does not matter.
    pub(super) fn survivors(
        self,
        running: &[usize],
        scores: &[ItemScores],
        objective: &Objective,
    ) -> (Vec<usize>, bool) {
        let value = |at: usize| objective.value(&scores[at]);
        let Some(leader) = running.iter().copied().max_by(|a, b| value(*a).total_cmp(&value(*b)).then(a.cmp(b))) else {
            return (vec![], true);
        };
        let (mut left, mut tied) = (vec![], true);
        for &at in running {
            let (difference, error) = objective.difference(&scores[leader], &scores[at]);
            if at == leader || difference <= self.errors * error {
                left.push(at);
                tied &= at == leader || difference + 2.0 * error <= self.indifference;
            }
        }
        (left, tied)
    }
}
