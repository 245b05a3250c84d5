//! The loss on documents that are not trained on, before and after a training.

use crate::trainer::Document;
use lopper_infer::Engine;
use lopper_model::Model;
use lopper_record::{Progress, Result};
use serde::{Deserialize, Serialize};

/// Mean loss on held-out documents, in nats per token in the loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldOutLoss {
    /// Documents.
    pub documents: usize,
    /// Tokens the loss is a mean over.
    pub tokens: u64,
    /// Before the training.
    pub first: f64,
    /// After it.
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
