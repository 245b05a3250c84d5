//! A linear map in place of removed layers, folded into the down projection before them.
//!
//! In ReplaceMe's notation, the last kept layer gives Y + M: Y the hidden states after its attention, M what its MLP
//! adds. The map T of least ‖M·T + Y − L‖² is sought, L being the uncut model's hidden states after the removed layers;
//! the down projection W becomes Tᵀ·W, and its bias likewise. Here T = 1 + D, and D is what is fitted and what the
//! ridge keeps small: with few tokens, the result tends to the plain cut rather than to a layer without its MLP.

use lopper_model::Model;
use lopper_record::{Fault, Result};

use super::gaps::Gap;
use super::states::{States, relative_error};
use super::weights::{StoredAs, change_layer};
use super::{CompensationOptions, GapFit, TokenWeights};
use crate::least_squares::{NormalEquations, dot, follow};

/// The smallest ridge: without any, a channel that others determine would have no finite weight.
const LEAST_RIDGE: f64 = 1e-12;

pub(super) fn check_gaps(gaps: &[Gap]) -> Result<()> {
    if gaps.iter().all(|gap| gap.first > 0) {
        return Ok(());
    }
    Err(Fault::new("no layer is kept before the first removed ones")
        .expected("a kept layer before every gap, whose down projection takes the linear map")
        .got("a cut that begins at the first layer")
        .hint("keep the first layer, or compensate by `magnitude`")
        .into())
}

/// Fits the map for `gap` and folds it into the layer before it.
pub(super) fn fit(
    states: &mut States<'_>,
    model: &mut Model,
    gap: &Gap,
    options: &CompensationOptions<'_>,
    stored: &StoredAs<'_>,
) -> Result<GapFit> {
    let (layer, width) = (gap.first - 1, states.width());
    states.advance_both(layer)?;
    states.divide();
    states.advance_uncut(gap.end)?;

    let mut equations = NormalEquations::new(width);
    let (mut error, mut tokens) = (0.0, 0usize);
    for batch in states.batches() {
        let output = states.mlp_output(batch, layer);
        error += relative_error(&output.output, &batch.uncut, width, 1.0);
        tokens += batch.uncut.len() / width;
        let mlp: Vec<f64> = output.mlp.iter().map(|v| f64::from(*v)).collect();
        let missing = batch.uncut.iter().zip(&output.output).map(|(l, x)| f64::from(*l) - f64::from(*x));
        let weight = |target: &[f32]| match options.token_weights {
            TokenWeights::Equal => 1.0,
            TokenWeights::Relative => 1.0 / dot(target, target).max(f64::MIN_POSITIVE),
        };
        let weights: Vec<f64> = batch.uncut.chunks_exact(width).map(weight).collect();
        equations.add(&mlp, &missing.collect::<Vec<_>>(), &weights);
    }
    let map = equations.solve(options.ridge.max(LEAST_RIDGE))?;
    change_layer(model, layer, stored, |name, param| {
        if !name.starts_with("mlp.down_proj.") {
            return None;
        }
        let values: Vec<f64> = param.values().iter().map(|v| f64::from(*v)).collect();
        Some(follow(&map, &values, width).into_iter().map(|v| v as f32).collect())
    })?;
    states.use_weights(model);
    states.advance_cut(layer..gap.first)?;
    let error = [error / tokens.max(1) as f64, states.error(1.0)];
    Ok(GapFit { removed: gap.removed(), factor: None, error })
}
