//! Is what was written the model that was measured? The written checkpoint is opened as a stranger
//! would and run beside its source with the removed layers skipped, over the same tokens.
//!
//! Both are read from their files as they are used, so the comparison needs little memory whatever
//! the model's size. It covers weights and configuration together; that configurations agree beyond
//! the few tokens compared (windows, rotary scalings) is proved by `writer::config`.

use anyhow::{Result, bail};
use lopper_model::{Batch, Checkpoint, Forward, Model, Pack, Par, Precision, Release};
use std::sync::Arc;

use crate::plan::Verification;

/// Tokens compared: enough for every position to attend to several others.
const TOKENS: usize = 16;
/// Both sides do the same sums in the same order, so nothing but an error makes a difference.
const TOLERANCE: f64 = 1e-5;

/// Compares `written` with `source` run over the layers at the positions `kept`. `progress` is told
/// the layers done and the layers to do, and may stop the comparison.
///
/// # Errors
/// Fails if a logit differs, or is not a number.
pub fn compare_logits(
    source: &Arc<Checkpoint>,
    kept: &[usize],
    written: &Arc<Checkpoint>,
    progress: &dyn Fn(usize, usize) -> Result<()>,
) -> Result<Verification> {
    let vocab = source.config().vocab_size;
    // Ids spread over the vocabulary; the multiplier is that of a full-period generator.
    let tokens: Vec<u32> = (1..=TOKENS as u64).map(|i| (i * 2_862_933_555 % vocab as u64) as u32).collect();
    let batch = Batch::new(&[tokens]);
    let total = 2 * kept.len();
    let run = |checkpoint: &Arc<Checkpoint>, layers: &[usize], before: usize| -> Result<Vec<f32>> {
        let model = Model::in_place(checkpoint, Release::Block)?;
        let mut stopped = Ok(());
        let mut tap = |done: usize, _: &[f32]| {
            if stopped.is_ok() {
                stopped = progress(before + done, total);
            }
        };
        let forward = Forward::new(&model, Pack::No, Precision::F32);
        let hidden = forward.hidden_states(&batch, layers, Par::Pool, None, Some(&mut tap))?;
        stopped?;
        let mut logits = Vec::new();
        forward.logits(Par::Pool, &forward.normed_rows(&hidden, 0..batch.len()), &mut logits);
        Ok(logits)
    };
    let expected = run(source, kept, 0)?;
    let all: Vec<usize> = (0..written.config().num_hidden_layers).collect();
    let logits = run(written, &all, kept.len())?;
    let mut largest = 0f64;
    for (ours, theirs) in logits.iter().zip(&expected) {
        let difference = f64::from((ours - theirs).abs());
        // A NaN on both sides is a model that cannot be compared.
        if difference.is_nan() {
            bail!(
                "the model gives logits that are not numbers, so the cut cannot be compared with its source (--no-verify skips the comparison)"
            );
        }
        largest = largest.max(difference);
    }
    if logits.len() != expected.len() || largest > TOLERANCE {
        bail!("the written model differs from its source without the layers: logits by up to {largest}");
    }
    Ok(Verification {
        max_logit_difference: largest,
        tokens: TOKENS,
        compared_with: "the source with the dropped layers skipped".to_owned(),
        tolerance: TOLERANCE,
    })
}
