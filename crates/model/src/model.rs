//! The decoder: its weights, and the forward pass over any list of kept layers.
//!
//! A pruned candidate is the same [`Model`] with another list of kept layers; nothing is copied.
//! Cloning a model shares all its weights.

mod build;
mod save;

use crate::batch::Batch;
use crate::config::{Config, Rope, RopeScaling};
use crate::kernels::loss;
use crate::kernels::rope::{RopeRows, Rotary, changes_between};
use crate::layer::Layer;
use crate::mapped::Release;
use crate::param::Param;
use lopper_record::{Fault, LayerIndex, LayerPosition, LayerSet, LayerSlot, Result, ensure};
use std::sync::Arc;

pub use build::{Source, normal};

/// Parameters below which a model is small.
///
/// The matrix products of a small model are too short to be split over threads, so each thread takes sequences of its
/// own through it; and its weights cost so little memory that they are held in `f32`, repacked where that is faster.
/// From here on all threads work together and weights are used as the checkpoint stores them. Finetuning defaults
/// change here too. See `design/engine.md`, "Threads".
pub const SMALL_MODEL_PARAMETERS: usize = 50_000_000;

/// A decoder with its weights in memory (`f32`, CPU).
#[derive(Debug, Clone)]
pub struct Model {
    /// Shapes and constants.
    pub config: Config,
    /// Token embedding, `[vocab, hidden]`.
    pub embedding: Param,
    /// Decoder layers in their original order.
    pub layers: Vec<Layer>,
    /// Norm before the head.
    pub norm: Param,
    /// The head, `[vocab, hidden]`, where it is not tied to the embedding.
    pub head: Option<Param>,
    pub(crate) ropes: Arc<Vec<Rotary>>,
}

impl Model {
    pub(crate) fn assemble(
        config: Config,
        embedding: Param,
        layers: Vec<Layer>,
        norm: Param,
        head: Option<Param>,
    ) -> Self {
        let ropes = Arc::new(config.ropes.iter().cloned().map(Rotary::new).collect());
        Self { config, embedding, layers, norm, head, ropes }
    }

    /// Number of decoder layers.
    pub fn num_layers(&self) -> usize {
        self.layers.len()
    }

    /// All layers: what the model runs when none is skipped.
    pub fn all_layers(&self) -> LayerSet<LayerSlot> {
        LayerSet::all(self.num_layers())
    }

    /// The matrix that turns hidden states into logits.
    pub fn head(&self) -> &Param {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Whether weights stay in their file.
    pub fn in_file(&self) -> bool {
        self.embedding.mapped.is_some()
    }

    /// Brings weights that stay in their file into memory.
    pub fn load(&mut self) {
        self.visit_mut(|_, param| param.load());
    }

    /// Quantises the projections of every layer to NF4, one matrix after another; embedding, norms, biases, head and
    /// adapters stay as they are, as with transformers' `BitsAndBytesConfig(load_in_4bit=True)`.
    pub fn quantize_nf4(&mut self) {
        for layer in &mut self.layers {
            for (_, linear) in layer.linears_mut() {
                linear.weight.quantize_nf4();
            }
        }
    }

    /// Whether weights stay in their file and their pages are given back as soon as they have been used.
    pub fn is_streamed(&self) -> bool {
        self.embedding.mapped.as_ref().is_some_and(|mapped| mapped.release_policy() != Release::Never)
    }

    /// The head with what the configuration does to its products.
    pub(crate) fn output_head(&self) -> loss::Head<'_> {
        let Config { logit_scale: scale, logit_softcap: softcap, .. } = self.config;
        loss::Head { weight: self.head().weight(), scale, softcap }
    }

    /// Refuses token ids outside the vocabulary.
    ///
    /// # Errors
    /// A [`Fault`] that names the first of them.
    pub fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocab = self.config.vocab_size;
        match tokens.iter().find(|token| **token as usize >= vocab) {
            None => Ok(()),
            Some(token) => Err(Fault::new(format!("token id {token} is outside the vocabulary of {vocab}"))
                .expected(format!("ids below {vocab}"))
                .got(token.to_string())
                .hint("do the ids come from this model's tokenizer?")
                .into()),
        }
    }

    /// Refuses layers that the model does not have.
    pub fn check_layers<L: LayerIndex>(&self, kept: &LayerSet<L>) -> Result<()> {
        let layers = self.num_layers();
        ensure!(kept.indices().all(|layer| layer < layers), "layers {kept} of a model that has {layers}");
        Ok(())
    }

    /// Cosines and sines of every token of `batch`, for each rotary embedding.
    pub(crate) fn rope_rows(&self, batch: &Batch) -> Vec<RopeRows> {
        self.ropes.iter().map(|rope| rope.rows(&batch.positions, &batch.bounds)).collect()
    }

    /// Whether keys that were cached for the first `shorter` tokens of a text are of no use once it
    /// has `longer` tokens, because its rotary embedding depends on its length (LongRoPE).
    ///
    /// With dynamic scaling each step turns its own token by the length so far, and earlier keys stay
    /// as they are, as in transformers; so only whole texts depend on it.
    pub fn needs_recompute(&self, shorter: usize, longer: usize) -> bool {
        let long = |rope: &&Rope| matches!(rope.scaling, RopeScaling::LongRope { .. });
        self.config.ropes.iter().filter(long).any(|rope| changes_between(rope, shorter, longer))
    }

    /// Whether the first `shorter` tokens of a text of `longer` tokens are computed otherwise than
    /// alone, so that texts which begin alike share nothing.
    pub fn depends_on_length(&self, shorter: usize, longer: usize) -> bool {
        self.config.ropes.iter().any(|rope| changes_between(rope, shorter, longer))
    }

    pub(crate) fn embed(&self, tokens: &[u32], out: &mut Vec<f32>) {
        out.clear();
        for &token in tokens {
            self.embedding.append_row(token as usize, out);
        }
        if self.config.embedding_scale != 1.0 {
            out.iter_mut().for_each(|v| *v *= self.config.embedding_scale);
        }
    }

    /// Calls `f` with the name (as in a Hugging Face checkpoint) of every parameter, in a fixed order.
    pub fn visit_mut(&mut self, mut f: impl FnMut(&str, &mut Param)) {
        f("model.embed_tokens.weight", &mut self.embedding);
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let prefix = format!("model.layers.{index}.");
            for (name, norm) in layer.norms_mut(&self.config) {
                f(&format!("{prefix}{name}.weight"), norm);
            }
            for (name, norm) in [("q_norm", &mut layer.q_norm), ("k_norm", &mut layer.k_norm)] {
                if let Some(norm) = norm {
                    f(&format!("{prefix}self_attn.{name}.weight"), norm);
                }
            }
            for (name, linear) in layer.linears_mut() {
                f(&format!("{prefix}{name}.weight"), &mut linear.weight);
                if let Some(bias) = &mut linear.bias {
                    f(&format!("{prefix}{name}.bias"), bias);
                }
                if let Some(lora) = &mut linear.lora {
                    f(&format!("{prefix}{name}.lora_A.weight"), &mut lora.a);
                    f(&format!("{prefix}{name}.lora_B.weight"), &mut lora.b);
                    if let Some(magnitude) = &mut lora.magnitude {
                        f(&format!("{prefix}{name}.lora_magnitude_vector"), magnitude);
                    }
                }
            }
        }
        f("model.norm.weight", &mut self.norm);
        if let Some(head) = &mut self.head {
            f("lm_head.weight", head);
        }
    }

    /// All parameters with their names, in a fixed order (sharing the values).
    pub fn parameters(&self) -> Vec<(String, Param)> {
        let mut list = Vec::new();
        self.clone().visit_mut(|name, param| list.push((name.to_owned(), param.clone())));
        list
    }

    /// Number of weights, adapters included.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|(_, p)| p.len()).sum()
    }

    /// Whether the model has fewer than [`SMALL_MODEL_PARAMETERS`].
    pub fn is_small(&self) -> bool {
        self.parameter_count() < SMALL_MODEL_PARAMETERS
    }

    /// This model with, behind its own layers, copies of the layers at the positions `kept` of `adapted`, which is
    /// this model with an adapter. Both are then sets of layers of one model, and weights that they share are in
    /// memory once.
    ///
    /// # Errors
    /// A [`Fault`] where the adapter changes the embedding, the last norm or the head, which both would share.
    pub fn with_adapted_layers(&self, adapted: &Model, kept: &LayerSet<LayerPosition>) -> Result<Self> {
        let parts = [
            (&self.embedding, &adapted.embedding, "the embedding"),
            (&self.norm, &adapted.norm, "the last norm"),
            (self.head(), adapted.head(), "the head"),
        ];
        if let Some((_, _, part)) = parts.into_iter().find(|(own, other, _)| !own.shares_values_with(other)) {
            return Err(Fault::new(format!("the adapter changes {part}, which the model without it would share"))
                .expected("an adapter on decoder layers alone, where both are evaluated together")
                .got(format!("other values of {part}"))
                .hint("evaluate each by itself: `lopper eval` with --adapter, and without, but not --compare")
                .into());
        }
        let mut both = self.clone();
        both.layers.extend(kept.indices().map(|layer| adapted.layers[layer].clone()));
        both.config.layers.extend(kept.indices().map(|layer| self.config.layers[layer]));
        both.config.num_hidden_layers = both.layers.len();
        Ok(both)
    }

    /// The model that keeps only the layers at the positions `kept`, renumbered; shares all weights.
    ///
    /// # Panics
    /// If the model does not have one of them.
    pub fn keep(&self, kept: &LayerSet<LayerPosition>) -> Self {
        let layers = kept.indices().map(|layer| self.layers[layer].clone()).collect();
        Self { layers, config: self.config.keep(kept), ..self.clone() }
    }
}
