//! The decoder again, composed of stock differentiable candle operations: the same function as
//! [`Model`], with gradients by candle's own tape. A second, independent derivation of every gradient,
//! which the hand-written backward pass is compared with.
//!
//! Not covered: the key/value cache, dropout in adapters, reduced precision, checkpointing, and
//! logits in chunks (a batch's logits are held whole).

use crate::layout::Layout;
use crate::ops;
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor, Var};
use lopper_model::linear::Linear;
use lopper_model::param::Param;
use lopper_model::tensors::NormNames;
use lopper_model::{Batch, Config, Layer, LayerKind, Model, QkNorm, TrainBatch};
use lopper_record::{LayerSet, LayerSlot};
use std::collections::HashMap;

/// Called with the number of layers done (0 = the embedding) and the hidden states `[n, hidden]`,
/// as [`lopper_model::Tap`], but with tensors that stay on the tape.
pub type ComposedTap<'a> = dyn FnMut(usize, &Tensor) -> Result<()> + 'a;

/// A decoder whose weights are candle tensors (`f32`, CPU).
#[derive(Debug, Clone)]
pub struct ComposedModel {
    config: Config,
    embedding: Tensor,
    layers: Vec<ComposedLayer>,
    norm: Tensor,
    head: Option<Tensor>,
    variables: Vec<(String, Var)>,
}

#[derive(Debug, Clone)]
struct ComposedLayer {
    kind: LayerKind,
    before_attention: Option<Tensor>,
    after_attention: Option<Tensor>,
    before_mlp: Option<Tensor>,
    after_mlp: Option<Tensor>,
    /// Three maps, or one that holds them all.
    qkv: Vec<ComposedLinear>,
    o: ComposedLinear,
    q_norm: Option<Tensor>,
    k_norm: Option<Tensor>,
    /// Two maps, or one that holds both.
    gate_up: Vec<ComposedLinear>,
    down: ComposedLinear,
}

#[derive(Debug, Clone)]
struct ComposedLinear {
    weight: Tensor,
    bias: Option<Tensor>,
    /// `lora_A`, `lora_B` and the scale.
    adapter: Option<(Tensor, Tensor, f64)>,
}

impl ComposedModel {
    /// Copies the weights of `model`, each of which becomes a variable (see [`ComposedModel::variables`]).
    pub fn new(model: &Model) -> Result<Self> {
        let mut tensors = HashMap::new();
        let mut variables = Vec::new();
        for (name, param) in model.parameters() {
            let variable = Var::from_tensor(&tensor(&name, &param)?)?;
            tensors.insert(name.clone(), variable.as_tensor().clone());
            variables.push((name, variable));
        }
        let mut take = |name: String| tensors.remove(&name).with_context(|| format!("no parameter `{name}`"));
        let mut layers = Vec::with_capacity(model.layers.len());
        for (index, layer) in model.layers.iter().enumerate() {
            layers.push(ComposedLayer::new(layer, &model.config, &format!("model.layers.{index}."), &mut take)?);
        }
        Ok(Self {
            config: model.config.clone(),
            embedding: take("model.embed_tokens.weight".into())?,
            layers,
            norm: take("model.norm.weight".into())?,
            head: model.head.is_some().then(|| take("lm_head.weight".into())).transpose()?,
            variables,
        })
    }

    /// All parameters with their checkpoint names, in [`Model::visit_mut`]'s order.
    pub fn variables(&self) -> &[(String, Var)] {
        &self.variables
    }

    /// Hidden states after the last kept layer, before the final norm: `[n, hidden]`, packed.
    pub fn hidden_states(
        &self,
        batch: &Batch,
        kept: &LayerSet<LayerSlot>,
        mut tap: Option<&mut ComposedTap<'_>>,
    ) -> Result<Tensor> {
        let (vocab, layers) = (self.config.vocab_size, self.layers.len());
        ensure!(batch.tokens.iter().all(|t| (*t as usize) < vocab), "a token id outside the vocabulary of {vocab}");
        ensure!(kept.indices().all(|l| l < layers), "layers {kept} of a model that has {layers}");
        let layout = Layout::new(batch, &self.config)?;
        let tokens = Tensor::new(batch.tokens.as_slice(), &Device::Cpu)?;
        let mut x = (self.embedding.index_select(&tokens, 0)? * f64::from(self.config.embedding_scale))?;
        if let Some(tap) = tap.as_mut() {
            tap(0, &x)?;
        }
        for (slot, layer) in kept.indices().enumerate() {
            x = self.layers[layer].forward(&x, &layout, &self.config)?;
            if let Some(tap) = tap.as_mut() {
                tap(slot + 1, &x)?;
            }
        }
        Ok(x)
    }

    /// Logits `[n, vocab]` of every packed row.
    pub fn forward(&self, batch: &Batch, kept: &LayerSet<LayerSlot>) -> Result<Tensor> {
        self.logits(&self.hidden_states(batch, kept, None)?)
    }

    /// Logits `[rows, vocab]` of rows of [`ComposedModel::hidden_states`].
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let (c, head) = (&self.config, self.head.as_ref().unwrap_or(&self.embedding));
        let normed = ops::rms_norm(hidden, &self.norm, f64::from(c.norm_offset), c.rms_norm_eps)?;
        let logits = (normed.matmul(&head.t()?)? * f64::from(c.logit_scale))?;
        Ok(ops::soft_cap(logits, c.logit_softcap.map(f64::from))?)
    }

    /// Σ scale·weight·(−log p(target)), a scalar, as [`Model::loss_and_gradients`] computes it; its
    /// `backward()` gives the gradient of every variable in a kept layer.
    pub fn loss(&self, data: &TrainBatch, kept: &LayerSet<LayerSlot>, scale: f64) -> Result<Tensor> {
        let (n, vocab) = (data.batch.len(), self.config.vocab_size);
        ensure!(data.targets.len() == n && data.weights.len() == n, "one target per row");
        ensure!(data.targets.iter().all(|t| (*t as usize) < vocab), "a target outside the vocabulary of {vocab}");
        let rows: Vec<u32> = (0..n).filter(|r| data.weights[*r] != 0.0).map(|r| r as u32).collect();
        ensure!(!rows.is_empty(), "no row carries any weight");
        let targets: Vec<u32> = rows.iter().map(|r| data.targets[*r as usize]).collect();
        let weights: Vec<f32> = rows.iter().map(|r| data.weights[*r as usize]).collect();
        let hidden = self.hidden_states(&data.batch, kept, None)?;
        let hidden = hidden.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?;
        let logprobs = ops::log_softmax(&self.logits(&hidden)?)?;
        let targets = Tensor::new(targets, &Device::Cpu)?.unsqueeze(1)?;
        let weights = Tensor::new(weights, &Device::Cpu)?;
        let picked = logprobs.gather(&targets, 1)?.squeeze(1)?;
        Ok(((picked * weights)?.sum_all()? * -scale)?)
    }
}

impl ComposedLayer {
    fn new(
        layer: &Layer,
        config: &Config,
        prefix: &str,
        take: &mut impl FnMut(String) -> Result<Tensor>,
    ) -> Result<Self> {
        let mut linear = |name: &str, linear: &Linear| -> Result<ComposedLinear> {
            let mut part = |part: &str| take(format!("{prefix}{name}.{part}"));
            let adapter = match &linear.lora {
                None => None,
                Some(lora) => Some((part("lora_A.weight")?, part("lora_B.weight")?, f64::from(lora.scale))),
            };
            let bias = linear.bias.is_some().then(|| part("bias")).transpose()?;
            Ok(ComposedLinear { weight: part("weight")?, bias, adapter })
        };
        let mut layer = layer.clone();
        let mut named = Vec::new();
        for (name, map) in layer.linears_mut() {
            named.push((name, linear(name, map)?));
        }
        let mut take_named = |names: &[&str]| -> Vec<ComposedLinear> {
            let (taken, left) = named.drain(..).partition(|(name, _)| names.contains(name));
            named = left;
            let taken: Vec<(&str, ComposedLinear)> = taken;
            taken.into_iter().map(|(_, map)| map).collect()
        };
        let qkv = take_named(&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.qkv_proj"]);
        let gate_up = take_named(&["mlp.gate_proj", "mlp.up_proj", "mlp.gate_up_proj"]);
        let one = |mut maps: Vec<ComposedLinear>| maps.pop().context("a layer lacks a projection");
        let (o, down) = (one(take_named(&["self_attn.o_proj"]))?, one(take_named(&["mlp.down_proj"]))?);
        let mut norm = |name: Option<&str>, there: bool| match name.filter(|_| there) {
            Some(name) => take(format!("{prefix}{name}.weight")).map(Some),
            None => Ok(None),
        };
        let (names, norms) = (NormNames::of(config.norm_placement), &layer.norms);
        Ok(Self {
            kind: layer.kind,
            before_attention: norm(names.before_attention, norms.before_attention.is_some())?,
            after_attention: norm(names.after_attention, norms.after_attention.is_some())?,
            before_mlp: norm(names.before_mlp, norms.before_mlp.is_some())?,
            after_mlp: norm(names.after_mlp, norms.after_mlp.is_some())?,
            q_norm: norm(Some("self_attn.q_norm"), layer.q_norm.is_some())?,
            k_norm: norm(Some("self_attn.k_norm"), layer.k_norm.is_some())?,
            qkv,
            o,
            gate_up,
            down,
        })
    }

    fn forward(&self, x: &Tensor, layout: &Layout, config: &Config) -> candle_core::Result<Tensor> {
        let d = config.head_dim;
        let norm = |x: Tensor, weight: Option<&Tensor>| match weight {
            Some(weight) => ops::rms_norm(&x, weight, f64::from(config.norm_offset), config.rms_norm_eps),
            None => Ok(x),
        };
        let heads = |x: Tensor, count: usize| x.reshape((layout.rows, count, d));
        // A weight as wide as a head norms each head, a wider one all of them together.
        let rotated = |x: Tensor, weight: Option<&Tensor>, count: usize| -> candle_core::Result<Tensor> {
            let x = match config.qk_norm {
                QkNorm::Head => norm(heads(x, count)?, weight)?,
                _ => heads(norm(x, weight)?, count)?,
            };
            let x = match self.kind.rope {
                Some(rope) => ops::rotate(&x, &layout.ropes[rope])?,
                None => x,
            };
            layout.pad(&x)
        };
        let normed = norm(x.clone(), self.before_attention.as_ref())?;
        let [q, k, v] =
            project(&self.qkv, &normed, [config.query_size(), config.key_value_size(), config.key_value_size()])?;
        let q = rotated(q, self.q_norm.as_ref(), config.num_attention_heads)?;
        let k = rotated(k, self.k_norm.as_ref(), config.num_key_value_heads)?;
        let v = layout.pad(&heads(v, config.num_key_value_heads)?)?;
        let scale = (f64::from(config.attention_scale), config.attention_softcap.map(f64::from));
        let attended = ops::attention(&q, &k, &v, layout.mask(self.kind)?, scale)?;
        let added = norm(self.o.forward(&layout.pack(&attended)?)?, self.after_attention.as_ref())?;
        let residual = f64::from(config.residual_scale);
        let middle = (x + (added * residual)?)?;
        let normed = norm(middle.clone(), self.before_mlp.as_ref())?;
        let [gate, up] = project(&self.gate_up, &normed, [config.intermediate_size; 2])?;
        let wide = ops::gated(config.activation, &gate, &up)?;
        let added = norm(self.down.forward(&wide)?, self.after_mlp.as_ref())?;
        middle + (added * residual)?
    }
}

/// The outputs of several maps of one input, which may be one matrix.
fn project<const N: usize>(maps: &[ComposedLinear], x: &Tensor, sizes: [usize; N]) -> candle_core::Result<[Tensor; N]> {
    let mut outputs = Vec::with_capacity(N);
    if let [fused] = maps {
        let (whole, mut from) = (fused.forward(x)?, 0);
        for size in sizes {
            outputs.push(whole.narrow(1, from, size)?.contiguous()?);
            from += size;
        }
    } else {
        for map in maps {
            outputs.push(map.forward(x)?);
        }
    }
    outputs.try_into().map_err(|_| candle_core::Error::Msg("another number of projections".into()))
}

impl ComposedLinear {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mut y = x.matmul(&self.weight.t()?)?;
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        if let Some((a, b, scale)) = &self.adapter {
            y = (y + (x.matmul(&a.t()?)?.matmul(&b.t()?)? * *scale)?)?;
        }
        Ok(y)
    }
}

/// Norms and biases become vectors, everything else a matrix, as in a checkpoint.
fn tensor(name: &str, param: &Param) -> candle_core::Result<Tensor> {
    let vector = name.ends_with("norm.weight") || name.ends_with(".bias");
    let shape = if vector { vec![param.len()] } else { vec![param.rows, param.cols] };
    Tensor::from_slice(&param.data, shape, &Device::Cpu)
}
