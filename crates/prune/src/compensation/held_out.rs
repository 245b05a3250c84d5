//! The part of a calibration text that is held out of the fit, and the loss on it.

use lopper_infer::Engine;
use lopper_measure::nll_rise;
use lopper_model::Model;
use lopper_record::{Fault, LayerPosition, LayerSet, Progress, Result};

use crate::calibration::{Calibration, windows};

/// Of so many sequences one is held out.
const ONE_OF: usize = 10;
/// Bytes that hidden states may take.
const MEMORY: usize = 2 << 30;
/// Copies of the hidden states that a fit holds: of both models, and of a layer's output.
const COPIES: usize = 3;

/// A calibration text in two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// What the compensation is fitted to.
    pub fit: Calibration,
    /// What the loss is measured on.
    pub held_out: Calibration,
    /// Tokens that are left out, because hidden states of so many would take too much memory.
    pub unused: usize,
}

/// Divides sequences longer than `window` tokens, and holds every tenth out (the last one of fewer than ten). `width`
/// is that of the model's hidden states: a text whose hidden states take more than 2 GiB is thinned out evenly.
///
/// # Errors
/// A [`Fault`] where there is nothing to hold out: fewer than two sequences, or only single tokens.
pub fn split(calibration: &Calibration, window: usize, width: usize) -> Result<Split> {
    let mut sequences: Vec<Vec<u32>> =
        calibration.sequences().iter().flat_map(|sequence| windows(sequence, window)).collect();
    let most = MEMORY / (COPIES * size_of::<f32>() * width.max(1));
    let every = calibration.tokens().div_ceil(most.max(1)).max(1);
    let unused = sequences.iter().enumerate().filter(|(at, _)| at % every != 0).map(|(_, s)| s.len()).sum();
    sequences = sequences.into_iter().step_by(every).collect();
    let count = sequences.len();
    let is_held_out = |at: usize| if count < ONE_OF { at + 1 == count } else { at % ONE_OF == ONE_OF - 1 };
    let (mut fit, mut held_out) = (Vec::new(), Vec::new());
    for (at, sequence) in sequences.into_iter().enumerate() {
        if is_held_out(at) { held_out.push(sequence) } else { fit.push(sequence) }
    }
    if fit.is_empty() || held_out.iter().all(|sequence| sequence.len() < 2) {
        return Err(Fault::new("no part of the calibration text can be held out")
            .expected("at least two sequences of two tokens: one is held out, to see whether the compensation helps")
            .got(format!("{count} sequences, {} tokens", calibration.tokens()))
            .hint("give a longer text, or shorter windows with --window")
            .into());
    }
    Ok(Split { fit: Calibration::new(fit)?, held_out: Calibration::new(held_out)?, unused })
}

/// Mean negative log-likelihood in nats per token of a held-out text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldOutLoss {
    /// Of the uncut model.
    pub uncut: f64,
    /// Of the cut without compensation.
    pub cut: f64,
    /// Of the compensated cut.
    pub compensated: f64,
    /// 95 % interval of `compensated` − `cut`, from the sequences; absent where there are too few.
    pub change_ci95: Option<[f64; 2]>,
}

/// The losses on `held_out` of the model of `engine`, of that with the layers `kept` alone, and of `compensated`.
///
/// # Errors
/// A [`Fault`] for token ids outside the vocabulary; [`lopper_record::Interrupted`].
pub fn held_out_loss(
    engine: &Engine,
    kept: &LayerSet<LayerPosition>,
    compensated: &Model,
    held_out: &Calibration,
    progress: &dyn Progress,
) -> Result<HeldOutLoss> {
    let (before, _) =
        engine.token_logprobs_many(&[engine.all_layers(), kept.slots()], held_out.sequences(), progress)?;
    let engine = engine.with_model(compensated.clone());
    let after = engine.token_logprobs(&engine.all_layers(), held_out.sequences(), progress)?;
    let mean = |sequences: &[Vec<Option<f32>>]| {
        let logprobs = sequences.iter().flatten().flatten();
        let (sum, n) = logprobs.fold((0.0, 0usize), |(sum, n), logprob| (sum - f64::from(*logprob), n + 1));
        sum / n as f64
    };
    Ok(HeldOutLoss {
        uncut: mean(&before[0]),
        cut: mean(&before[1]),
        compensated: mean(&after),
        change_ci95: nll_rise(&before[1], &after).and_then(|rise| rise.ci95),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lengths: &[usize]) -> Calibration {
        Calibration::new(lengths.iter().map(|n| vec![1; *n]).collect()).unwrap()
    }

    #[test]
    fn every_tenth_sequence_is_held_out() {
        let Split { fit, held_out, unused } = split(&text(&[100, 5, 3]), 8, 16).unwrap();
        // 13 windows and two sequences.
        assert_eq!((fit.sequences().len(), held_out.sequences().len(), unused), (14, 1, 0));
        assert_eq!(fit.tokens() + held_out.tokens(), 108);
        let few = split(&text(&[8, 8, 6]), 8, 16).unwrap();
        assert_eq!((few.fit.tokens(), few.held_out.tokens()), (16, 6));
    }

    #[test]
    fn a_text_that_fills_the_memory_is_thinned_out() {
        let split = split(&text(&[4; 100]), 8, MEMORY / 12 / 100).unwrap();
        assert_eq!((split.fit.tokens() + split.held_out.tokens(), split.unused), (100, 300));
    }

    #[test]
    fn nothing_to_hold_out_is_a_fault() {
        for lengths in [vec![6], vec![6, 1], vec![1; 40]] {
            assert!(split(&text(&lengths), 8, 16).unwrap_err().fault().is_some(), "{lengths:?}");
        }
    }
}
