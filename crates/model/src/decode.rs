//! The decoding step of a small model: one new token for each of several sequences.
//!
//! The same arithmetic as the forward pass of a layer, with the weights repacked once
//! ([`crate::kernels::packed`]) and every buffer reused. It runs on the calling thread and holds a
//! second copy of the weights, so it is for models whose batches are shared out over the threads;
//! a large model decodes through [`Model::hidden_states`]. Adapters are folded into the copy.

use crate::block::{norm_of, qkv_sizes};
use crate::cache::{LayerCache, SequenceCache};
use crate::config::Config;
use crate::kernels::attention::Heads;
use crate::kernels::decode::cached_attention;
use crate::kernels::packed::Packed;
use crate::kernels::{activation, add_assign, add_scaled};
use crate::linear::Linear;
use crate::model::Model;
use crate::param::Param;
use anyhow::{Result, ensure};

/// A projection in packed form.
#[derive(Debug)]
struct Projection {
    weight: Packed,
    bias: Option<Param>,
}

impl Projection {
    fn new(linear: &Linear) -> Self {
        let mut linear = linear.clone();
        linear.merge();
        Self::of_merged(linear)
    }

    fn of_merged(linear: Linear) -> Self {
        let weight = Packed::new(&linear.weight.data, linear.inputs(), linear.outputs());
        Self { weight, bias: linear.bias }
    }

    fn forward(&self, x: &[f32], y: &mut Vec<f32>) {
        self.weight.product(x, y);
        if let Some(bias) = &self.bias {
            y.chunks_exact_mut(self.weight.outputs()).for_each(|row| add_assign(row, &bias.data));
        }
    }
}

impl Projection {
    /// The product and, where there is one, its norm.
    fn normed(&self, config: &Config, weight: &Option<Param>, x: &[f32], raw: &mut Vec<f32>, y: &mut Vec<f32>) {
        match weight {
            None => self.forward(x, y),
            Some(weight) => {
                self.forward(x, raw);
                y.resize(raw.len(), 0.0);
                norm_of(config, weight).forward(raw, y);
            }
        }
    }
}

#[derive(Debug)]
struct PackedLayer {
    q: Projection,
    k: Projection,
    v: Projection,
    o: Projection,
    gate: Projection,
    up: Projection,
    down: Projection,
}

/// A model prepared for decoding; serves every list of kept layers.
#[derive(Debug)]
pub struct Decoder {
    model: Model,
    layers: Vec<PackedLayer>,
    head: Packed,
}

/// Buffers of one thread's decoding, kept from step to step.
#[derive(Debug, Default)]
pub struct DecodeWorkspace {
    positions: Vec<u32>,
    x: Vec<f32>,
    normed: Vec<f32>,
    raw: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    out: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    scores: Vec<f32>,
    /// Logits of the last step, `[sequences, vocab]`.
    pub logits: Vec<f32>,
}

impl Decoder {
    /// Packs the weights of all layers and of the head.
    pub fn new(model: &Model) -> Self {
        let layers = model
            .layers
            .iter()
            .map(|layer| {
                let [q, k, v] = layer.qkv.separated(qkv_sizes(&model.config)).map(Projection::of_merged);
                let width = model.config.intermediate_size;
                let [gate, up] = layer.gate_up.separated([width; 2]).map(Projection::of_merged);
                PackedLayer { q, k, v, o: Projection::new(&layer.o), gate, up, down: Projection::new(&layer.down) }
            })
            .collect();
        let head = model.head();
        let head = Packed::new(&head.data, head.cols, head.rows);
        Self { model: model.clone(), layers, head }
    }

    /// Appends `tokens[i]` to the sequence of `caches[i]` and leaves the logits after it in
    /// `work.logits`. A cache has as many slots as `kept` has layers.
    pub fn step(
        &self,
        tokens: &[u32],
        kept: &[usize],
        caches: &mut [&mut SequenceCache],
        work: &mut DecodeWorkspace,
    ) -> Result<()> {
        let model = &self.model;
        model.check(tokens, kept)?;
        ensure!(caches.len() == tokens.len(), "one cache per sequence");
        ensure!(caches.iter().all(|c| c.layers.len() == kept.len()), "a cache belongs to one list of kept layers");
        work.positions.clear();
        work.positions.extend(caches.iter().map(|c| c.len as u32));
        let ropes: Vec<_> = model.ropes.iter().map(|rope| rope.last_rows(&work.positions)).collect();
        model.embed(tokens, &mut work.x);
        let config = &model.config;
        for (slot, &index) in kept.iter().enumerate() {
            let (layer, packed) = (&model.layers[index], &self.layers[index]);
            let DecodeWorkspace { x, normed, raw, q, k, v, attended, out, gate, up, scores, .. } = work;
            maybe_norm(config, &layer.norms.before_attention, x, normed);
            for (projection, weight, y) in [(&packed.q, &layer.q_norm, &mut *q), (&packed.k, &layer.k_norm, &mut *k)] {
                projection.normed(config, weight, normed, raw, y);
                if let Some(rope) = layer.kind.rope {
                    ropes[rope].apply(y, config.head_dim, false);
                }
            }
            packed.v.forward(normed, v);
            attended.resize(q.len(), 0.0);
            let slots = caches.iter_mut().map(|c| &mut c.layers[slot]);
            attend(Heads::of(config, layer.kind), slots, (q, k, v), attended, scores);
            packed.o.normed(config, &layer.norms.after_attention, attended, raw, out);
            add_scaled(out, config.residual_scale, x);
            std::mem::swap(x, out);
            maybe_norm(config, &layer.norms.before_mlp, x, normed);
            packed.gate.forward(normed, gate);
            packed.up.forward(normed, up);
            let wide = attended;
            wide.resize(gate.len(), 0.0);
            activation::gated(config.activation, gate, up, wide);
            packed.down.normed(config, &layer.norms.after_mlp, wide, raw, out);
            add_scaled(out, config.residual_scale, x);
            std::mem::swap(x, out);
        }
        for cache in caches.iter_mut() {
            cache.len += 1;
        }
        self.logits(work);
        Ok(())
    }

    fn logits(&self, work: &mut DecodeWorkspace) {
        work.normed.resize(work.x.len(), 0.0);
        norm_of(&self.model.config, &self.model.norm).forward(&work.x, &mut work.normed);
        self.head_of(&work.normed, &mut work.logits);
    }

    fn head_of(&self, normed: &[f32], logits: &mut Vec<f32>) {
        self.head.product(normed, logits);
        let head = self.model.output_head();
        if head.scale != 1.0 {
            logits.iter_mut().for_each(|logit| *logit *= head.scale);
        }
        head.cap(logits);
    }

    /// Logits `[rows, vocab]` of the given rows of packed hidden states: the same sums as in a step.
    pub fn logits_of(&self, hidden: &[f32], rows: impl IntoIterator<Item = usize>) -> Vec<f32> {
        let normed = self.model.normed_rows(hidden, rows);
        let mut logits = Vec::new();
        self.head_of(&normed, &mut logits);
        logits
    }
}

fn maybe_norm(config: &Config, weight: &Option<Param>, x: &[f32], y: &mut Vec<f32>) {
    y.resize(x.len(), 0.0);
    match weight {
        Some(weight) => norm_of(config, weight).forward(x, y),
        None => y.copy_from_slice(x),
    }
}

/// Appends each sequence's key and value row to its cache and attends to what the layer sees.
fn attend<'a>(
    heads: Heads,
    caches: impl Iterator<Item = &'a mut LayerCache>,
    (q, k, v): (&[f32], &[f32], &[f32]),
    attended: &mut [f32],
    scores: &mut Vec<f32>,
) {
    let (q_row, kv_row) = (heads.query * heads.dim, heads.key_value * heads.dim);
    let rows = q.chunks_exact(q_row).zip(k.chunks_exact(kv_row)).zip(v.chunks_exact(kv_row));
    for ((cache, ((q, k), v)), out) in caches.zip(rows).zip(attended.chunks_exact_mut(q_row)) {
        cache.append(k, v, kv_row);
        cached_attention(q, &cache.keys, &cache.values, heads, out, scores);
    }
}
