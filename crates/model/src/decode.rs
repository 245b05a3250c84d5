//! The decoding step of a small model: one new token for each of several sequences.
//!
//! The same arithmetic as the forward pass of a layer, with the weights repacked once
//! ([`crate::kernels::packed`]) and every buffer reused. It runs on the calling thread and holds a
//! second copy of the weights, so it is for models whose batches are shared out over the threads;
//! a large model decodes through [`Model::hidden_states`]. Adapters are folded into the copy.

use crate::cache::{LayerCache, SequenceCache};
use crate::kernels::attention::Heads;
use crate::kernels::decode::cached_attention;
use crate::kernels::packed::Packed;
use crate::kernels::{activation, add_assign, norm};
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
            .map(|layer| PackedLayer {
                q: Projection::new(&layer.q),
                k: Projection::new(&layer.k),
                v: Projection::new(&layer.v),
                o: Projection::new(&layer.o),
                gate: Projection::new(&layer.gate),
                up: Projection::new(&layer.up),
                down: Projection::new(&layer.down),
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
        let rope = model.rope_covering(work.positions.iter().max().map_or(0, |p| *p as usize + 1));
        model.embed(tokens, &mut work.x);
        for (slot, &index) in kept.iter().enumerate() {
            let (layer, packed) = (&model.layers[index], &self.layers[index]);
            let eps = model.config.rms_norm_eps as f32;
            let DecodeWorkspace { positions, x, normed, raw, q, k, v, attended, out, gate, up, scores, .. } = work;
            normed.resize(x.len(), 0.0);
            norm::rms_norm(x, &layer.input_norm.data, eps, normed);
            for (projection, weight, y) in [(&packed.q, &layer.q_norm, &mut *q), (&packed.k, &layer.k_norm, &mut *k)] {
                match weight {
                    None => projection.forward(normed, y),
                    Some(weight) => {
                        projection.forward(normed, raw);
                        y.resize(raw.len(), 0.0);
                        norm::rms_norm(raw, &weight.data, eps, y);
                    }
                }
                rope.apply(y, positions, false);
            }
            packed.v.forward(normed, v);
            attended.resize(q.len(), 0.0);
            let slots = caches.iter_mut().map(|c| &mut c.layers[slot]);
            attend(model, slots, (q, k, v), attended, scores);
            packed.o.forward(attended, out);
            add_assign(x, out);
            norm::rms_norm(x, &layer.post_norm.data, eps, normed);
            packed.gate.forward(normed, gate);
            packed.up.forward(normed, up);
            raw.resize(gate.len(), 0.0);
            activation::swiglu(gate, up, raw);
            packed.down.forward(raw, out);
            add_assign(x, out);
        }
        for cache in caches.iter_mut() {
            cache.len += 1;
        }
        self.logits(work);
        Ok(())
    }

    fn logits(&self, work: &mut DecodeWorkspace) {
        work.normed.resize(work.x.len(), 0.0);
        norm::rms_norm(&work.x, &self.model.norm.data, self.model.config.rms_norm_eps as f32, &mut work.normed);
        self.head.product(&work.normed, &mut work.logits);
    }

    /// Logits `[rows, vocab]` of the given rows of packed hidden states: the same sums as in a step.
    pub fn logits_of(&self, hidden: &[f32], rows: impl IntoIterator<Item = usize>) -> Vec<f32> {
        let normed = self.model.normed_rows(hidden, rows);
        let mut logits = Vec::new();
        self.head.product(&normed, &mut logits);
        logits
    }
}

/// Appends each sequence's key and value row to its cache and attends to all of them.
fn attend<'a>(
    model: &Model,
    caches: impl Iterator<Item = &'a mut LayerCache>,
    (q, k, v): (&[f32], &[f32], &[f32]),
    attended: &mut [f32],
    scores: &mut Vec<f32>,
) {
    let heads = Heads::of(&model.config);
    let (q_row, kv_row) = (heads.query * heads.dim, heads.key_value * heads.dim);
    let rows = q.chunks_exact(q_row).zip(k.chunks_exact(kv_row)).zip(v.chunks_exact(kv_row));
    for ((cache, ((q, k), v)), out) in caches.zip(rows).zip(attended.chunks_exact_mut(q_row)) {
        cache.append(k, v, kv_row);
        cached_attention(q, &cache.keys, &cache.values, heads, out, scores);
    }
}
