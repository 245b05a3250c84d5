//! The decoder again, composed of stock differentiable candle operations: the same function as
//! [`Model`], on any device, with gradients by candle's own tape.
//!
//! It exists for two reasons: to run where the CPU kernels do not (CUDA, Metal), and to be a second,
//! independent derivation of every gradient that the hand-written backward pass is tested against.
//! On the CPU it is slower and needs more memory than [`Model`]; nothing there uses it outside
//! tests.
//!
//! Not covered: the key/value cache, dropout in adapters, reduced precision, checkpointing, and
//! logits in chunks (a batch's logits are held whole).

mod layout;
mod ops;

use crate::batch::Batch;
use crate::block::Layer;
use crate::config::Config;
use crate::linear::Linear;
use crate::model::Model;
use crate::param::Param;
use crate::train::TrainBatch;
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor, Var};
use layout::Layout;
use std::collections::HashMap;
use std::sync::Arc;

/// Called with the number of layers done (0 = the embedding) and the hidden states `[n, hidden]`,
/// as [`crate::Tap`], but with tensors that stay on the device and on the tape.
pub type ComposedTap<'a> = dyn FnMut(usize, &Tensor) -> Result<()> + 'a;

/// A decoder whose weights are candle tensors (`f32`) on some device.
#[derive(Debug, Clone)]
pub struct ComposedModel {
    config: Config,
    device: Device,
    embedding: Tensor,
    layers: Vec<ComposedLayer>,
    norm: Tensor,
    head: Option<Tensor>,
    variables: Vec<(String, Var)>,
}

#[derive(Debug, Clone)]
struct ComposedLayer {
    input_norm: Tensor,
    q: ComposedLinear,
    k: ComposedLinear,
    v: ComposedLinear,
    o: ComposedLinear,
    q_norm: Option<Tensor>,
    k_norm: Option<Tensor>,
    post_norm: Tensor,
    gate: ComposedLinear,
    up: ComposedLinear,
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
    /// Copies the weights of `model` to `device`; nothing is trainable.
    pub fn new(model: &Model, device: &Device) -> Result<Self> {
        Self::trainable(model, device, |_| false)
    }

    /// Copies the weights of `model` to `device`; those whose checkpoint names `trainable` accepts
    /// become variables (see [`ComposedModel::variables`]).
    pub fn trainable(model: &Model, device: &Device, mut trainable: impl FnMut(&str) -> bool) -> Result<Self> {
        let mut tensors = HashMap::new();
        let mut variables = Vec::new();
        for (name, param) in model.parameters() {
            let tensor = upload(&name, &param, device)?;
            let tensor = if trainable(&name) {
                let variable = Var::from_tensor(&tensor)?;
                let tensor = variable.as_tensor().clone();
                variables.push((name.clone(), variable));
                tensor
            } else {
                tensor
            };
            tensors.insert(name, tensor);
        }
        let mut take = |name: String| tensors.remove(&name).with_context(|| format!("no parameter `{name}`"));
        let mut layers = Vec::with_capacity(model.layers.len());
        for (index, layer) in model.layers.iter().enumerate() {
            layers.push(ComposedLayer::new(layer, &format!("model.layers.{index}."), &mut take)?);
        }
        Ok(Self {
            config: model.config.clone(),
            device: device.clone(),
            embedding: take("model.embed_tokens.weight".into())?,
            layers,
            norm: take("model.norm.weight".into())?,
            head: model.head.is_some().then(|| take("lm_head.weight".into())).transpose()?,
            variables,
        })
    }

    /// The trainable parameters with their checkpoint names, in [`Model::visit_mut`]'s order.
    pub fn variables(&self) -> &[(String, Var)] {
        &self.variables
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Copies the values of the variables into the parameters of the same names in `model`.
    pub fn store_into(&self, model: &mut Model) -> Result<()> {
        let mut values = HashMap::new();
        for (name, variable) in &self.variables {
            values.insert(name.as_str(), variable.as_tensor().flatten_all()?.to_vec1::<f32>()?);
        }
        let mut result = Ok(());
        model.visit_mut(|name, param| {
            if let Some(values) = values.remove(name) {
                if values.len() == param.len() {
                    param.data = Arc::new(values);
                } else {
                    result = Err(anyhow::anyhow!("`{name}` has another shape"));
                }
            }
        });
        result?;
        ensure!(values.is_empty(), "parameters that the model lacks: {:?}", values.keys());
        Ok(())
    }

    /// Hidden states after the last kept layer, before the final norm: `[n, hidden]`, packed.
    pub fn hidden_states(
        &self,
        batch: &Batch,
        kept: &[usize],
        mut tap: Option<&mut ComposedTap<'_>>,
    ) -> Result<Tensor> {
        let (vocab, layers) = (self.config.vocab_size, self.layers.len());
        ensure!(batch.tokens.iter().all(|t| (*t as usize) < vocab), "a token id outside the vocabulary of {vocab}");
        ensure!(kept.iter().all(|l| *l < layers), "kept layers {kept:?} of a model that has {layers}");
        let layout = Layout::new(batch, &self.config, &self.device)?;
        let tokens = Tensor::new(batch.tokens.as_slice(), &self.device)?;
        let mut x = self.embedding.index_select(&tokens, 0)?;
        if let Some(tap) = tap.as_mut() {
            tap(0, &x)?;
        }
        for (slot, &layer) in kept.iter().enumerate() {
            x = self.layers[layer].forward(&x, &layout, &self.config)?;
            if let Some(tap) = tap.as_mut() {
                tap(slot + 1, &x)?;
            }
        }
        Ok(x)
    }

    /// Logits `[n, vocab]` of every packed row.
    pub fn forward(&self, batch: &Batch, kept: &[usize]) -> Result<Tensor> {
        self.logits(&self.hidden_states(batch, kept, None)?)
    }

    /// Logits `[rows, vocab]` of rows of [`ComposedModel::hidden_states`].
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let normed = ops::rms_norm(hidden, &self.norm, self.config.rms_norm_eps)?;
        Ok(normed.matmul(&self.head.as_ref().unwrap_or(&self.embedding).t()?)?)
    }

    /// Σ scale·weight·(−log p(target)), a scalar, as [`Model::loss_and_gradients`] computes it; its
    /// `backward()` gives the gradient of every variable in a kept layer.
    pub fn loss(&self, data: &TrainBatch, kept: &[usize], scale: f64) -> Result<Tensor> {
        let (n, vocab) = (data.batch.len(), self.config.vocab_size);
        ensure!(data.targets.len() == n && data.weights.len() == n, "one target per row");
        ensure!(data.targets.iter().all(|t| (*t as usize) < vocab), "a target outside the vocabulary of {vocab}");
        let rows: Vec<u32> = (0..n).filter(|r| data.weights[*r] != 0.0).map(|r| r as u32).collect();
        ensure!(!rows.is_empty(), "no row carries any weight");
        let targets: Vec<u32> = rows.iter().map(|r| data.targets[*r as usize]).collect();
        let weights: Vec<f32> = rows.iter().map(|r| data.weights[*r as usize]).collect();
        let hidden = self.hidden_states(&data.batch, kept, None)?;
        let hidden = hidden.index_select(&Tensor::new(rows, &self.device)?, 0)?;
        let logprobs = ops::log_softmax(&self.logits(&hidden)?)?;
        let targets = Tensor::new(targets, &self.device)?.unsqueeze(1)?;
        let weights = Tensor::new(weights, &self.device)?;
        let picked = logprobs.gather(&targets, 1)?.squeeze(1)?;
        Ok(((picked * weights)?.sum_all()? * -scale)?)
    }
}

impl ComposedLayer {
    fn new(layer: &Layer, prefix: &str, take: &mut impl FnMut(String) -> Result<Tensor>) -> Result<Self> {
        let mut linear = |name: &str, linear: &Linear| -> Result<ComposedLinear> {
            let mut part = |part: &str| take(format!("{prefix}{name}.{part}"));
            let adapter = match &linear.lora {
                None => None,
                Some(lora) => Some((part("lora_A.weight")?, part("lora_B.weight")?, f64::from(lora.scale))),
            };
            let bias = linear.bias.is_some().then(|| part("bias")).transpose()?;
            Ok(ComposedLinear { weight: part("weight")?, bias, adapter })
        };
        let q = linear("self_attn.q_proj", &layer.q)?;
        let k = linear("self_attn.k_proj", &layer.k)?;
        let v = linear("self_attn.v_proj", &layer.v)?;
        let o = linear("self_attn.o_proj", &layer.o)?;
        let gate = linear("mlp.gate_proj", &layer.gate)?;
        let up = linear("mlp.up_proj", &layer.up)?;
        let down = linear("mlp.down_proj", &layer.down)?;
        let mut norm = |name: &str| take(format!("{prefix}{name}.weight"));
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            post_norm: norm("post_attention_layernorm")?,
            q_norm: layer.q_norm.is_some().then(|| norm("self_attn.q_norm")).transpose()?,
            k_norm: layer.k_norm.is_some().then(|| norm("self_attn.k_norm")).transpose()?,
            q,
            k,
            v,
            o,
            gate,
            up,
            down,
        })
    }

    fn forward(&self, x: &Tensor, layout: &Layout, config: &Config) -> candle_core::Result<Tensor> {
        let (eps, d) = (config.rms_norm_eps, config.head_dim);
        let heads = |x: Tensor, count: usize| x.reshape((layout.rows, count, d));
        let rotated = |x: Tensor, norm: Option<&Tensor>| -> candle_core::Result<Tensor> {
            let x = norm.map_or_else(|| Ok(x.clone()), |weight| ops::rms_norm(&x, weight, eps))?;
            layout.pad(&ops::rotate(&x, &layout.cos, &layout.sin)?)
        };
        let normed = ops::rms_norm(x, &self.input_norm, eps)?;
        let q = rotated(heads(self.q.forward(&normed)?, config.num_attention_heads)?, self.q_norm.as_ref())?;
        let k = rotated(heads(self.k.forward(&normed)?, config.num_key_value_heads)?, self.k_norm.as_ref())?;
        let v = layout.pad(&heads(self.v.forward(&normed)?, config.num_key_value_heads)?)?;
        let attended = ops::attention(&q, &k, &v, &layout.mask, f64::from(config.attention_scale))?;
        let middle = (x + self.o.forward(&layout.pack(&attended)?)?)?;
        let normed = ops::rms_norm(&middle, &self.post_norm, eps)?;
        let wide = ops::swiglu(&self.gate.forward(&normed)?, &self.up.forward(&normed)?)?;
        middle + self.down.forward(&wide)?
    }
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
fn upload(name: &str, param: &Param, device: &Device) -> Result<Tensor> {
    let vector = name.ends_with("norm.weight") || name.ends_with(".bias");
    let tensor = if vector {
        Tensor::from_slice(&param.data, param.len(), device)
    } else {
        Tensor::from_slice(&param.data, (param.rows, param.cols), device)
    };
    tensor.with_context(|| format!("copying `{name}`"))
}
