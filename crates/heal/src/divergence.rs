//! Training that diverges though its loss stays finite.
//!
//! A run has diverged where every one of its last steps, a given number, had a loss above the first step's, and their
//! mean is above it by more than three of their standard deviations. The first step's loss is taken before any update,
//! and it is one draw: the margin keeps a loss that has merely not fallen yet (a warm-up, a small learning rate) from
//! counting. Not recognised: a loss that rises and falls again within the span; that is what evaluations are for.

use serde::{Deserialize, Serialize};

/// Steps above the start after which `lopper heal` stops, unless it is given another number.
pub const DIVERGENCE_STEPS: usize = 20;
/// Standard deviations that the mean has to be above the start.
const MARGIN: f64 = 3.0;

/// Where a training diverged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Divergence {
    /// The first step (from 1) from which on the loss stayed above the start.
    pub step: usize,
    /// The step after which it was recognised.
    pub noticed: usize,
    /// Loss of the first step.
    pub start: f64,
    /// Mean loss from `step` on; not a number where the loss or the gradient was not.
    #[serde(with = "lopper_record::finite")]
    pub loss: f64,
    /// The documents of the batch whose update raised the loss, that of the step before `step`; of `step` itself where
    /// the loss or the gradient was no number. As [`Run::rows`](crate::Run::rows) calls them.
    pub documents: Vec<usize>,
}

/// The step (from 1) from which on `losses`, those of all steps so far, have stayed above the first one's, and the mean
/// since, if that is a divergence by the rule above. `span` is the number of steps; 0 finds none.
pub(crate) fn found(losses: &[f64], span: usize) -> Option<(usize, f64)> {
    let start = *losses.first()?;
    let above = losses.iter().rev().take_while(|loss| **loss > start).count();
    if span == 0 || above < span {
        return None;
    }
    let last = &losses[losses.len() - span..];
    let mean = last.iter().sum::<f64>() / span as f64;
    let variance = last.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / span as f64;
    let since = &losses[losses.len() - above..];
    (mean - start > MARGIN * variance.sqrt())
        .then(|| (losses.len() - above + 1, since.iter().sum::<f64>() / above as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_stays_above_its_start_has_diverged() {
        let mut losses = vec![3.0, 2.9, 2.8, 2.7];
        losses.extend([7.5, 8.0, 7.9, 8.1, 7.8]);
        assert_eq!(found(&losses, 5).map(|(step, _)| step), Some(5));
        assert!((found(&losses, 5).unwrap().1 - 7.86).abs() < 1e-9);
        assert_eq!(found(&losses, 6), None, "not for so long");
        assert_eq!(found(&losses, 0), None);
        losses.push(2.6);
        assert_eq!(found(&losses, 5), None, "it came back");
        assert_eq!(found(&[], 5), None);
    }

    #[test]
    fn a_loss_that_has_not_fallen_yet_has_not_diverged() {
        // The first batch happened to be an easy one.
        let flat: Vec<f64> = (0..60).map(|i| if i == 0 { 2.8 } else { 3.0 + 0.1 * f64::from(i * 7 % 5 - 2) }).collect();
        assert_eq!(found(&flat, 20), None);
        let risen: Vec<f64> = flat.iter().enumerate().map(|(i, loss)| if i > 0 { loss + 1.0 } else { *loss }).collect();
        assert!(found(&risen, 20).is_some());
    }
}
