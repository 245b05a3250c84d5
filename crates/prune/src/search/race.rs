//! Racing: candidates that cannot win any more are not asked further items.

use serde::{Deserialize, Serialize};

use super::{ItemScores, mean, objective};

/// How a race goes.
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
    pub(super) fn survivors(self, running: &[usize], scores: &[ItemScores], base: &ItemScores) -> (Vec<usize>, bool) {
        let value = |at: usize| objective(&scores[at], base);
        let Some(leader) = running.iter().copied().max_by(|a, b| value(*a).total_cmp(&value(*b)).then(a.cmp(b))) else {
            return (vec![], true);
        };
        let (mut left, mut tied) = (vec![], true);
        for &at in running {
            let (difference, error) = difference(&scores[leader], &scores[at], base);
            if at == leader || difference <= self.errors * error {
                left.push(at);
                tied &= at == leader || difference + 2.0 * error <= self.indifference;
            }
        }
        (left, tied)
    }
}

/// By how much `a` is ahead of `b` in the objective, over the items both were asked, and the standard
/// error of that: differences are paired item by item within each task.
pub(super) fn difference(a: &ItemScores, b: &ItemScores, base: &ItemScores) -> (f64, f64) {
    let (mut differences, mut variance) = (Vec::new(), 0.0);
    for ((a, b), base) in a.iter().zip(b).zip(base) {
        let base = mean(base);
        let pairs: Vec<f64> = a.iter().zip(b).map(|(a, b)| (a - b) / base).collect();
        if base <= 0.0 || pairs.is_empty() {
            continue;
        }
        let n = pairs.len() as f64;
        let center = mean(&pairs);
        // A sample in which nothing differs does not prove that nothing ever does: one item that
        // differs is added to every sample.
        let squares: f64 = pairs.iter().map(|x| (x - center).powi(2)).sum::<f64>() + 1.0;
        differences.push(center);
        variance += squares / n / (n + 1.0);
    }
    let tasks = differences.len().max(1) as f64;
    (mean(&differences), variance.sqrt() / tasks)
}
