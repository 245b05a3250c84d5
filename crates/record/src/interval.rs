//! A number is never stored without its uncertainty: scores and retentions with their intervals.
//! `lopper-stats` computes the intervals.

use serde::{Deserialize, Serialize};

use crate::finite;

/// A score over `n` items, usually a mean in `0..=1`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The score itself; NaN when there is no item.
    #[serde(with = "finite")]
    pub value: f64,
    /// Standard error of the mean; NaN with fewer than two items.
    #[serde(with = "finite")]
    pub stderr: f64,
    /// Two-sided 95 % confidence interval.
    #[serde(with = "finite::pair")]
    pub ci95: [f64; 2],
    /// Number of items.
    pub n: usize,
}

impl Score {
    /// The score of no items: everything undefined.
    pub const UNDEFINED: Self = Self { value: f64::NAN, stderr: f64::NAN, ci95: [f64::NAN; 2], n: 0 };
}

impl Default for Score {
    fn default() -> Self {
        Self::UNDEFINED
    }
}

/// A score divided by the uncut model's score on the same items.
///
/// 1 means that nothing was lost; above 1 the cut model is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Retention {
    /// The ratio.
    #[serde(with = "finite")]
    pub value: f64,
    /// Two-sided 95 % interval, from the items of both models in pairs.
    #[serde(with = "finite::pair")]
    pub ci95: [f64; 2],
    /// One-sided 95 % lower bound, the figure that a depth budget is decided on.
    #[serde(with = "finite")]
    pub lower95: f64,
    /// One-sided 95 % upper bound: below a floor, a depth budget fails there. Absent in records of before.
    #[serde(with = "finite", default = "undefined")]
    pub upper95: f64,
    /// Number of items (of all tasks together for a group).
    pub n: usize,
}

impl Retention {
    /// The uncut model against itself: 1 by definition, without uncertainty.
    pub fn uncut(n: usize) -> Self {
        Self { value: 1.0, ci95: [1.0; 2], lower95: 1.0, upper95: 1.0, n }
    }
}

fn undefined() -> f64 {
    f64::NAN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undefined_numbers_survive_json() {
        let score = Score { value: 0.5, stderr: f64::NAN, ci95: [0.1, f64::INFINITY], n: 1 };
        let text = serde_json::to_string(&score).unwrap();
        assert_eq!(text, r#"{"value":0.5,"stderr":null,"ci95":[0.1,null],"n":1}"#);
        let back: Score = serde_json::from_str(&text).unwrap();
        assert_eq!(back.value, 0.5);
        assert!(back.stderr.is_nan() && back.ci95[1].is_nan());
    }
}
