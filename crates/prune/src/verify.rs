//! Whether the written model is the model that was measured: it is opened like any other, and its logits are compared
//! with those of the source with the removed layers skipped, over the same tokens.
//!
//! Both models are read from their files as they are used, so the comparison needs little memory whatever their size.
//! It covers weights and configuration together; that configurations also agree beyond the few tokens compared
//! (windows, rotary scalings) is proved by `writer::config`.

use lopper_model::{Batch, Checkpoint, Forward, MatmulPrecision, Model, Pack, Release, Threads};
use lopper_record::{LayerPosition, LayerSet, LayerSlot, Progress, Result, Step, bail};
use std::sync::Arc;

use crate::plan::Verification;

/// Tokens compared: enough for every position to attend to several others.
const TOKENS: usize = 16;
/// Both models take the same sums in the same order, so only a mistake makes a difference.
const TOLERANCE: f64 = 1e-5;

/// Compares `written` with `source` without all layers but `kept`.
///
/// # Errors
/// Where a logit differs or is not a number, and [`lopper_record::Interrupted`].
pub fn compare_logits(
    source: &Arc<Checkpoint>,
    kept: &LayerSet<LayerPosition>,
    written: &Arc<Checkpoint>,
    progress: &dyn Progress,
) -> Result<Verification> {
    let vocab = source.config().vocab_size;
    // Ids spread over the vocabulary; the multiplier is that of a full-period generator.
    let tokens: Vec<u32> = (1..=TOKENS as u64).map(|i| (i * 2_862_933_555 % vocab as u64) as u32).collect();
    let batch = Batch::new(&[tokens]);
    let step = progress.step(Step::new("comparing", "layers", 2 * kept.len()));
    let run = |checkpoint: &Arc<Checkpoint>, layers: LayerSet<LayerSlot>, before: usize| -> Result<Vec<f32>> {
        let model = Model::in_place(checkpoint, Release::Block)?;
        let mut stopped = Ok(());
        let mut tap = |done: usize, _: &[f32]| {
            if stopped.is_ok() {
                step.set(before + done);
                stopped = step.check();
            }
        };
        let forward = Forward::new(&model, Pack::No, MatmulPrecision::F32);
        let hidden = forward.hidden_states(&batch, &layers, Threads::Pool, None, Some(&mut tap))?;
        stopped?;
        let mut logits = Vec::new();
        forward.logits(Threads::Pool, &forward.normed_rows(&hidden, 0..batch.len()), &mut logits);
        Ok(logits)
    };
    let expected = run(source, kept.indices().collect(), 0)?;
    let logits = run(written, (0..written.config().num_hidden_layers).collect(), kept.len())?;
    let mut largest = 0f64;
    for (ours, theirs) in logits.iter().zip(&expected) {
        let difference = f64::from((ours - theirs).abs());
        // A NaN on both sides is a model that cannot be compared.
        if difference.is_nan() {
            bail!(
                "the model gives logits that are not numbers, so the cut cannot be compared with its source \
                 (--no-verify skips the comparison)"
            );
        }
        largest = largest.max(difference);
    }
    if logits.len() != expected.len() || largest > TOLERANCE {
        bail!(
            "the logits of the written model differ by up to {largest} from those of its source without the removed layers"
        );
    }
    Ok(Verification {
        max_logit_difference: largest,
        tokens: TOKENS,
        compared_with: "the source with the dropped layers skipped".to_owned(),
        tolerance: TOLERANCE,
    })
}
