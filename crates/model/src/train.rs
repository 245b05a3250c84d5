//! Loss and gradients of one packed batch: the training counterpart of the forward pass.
//!
//! The decoder is a chain, so the backward pass is straight-line code over the kept layers rather
//! than a graph. Parameters without a [`Param::slot`] are frozen and cost no gradient; layers before the first one
//! with a trained parameter only run forward, and once for all models that learn from the batch and for their teacher,
//! where they have the same ones. A list of kept layers works here too, which is how a pruned model is healed and how
//! stochastic depth (Huang et al., arXiv 1603.09382) skips layers.

mod layer;
mod together;

pub use together::{Learner, taught_together};

use crate::batch::Batch;
use crate::kernels::distill::{Divergence, Rows, distillation};
use crate::kernels::loss::{LogitBuffers, cross_entropy};
use crate::kernels::{MatmulOptions, MatmulPrecision, Threads, add_assign};
use crate::layer::norm_of;
use crate::linear::Dropout;
use crate::model::Model;
use crate::param::{Gradients, Param};
use crate::tensors::layer_of;
use layer::{Activations, Pass, Scratch};
use lopper_record::{LayerSet, LayerSlot, Result, ensure};

/// Sequences to learn from, packed; row `i` predicts `targets[i]` with weight `weights[i]`.
#[derive(Debug, Clone, Default)]
pub struct TrainBatch {
    /// Input tokens.
    pub batch: Batch,
    /// The token that follows each input token; ignored where the weight is zero.
    pub targets: Vec<u32>,
    /// Weight of each row's negative log-likelihood in the summed loss.
    pub weights: Vec<f32>,
}

impl TrainBatch {
    /// Packs documents given as tokens and, for each token, the weight of predicting it (the first
    /// token's weight is ignored: nothing predicts it).
    pub fn new<'a>(documents: impl IntoIterator<Item = (&'a [u32], &'a [f32])>) -> Self {
        let mut result = Self::default();
        let mut inputs = Vec::new();
        for (tokens, weights) in documents {
            assert_eq!(tokens.len(), weights.len(), "one weight per token");
            if tokens.len() < 2 {
                continue;
            }
            inputs.push((&tokens[..tokens.len() - 1], 0));
            result.targets.extend_from_slice(&tokens[1..]);
            result.weights.extend_from_slice(&weights[1..]);
        }
        result.batch = Batch::continued(inputs);
        result
    }

    /// Sum of the weights.
    pub fn total_weight(&self) -> f64 {
        self.weights.iter().map(|w| f64::from(*w)).sum()
    }
}

/// How a backward pass is done.
#[derive(Debug, Clone, Copy)]
pub struct TrainOptions {
    /// Threads within one batch.
    pub threads: Threads,
    /// Precision of the linear layers' matrix multiplications.
    pub precision: MatmulPrecision,
    /// Multiplies every row's weight: 1/Σw makes the loss a mean.
    pub scale: f32,
    /// Masks for adapter dropout; none while evaluating.
    pub dropout: Option<Dropout>,
    /// Keep only each layer's input and compute the layer again on the way back.
    pub checkpointing: bool,
}

impl Default for TrainOptions {
    /// In `f32` on the calling thread, weights as they are given, everything kept in memory.
    fn default() -> Self {
        let (threads, precision) = (Threads::One, MatmulPrecision::F32);
        Self { threads, precision, scale: 1.0, dropout: None, checkpointing: false }
    }
}

impl TrainOptions {
    fn matmul(self) -> MatmulOptions {
        MatmulOptions { threads: self.threads, precision: self.precision }
    }
}

/// What a model learns from: a teacher's distributions of the next token, next to or instead of the tokens themselves.
#[derive(Clone, Copy)]
pub struct Teacher<'a> {
    /// The model that teaches, with the same vocabulary.
    pub model: &'a Model,
    /// The layers of it that run.
    pub kept: &'a LayerSet<LayerSlot>,
    /// How its distributions are compared with the student's.
    pub divergence: Divergence,
    /// Weight of the mean squared difference between the two models' last hidden states, after the final norm.
    pub hidden_states: f32,
}

/// Losses of a batch, each row's times its weight.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BatchLoss {
    /// What is minimised.
    pub total: f64,
    /// The negative log-likelihood of the targets, in nats.
    pub targets: f64,
}

impl std::ops::AddAssign for BatchLoss {
    fn add_assign(&mut self, other: Self) {
        self.total += other.total;
        self.targets += other.targets;
    }
}

/// Buffers kept from step to step.
#[derive(Debug, Default)]
pub struct TrainWorkspace {
    saved: Vec<Activations>,
    inputs: Vec<Vec<f32>>,
    /// Of layers that only run forward.
    passing: Activations,
    scratch: Scratch,
    logits: LogitBuffers,
}

impl Model {
    /// Gives every parameter that `trainable` accepts (by checkpoint name) a gradient slot, freezes
    /// the others, and returns zeroed gradients. What is trained is brought into memory; frozen
    /// matrices may stay in their file.
    pub fn set_trainable(&mut self, mut trainable: impl FnMut(&str) -> bool) -> Gradients {
        let mut gradients = Gradients::default();
        self.visit_mut(|name, param| {
            param.slot = trainable(name).then(|| {
                param.load();
                gradients.slots.push(vec![0.0; param.len()]);
                gradients.slots.len() - 1
            });
        });
        gradients
    }

    /// Weighted sum of the negative log-likelihoods; gradients are added to `grads`.
    pub fn loss_and_gradients(
        &self,
        data: &TrainBatch,
        kept: &LayerSet<LayerSlot>,
        options: TrainOptions,
        workspace: &mut TrainWorkspace,
        grads: &mut Gradients,
    ) -> Result<f64> {
        Ok(self.taught(data, kept, None, options, workspace, grads)?.total)
    }

    /// Loss and gradients of learning from `teacher`; without one, from the targets. Gradients are added to `grads`.
    ///
    /// # Errors
    /// For tokens or layers that a model does not have, and for a teacher with another vocabulary or, where hidden
    /// states are compared, another width.
    pub fn taught(
        &self,
        data: &TrainBatch,
        kept: &LayerSet<LayerSlot>,
        teacher: Option<Teacher<'_>>,
        options: TrainOptions,
        workspace: &mut TrainWorkspace,
        grads: &mut Gradients,
    ) -> Result<BatchLoss> {
        let learner = Learner { model: self, kept, gradients: grads };
        let losses = taught_together(data, &mut [learner], teacher, options, workspace)?;
        Ok(losses.into_iter().next().unwrap_or_default())
    }

    fn check_data(&self, data: &TrainBatch, kept: &LayerSet<LayerSlot>) -> Result<()> {
        self.check_tokens(&data.batch.tokens)?;
        self.check_tokens(&data.targets)?;
        self.check_layers(kept)?;
        ensure!(!self.is_streamed(), "training goes through the layers twice, so they are not streamed");
        ensure!(data.targets.len() == data.batch.len() && data.weights.len() == data.batch.len(), "one target per row");
        Ok(())
    }

    /// Loss and gradients, given what comes out of the layers before `layers`, `x`, and a teacher with its last states.
    #[allow(clippy::too_many_arguments, reason = "what a pass reads and writes is passed one by one")]
    fn learn_from(
        &self,
        mut x: Vec<f32>,
        layers: &[usize],
        data: &TrainBatch,
        taught: Option<(Teacher<'_>, &[f32])>,
        options: TrainOptions,
        workspace: &mut TrainWorkspace,
        grads: &mut Gradients,
    ) -> BatchLoss {
        let ropes = self.rope_rows(&data.batch);
        let TrainOptions { dropout, checkpointing, .. } = options;
        let matmul = options.matmul();
        let pass = Pass { config: &self.config, ropes: &ropes, batch: &data.batch, matmul, dropout };
        let TrainWorkspace { saved, inputs, scratch, logits, .. } = workspace;
        // Buffers stay where another model has more layers.
        saved.resize_with(saved.len().max(if checkpointing { 1 } else { layers.len().max(1) }), Activations::default);
        inputs.resize_with(inputs.len().max(if checkpointing { layers.len() } else { 0 }), Vec::new);
        for (i, layer) in layers.iter().enumerate() {
            let acts = &mut saved[if checkpointing { 0 } else { i }];
            if checkpointing {
                inputs[i].clone_from(&x);
            }
            std::mem::swap(&mut acts.x, &mut x);
            self.layers[*layer].forward(&pass, acts, scratch, &mut x);
        }

        let (loss, mut d) = self.head_loss(&x, data, taught, options, logits, grads);
        let mut again = Vec::new();
        for (i, layer) in layers.iter().enumerate().rev() {
            let acts = &mut saved[if checkpointing { 0 } else { i }];
            if checkpointing {
                acts.x.clone_from(&inputs[i]);
                self.layers[*layer].forward(&pass, acts, scratch, &mut again);
            }
            self.layers[*layer].backward(&pass, acts, scratch, &mut d, grads);
        }
        if let Some(dembedding) = grads.of(&self.embedding) {
            let (width, scale) = (self.config.hidden_size, self.config.embedding_scale);
            if scale != 1.0 {
                d.iter_mut().for_each(|d| *d *= scale);
            }
            for (&token, d) in data.batch.tokens.iter().zip(d.chunks_exact(width)) {
                add_assign(&mut dembedding[token as usize * width..][..width], d);
            }
        }
        loss
    }

    fn check_teacher(&self, teacher: &Teacher<'_>) -> Result<()> {
        let Teacher { model, kept, hidden_states, .. } = teacher;
        model.check_layers(kept)?;
        ensure!(!model.is_streamed(), "a teacher's layers are not streamed");
        let (own, other) = (self.config.vocab_size, model.config.vocab_size);
        ensure!(own == other, "a teacher with a vocabulary of {other} tokens, and a student with one of {own}");
        let (own, other) = (self.config.hidden_size, model.config.hidden_size);
        ensure!(own == other || *hidden_states == 0.0, "hidden states of width {other} and {own} cannot be compared");
        Ok(())
    }

    /// The parameters of each layer.
    fn layer_parameters(&self) -> Vec<Vec<Param>> {
        let mut layers = vec![Vec::new(); self.layers.len()];
        for (name, param) in self.parameters() {
            if let Some((layer, _)) = layer_of(&name) {
                layers[layer].push(param);
            }
        }
        layers
    }

    /// How many of `layers`, from the first, only run forward: nothing in or before them is trained.
    fn frozen_layers(&self, layers: &[usize]) -> usize {
        if self.embedding.slot.is_some() {
            return 0;
        }
        let parameters = self.layer_parameters();
        layers.iter().take_while(|layer| parameters[**layer].iter().all(|param| param.slot.is_none())).count()
    }

    /// The last hidden states, after the final norm, of the rows that carry weight, given what comes out of the last
    /// layer.
    fn last_states(&self, data: &TrainBatch, x: &[f32]) -> Vec<f32> {
        let hidden = self.rows(x, &weighted_rows(data));
        let mut normed = vec![0f32; hidden.len()];
        norm_of(&self.config, &self.norm).forward(&hidden, &mut normed);
        normed
    }

    fn rows(&self, x: &[f32], rows: &[usize]) -> Vec<f32> {
        let width = self.config.hidden_size;
        rows.iter().flat_map(|r| x[r * width..][..width].iter().copied()).collect()
    }

    /// Loss over the rows that carry weight, and the gradient of the last layer's output; `taught` is a teacher with
    /// its states of the same rows.
    fn head_loss(
        &self,
        x: &[f32],
        data: &TrainBatch,
        taught: Option<(Teacher<'_>, &[f32])>,
        options: TrainOptions,
        buffers: &mut LogitBuffers,
        grads: &mut Gradients,
    ) -> (BatchLoss, Vec<f32>) {
        let (width, norm) = (self.config.hidden_size, norm_of(&self.config, &self.norm));
        let rows = weighted_rows(data);
        let hidden = self.rows(x, &rows);
        let targets: Vec<u32> = rows.iter().map(|r| data.targets[*r]).collect();
        let weights: Vec<f32> = rows.iter().map(|r| data.weights[*r] * options.scale).collect();
        let mut normed = vec![0f32; hidden.len()];
        norm.forward(&hidden, &mut normed);
        let mut dnormed = vec![0f32; hidden.len()];
        let head: &Param = self.head();
        let (matmul, dhead) = (options.matmul(), grads.of(head));
        let loss = match taught {
            None => {
                let own = self.output_head();
                let dnormed = Some(&mut dnormed[..]);
                let loss = cross_entropy(matmul, buffers, &normed, own, &targets, &weights, dnormed, dhead);
                BatchLoss { total: loss, targets: loss }
            }
            Some((teacher, states)) => {
                let student = Rows { hidden: &normed, head: self.output_head() };
                let rows = Rows { hidden: states, head: teacher.model.output_head() };
                let (by, divergence) = ((&*targets, &*weights), teacher.divergence);
                let loss = distillation(matmul, buffers, student, rows, by, divergence, Some(&mut dnormed), dhead);
                let of_states = hidden_state_loss((&normed, states), &weights, teacher.hidden_states, &mut dnormed);
                BatchLoss { total: loss.total + of_states, targets: loss.targets }
            }
        };
        let mut dhidden = vec![0f32; hidden.len()];
        norm.backward(&hidden, &dnormed, &mut dhidden, false, grads.of(&self.norm));
        let mut d = vec![0f32; x.len()];
        for (row, dhidden) in rows.iter().zip(dhidden.chunks_exact(width)) {
            d[row * width..][..width].copy_from_slice(dhidden);
        }
        (loss, d)
    }
}

/// The rows that carry weight.
fn weighted_rows(data: &TrainBatch) -> Vec<usize> {
    (0..data.targets.len()).filter(|row| data.weights[*row] != 0.0).collect()
}

/// `part` times the mean squared difference of each row's states, times its weight; its gradient is added to `d`.
fn hidden_state_loss((own, wanted): (&[f32], &[f32]), weights: &[f32], part: f32, d: &mut [f32]) -> f64 {
    if part == 0.0 || weights.is_empty() {
        return 0.0;
    }
    let width = own.len() / weights.len();
    let rows = own.chunks_exact(width).zip(wanted.chunks_exact(width)).zip(d.chunks_exact_mut(width));
    let mut total = 0f64;
    for (((own, wanted), d), weight) in rows.zip(weights) {
        let scale = part * weight / width as f32;
        for ((own, wanted), d) in own.iter().zip(wanted).zip(d) {
            let gap = own - wanted;
            total += f64::from(scale) * f64::from(gap * gap);
            *d += 2.0 * scale * gap;
        }
    }
    total
}
