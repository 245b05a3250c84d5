//! Whether the written model is the model that was measured: it is opened like any other, and its logits are compared
//! with those of the source with the removed layers skipped, or of the compensated model, over the same tokens.
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

/// What the written model must give the logits of.
pub struct Reference {
    model: Model,
    layers: LayerSet<LayerSlot>,
    name: &'static str,
}

impl Reference {
    /// The source with all layers but `kept` skipped.
    pub fn cut(source: &Arc<Checkpoint>, kept: &LayerSet<LayerPosition>) -> Result<Self> {
        let model = Model::in_place(source, Release::Block)?;
        Ok(Self { model, layers: kept.slots(), name: "the source with the dropped layers skipped" })
    }

    /// The compensated model in memory.
    pub fn compensated(model: &Model) -> Self {
        Self { model: model.clone(), layers: model.all_layers(), name: "the compensated model before it was written" }
    }
}

/// Compares `written` with `reference`.
///
/// # Errors
/// Where a logit differs or is not a number, and [`lopper_record::Interrupted`].
pub fn compare_logits(
    reference: &Reference,
    written: &Arc<Checkpoint>,
    progress: &dyn Progress,
) -> Result<Verification> {
    let vocab = written.config().vocab_size;
    // Ids spread over the vocabulary; the multiplier is that of a full-period generator.
    let tokens: Vec<u32> = (1..=TOKENS as u64).map(|i| (i * 2_862_933_555 % vocab as u64) as u32).collect();
    let batch = Batch::new(&[tokens]);
    let count = reference.layers.len();
    let step = progress.step(Step::new("comparing", "layers", 2 * count));
    let run = |model: &Model, layers: &LayerSet<LayerSlot>, before: usize| -> Result<Vec<f32>> {
        let mut stopped = Ok(());
        let mut tap = |done: usize, _: &[f32]| {
            if stopped.is_ok() {
                step.set(before + done);
                stopped = step.check();
            }
        };
        let forward = Forward::new(model, Pack::No, MatmulPrecision::F32);
        let hidden = forward.hidden_states(&batch, layers, Threads::Pool, None, Some(&mut tap))?;
        stopped?;
        let mut logits = Vec::new();
        forward.logits(Threads::Pool, &forward.normed_rows(&hidden, 0..batch.len()), &mut logits);
        Ok(logits)
    };
    let expected = run(&reference.model, &reference.layers, 0)?;
    let written = Model::in_place(written, Release::Block)?;
    let logits = run(&written, &written.all_layers(), count)?;
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
        bail!("the logits of the written model differ by up to {largest} from those of {}", reference.name);
    }
    Ok(Verification {
        max_logit_difference: largest,
        tokens: TOKENS,
        compared_with: reference.name.to_owned(),
        tolerance: TOLERANCE,
    })
}
