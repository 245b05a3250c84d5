//! One factor in place of removed layers, folded into the layers after them.
//!
//! Layers tend to make hidden states longer. Prune&Comp measures by how much the removed layers do, the mean over the
//! channels of Σ|after| ÷ Σ|before| over the tokens, and scales the hidden states before the gap by it: embedding,
//! output and down projections of all layers before the gap, times the factor. As every layer norms what it reads, that
//! is the same as leaving the layers before the gap as they are and dividing what each layer after it adds by the
//! factor, which is what is done here: it changes no embedding (which a tied head would share) and fewer weights.
//!
//! Both are exact except for `rms_norm_eps`, which is added to the mean square of hidden states that are now another
//! multiple of what they were.

use std::ops::Range;

use lopper_model::tensors::NormNames;
use lopper_model::{Config, Model, NormPlacement};
use lopper_record::{Fault, Result};

use super::GapFit;
use super::gaps::Gap;
use super::states::States;
use super::weights::{StoredAs, change_layer};
use crate::least_squares::not_finite;

pub(super) fn check_gaps(config: &Config, gaps: &[Gap]) -> Result<()> {
    if gaps.iter().all(|gap| gap.end == config.num_hidden_layers) {
        return Err(Fault::new("no layer is kept after the removed ones")
            .expected("a kept layer after a gap; the norm before the head undoes any factor")
            .got("a cut of the last layers")
            .hint("compensate by `linear`, which changes the last kept layer")
            .into());
    }
    Ok(())
}

/// Measures the factor for `gap`, and multiplies `total` by it: by so much are the states of the compensated model
/// smaller than what they stand for.
pub(super) fn fit(states: &mut States<'_>, gap: &Gap, total: &mut f64) -> Result<GapFit> {
    states.advance_both(gap.first)?;
    let already = if states.divide() { 1.0 } else { *total };
    states.advance_uncut(gap.end)?;
    let mut sums = vec![[0.0f64; 2]; states.width()];
    for batch in states.batches() {
        let before = batch.cut.as_ref().unwrap_or(&batch.uncut);
        for (before, after) in before.chunks_exact(sums.len()).zip(batch.uncut.chunks_exact(sums.len())) {
            for ((sum, before), after) in sums.iter_mut().zip(before).zip(after) {
                sum[0] += f64::from(before.abs());
                sum[1] += f64::from(after.abs());
            }
        }
    }
    let ratios: Vec<f64> = sums.iter().filter(|sum| sum[0] != 0.0).map(|[before, after]| after / before).collect();
    let ratio = ratios.iter().sum::<f64>() / ratios.len() as f64;
    if !(ratio.is_finite() && ratio > 0.0) {
        return Err(not_finite().into());
    }
    let factor = ratio / already;
    *total *= factor;
    let error = [states.error(already), states.error(ratio)];
    Ok(GapFit { removed: gap.removed(), factor: Some(factor), error })
}

/// Makes the layers `layers` add their results to hidden states that are `factor` times smaller than they were.
pub(super) fn scale(model: &mut Model, layers: Range<usize>, factor: f64, stored: &StoredAs<'_>) -> Result<()> {
    let (placement, offset) = (model.config.norm_placement, f64::from(model.config.norm_offset));
    let names = NormNames::of(placement);
    let norms = [names.after_attention, names.after_mlp];
    for layer in layers {
        change_layer(model, layer, stored, |name, param| {
            let (module, _) = name.rsplit_once('.')?;
            let values = param.values();
            let times = |factor: f64| Some(values.iter().map(|v| (f64::from(*v) * factor) as f32).collect());
            match module {
                // A norm before them, and nothing after them.
                "self_attn.o_proj" | "mlp.down_proj" if placement == NormPlacement::Before => times(1.0 / factor),
                _ if norms.contains(&Some(module)) => {
                    Some(values.iter().map(|v| ((f64::from(*v) + offset) / factor - offset) as f32).collect())
                }
                // No norm before them: what they read is that much smaller.
                "self_attn.q_proj" | "self_attn.k_proj" | "self_attn.v_proj" | "self_attn.qkv_proj"
                | "mlp.gate_proj" | "mlp.up_proj" | "mlp.gate_up_proj"
                    if placement == NormPlacement::After && name.ends_with(".weight") =>
                {
                    times(factor)
                }
                _ => None,
            }
        })?;
    }
    Ok(())
}
