//! The loss on documents that are not trained on: before and after a training, and at steps in between, so that the
//! best weights are kept and a training that no longer helps ends.

use crate::trainer::Document;
use lopper_infer::Engine;
use lopper_model::Model;
use lopper_record::{Progress, Result};
use serde::{Deserialize, Serialize};

/// When held-out documents are evaluated, and what follows from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluation {
    /// Evaluate after every so many steps, and after the last; 0: only before the training and after it.
    pub every: usize,
    /// Which weights are the result.
    pub keep: Keep,
    /// Stop after so many evaluations in a row that were no better than the best before them; 0: never.
    pub patience: usize,
}

/// Which weights of a training are its result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Those of the evaluation with the lowest loss; the ones before the training if none was better.
    Best,
    /// Those of the last step.
    #[default]
    Last,
}

/// An evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Optimiser steps before it; 0 for the one before the training.
    pub step: usize,
    /// Mean loss, in nats per token in the loss.
    pub loss: f64,
}

impl Evaluation {
    /// Whether there is an evaluation after `step` of `steps`.
    pub(crate) fn is_due(&self, step: usize, steps: usize) -> bool {
        step == steps || self.every > 0 && step.is_multiple_of(self.every)
    }

    /// Whether `evaluations` have been no better for so long that the training ends.
    pub(crate) fn is_exhausted(&self, evaluations: &[Evaluated]) -> bool {
        let Some(at) = best(evaluations) else { return false };
        self.patience > 0 && evaluations.len() - 1 - at >= self.patience
    }
}

/// The index of the lowest loss, the first of them where several are equal.
pub(crate) fn best(evaluations: &[Evaluated]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (index, evaluated) in evaluations.iter().enumerate() {
        if best.map(|best| evaluations[best].loss).is_none_or(|loss| evaluated.loss < loss || loss.is_nan()) {
            best = Some(index);
        }
    }
    best
}

/// Mean loss on held-out documents, in nats per token in the loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldOutLoss {
    /// Documents.
    pub documents: usize,
    /// Tokens the loss is a mean over.
    pub tokens: u64,
    /// Before the training.
    pub first: f64,
    /// After it, of the weights that are its result.
    pub last: f64,
}

/// The weighted mean loss of `model` on `documents`, without dropout, and the tokens that it is a mean over.
///
/// # Errors
/// Those of the engine; [`Interrupted`](lopper_record::Interrupted).
pub(crate) fn mean_loss(
    model: &Model,
    documents: &[Document],
    threads: usize,
    progress: &dyn Progress,
) -> Result<(f64, u64)> {
    let engine = Engine::new(model.clone(), threads)?;
    let sequences: Vec<Vec<u32>> = documents.iter().map(|document| document.tokens.clone()).collect();
    let logprobs = engine.token_logprobs(&engine.all_layers(), &sequences, progress)?;
    let (mut sum, mut total, mut tokens) = (0.0, 0.0, 0);
    for (document, logprobs) in documents.iter().zip(&logprobs) {
        for (weight, logprob) in document.weights.iter().zip(logprobs) {
            let Some(logprob) = logprob.filter(|_| *weight != 0.0) else { continue };
            sum -= f64::from(*weight) * f64::from(logprob);
            total += f64::from(*weight);
            tokens += 1;
        }
    }
    Ok((sum / total, tokens))
}

/// Tokens that [`mean_loss`] is a mean over.
pub(crate) fn counted_tokens(documents: &[Document]) -> u64 {
    let weighted = |d: &Document| d.weights.iter().skip(1).filter(|weight| **weight != 0.0).count() as u64;
    documents.iter().map(weighted).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluations(losses: &[f64]) -> Vec<Evaluated> {
        losses.iter().enumerate().map(|(index, loss)| Evaluated { step: 10 * index, loss: *loss }).collect()
    }

    #[test]
    fn patience_counts_evaluations_since_the_best() {
        let two = Evaluation { every: 10, patience: 2, ..Evaluation::default() };
        let exhausted = |losses: &[f64]| two.is_exhausted(&evaluations(losses));
        assert!(!exhausted(&[]) && !exhausted(&[3.0]) && !exhausted(&[3.0, 2.0, 2.1]));
        assert!(exhausted(&[3.0, 2.0, 2.1, 2.0]), "as good is not better");
        assert!(!exhausted(&[3.0, 2.0, 2.1, 1.9]) && exhausted(&[3.0, 3.1, 3.2]));
        assert!(!Evaluation { patience: 0, ..two }.is_exhausted(&evaluations(&[1.0, 2.0, 3.0, 4.0])));
        assert_eq!(best(&evaluations(&[3.0, 2.0, 2.1, 2.0])), Some(1));
    }

    #[test]
    fn the_last_step_is_always_evaluated() {
        let due = |every, step| Evaluation { every, ..Evaluation::default() }.is_due(step, 25);
        assert_eq!((0..=25).filter(|step| due(10, *step)).collect::<Vec<_>>(), [0, 10, 20, 25]);
        assert_eq!((0..=25).filter(|step| due(0, *step)).collect::<Vec<_>>(), [25]);
    }
}
