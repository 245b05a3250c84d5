//! First-order Taylor: Σ |weight · ∂loss/∂weight| over the weights of a layer's linear maps, an
//! estimate of what the loss loses with them (Molchanov et al., arXiv 1906.10771; as "Taylor" in
//! Shortened LLaMA, arXiv 2402.02834). One backward pass over the text; the layers with the smallest
//! sum go.

use lopper_model::{Model, Threads, TrainBatch, TrainOptions, TrainWorkspace};
use lopper_record::{Fault, Progress, Result, Step, ensure};

use super::{By, Criterion};
use crate::calibration::Calibration;

pub(super) const CRITERION: Criterion = Criterion::new(
    "taylor",
    "the layers with the smallest sum of |weight · gradient| over their linear maps",
    By::Layer(|scores| scores.taylor.clone()),
);

/// Tokens whose gradients are computed together.
const GROUP_TOKENS: usize = 1024;

/// The sum of every layer, by gradients of the mean negative log-likelihood. Besides the weights, it takes memory for
/// the gradients of all layers' weights.
///
/// # Errors
/// Where the text predicts nothing, where the model's weights are not in memory, where gradients are not finite, and
/// [`lopper_record::Interrupted`].
pub fn taylor(model: &Model, calibration: &Calibration, progress: &dyn Progress) -> Result<Vec<f64>> {
    let step = progress.step(Step::new("gradients", "tokens", calibration.tokens()));
    let mut model = model.clone();
    let of_layers = |name: &str| name.starts_with("model.layers.") && name.ends_with("_proj.weight");
    let mut gradients = model.set_trainable(of_layers);
    let predicted: usize = calibration.sequences().iter().map(|s| s.len().saturating_sub(1)).sum();
    ensure!(predicted > 0, "a text of single tokens predicts nothing");
    let (threads, scale) = (Threads::Pool, 1.0 / predicted as f32);
    let options = TrainOptions { threads, scale, checkpointing: true, ..TrainOptions::default() };
    let mut workspace = TrainWorkspace::default();
    let mut done = 0;
    for group in calibration.groups(GROUP_TOKENS) {
        step.check()?;
        let weights: Vec<Vec<f32>> = group.iter().map(|sequence| vec![1.0; sequence.len()]).collect();
        let data = TrainBatch::new(group.iter().zip(&weights).map(|(s, w)| (s.as_slice(), w.as_slice())));
        model.loss_and_gradients(&data, &model.all_layers(), options, &mut workspace, &mut gradients)?;
        done += group.iter().map(Vec::len).sum::<usize>();
        step.set(done);
    }
    let mut sums = vec![0f64; model.num_layers()];
    for (name, param) in model.parameters() {
        let Some((layer, _)) = lopper_model::tensors::layer_of(&name).filter(|_| of_layers(&name)) else { continue };
        let Some(gradient) = gradients.of(&param) else { continue };
        sums[layer] += param.data.iter().zip(gradient).map(|(w, g)| f64::from((w * *g).abs())).sum::<f64>();
    }
    if let Some(layer) = sums.iter().position(|sum| !sum.is_finite()) {
        return Err(Fault::new(format!("the gradients of layer {layer} are not finite"))
            .expected("finite gradients")
            .got("NaN or infinity in a backward pass")
            .hint("the checkpoint is damaged, or its training diverged")
            .into());
    }
    Ok(sums)
}
