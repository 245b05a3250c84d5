//! Running forward, as opposed to training: a model prepared for it, and one layer at a time over
//! any rows, so that whoever drives it decides which candidate, text or step goes through a layer
//! together with which others.
//!
//! A row's result depends on its own text alone: not on the rows beside it, the order, the batch or
//! the number of threads. Weights are used as they are stored ([`crate::kernels::rows`]), or, for
//! models so small that every product is over before it has begun, repacked once
//! ([`crate::kernels::packed`]). Adapters are folded into a repacked weight and applied beside a
//! stored one.
//!
//! Not covered: devices other than the CPU, keys and values in less than 32 bits, forgetting keys
//! that have left a window.

mod attention;
mod head;
mod map;

use crate::batch::Batch;
use crate::block::{norm_of, qkv_sizes};
use crate::cache::{LayerCache, SequenceCache};
use crate::config::Config;
use crate::kernels::attention::Heads;
use crate::kernels::rope::RopeRows;
use crate::kernels::rows::Precision;
use crate::kernels::{Par, activation, add_scaled};
use crate::model::{Model, Tap};
use crate::param::Param;
use anyhow::{Result, ensure};
use map::{Layouts, Map, apply};
use rayon::prelude::*;

pub use head::{Target, TokenLogprob};
pub use map::Pack;

#[derive(Debug)]
struct ForwardLayer {
    qkv: Vec<Map>,
    o: Map,
    gate_up: Vec<Map>,
    down: Map,
}

impl ForwardLayer {
    fn maps(&self) -> impl Iterator<Item = &Map> {
        self.qkv.iter().chain([&self.o]).chain(&self.gate_up).chain([&self.down])
    }
}

/// A model prepared for running forward; serves every list of kept layers.
#[derive(Debug)]
pub struct Forward {
    model: Model,
    layers: Vec<ForwardLayer>,
    head: Map,
    precision: Precision,
}

/// Buffers of one thread, kept from call to call.
#[derive(Debug, Default)]
pub struct Workspace {
    rows: Layouts,
    normed: Vec<f32>,
    raw: Vec<f32>,
    q: Vec<f32>,
    /// Keys of the last layer that ran, turned: `[n, key_value_heads·head_dim]`.
    pub k: Vec<f32>,
    /// Values of the last layer that ran, shaped like the keys.
    pub v: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    middle: Vec<f32>,
    scores: Vec<f32>,
}

/// Tokens on their way through the layers: a batch, and how its positions are turned.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The tokens.
    pub batch: Batch,
    ropes: Vec<RopeRows>,
}

impl Reading {
    /// The given sequences alone, of a batch in which none continues another.
    pub fn subset(&self, sequences: &[usize]) -> Self {
        let mut batch = Batch { bounds: vec![0], ..Batch::default() };
        let mut rows = Vec::new();
        for &sequence in sequences {
            let range = self.batch.bounds[sequence]..self.batch.bounds[sequence + 1];
            batch.tokens.extend_from_slice(&self.batch.tokens[range.clone()]);
            batch.positions.extend_from_slice(&self.batch.positions[range.clone()]);
            batch.bounds.push(batch.tokens.len());
            rows.push(range);
        }
        Self { batch, ropes: self.ropes.iter().map(|rope| rope.gather(&rows)).collect() }
    }
}

/// Where the tokens before those of a batch are.
pub enum Past<'a, 'b> {
    /// In the batch itself: sequences begin their texts or continue others of the batch.
    Batch,
    /// In a cache for each sequence, to which the new tokens are appended.
    Caches(&'a mut [&'b mut LayerCache]),
}

impl Forward {
    /// Prepares `model`. Repacked weights take a second copy of them.
    pub fn new(model: &Model, pack: Pack, precision: Precision) -> Self {
        let config = &model.config;
        let width = config.intermediate_size;
        let layers = model
            .layers
            .iter()
            .map(|layer| ForwardLayer {
                qkv: Map::of_projections(&layer.qkv, qkv_sizes(config), pack),
                o: Map::new(&layer.o, pack),
                gate_up: Map::of_projections(&layer.gate_up, [width; 2], pack),
                down: Map::new(&layer.down, pack),
            })
            .collect();
        let head = Map::of_matrix(model.head(), pack);
        Self { model: model.clone(), layers, head, precision }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    fn config(&self) -> &Config {
        &self.model.config
    }

    /// Prepares the tokens of a batch.
    pub fn reading(&self, batch: Batch) -> Reading {
        let ropes = self.model.rope_rows(&batch);
        Reading { batch, ropes }
    }

    /// The embedding of `tokens`, `[n, hidden]`.
    pub fn embed(&self, tokens: &[u32], out: &mut Vec<f32>) {
        self.model.embed(tokens, out);
        self.model.embedding.release();
    }

    /// Runs all kept layers, one after another, over one batch: see [`Model::hidden_states`].
    pub fn hidden_states(
        &self,
        batch: &Batch,
        kept: &[usize],
        par: Par,
        mut caches: Option<&mut [&mut SequenceCache]>,
        mut tap: Option<&mut Tap<'_>>,
    ) -> Result<Vec<f32>> {
        self.model.check(&batch.tokens, kept)?;
        if let Some(caches) = &caches {
            ensure!(caches.len() == batch.sequences(), "one cache per sequence");
            ensure!(caches.iter().all(|c| c.layers.len() == kept.len()), "a cache belongs to one list of kept layers");
        }
        let reading = self.reading(batch.clone());
        let (mut work, mut x, mut out) = (Workspace::default(), Vec::new(), Vec::new());
        self.embed(&batch.tokens, &mut x);
        if let Some(tap) = tap.as_mut() {
            tap(0, &x);
        }
        for (slot, &layer) in kept.iter().enumerate() {
            match caches.as_deref_mut() {
                None => self.layer(layer, &reading, &x, Past::Batch, par, &mut work, &mut out),
                Some(caches) => {
                    let mut slots: Vec<_> = caches.iter_mut().map(|c| &mut c.layers[slot]).collect();
                    self.layer(layer, &reading, &x, Past::Caches(&mut slots), par, &mut work, &mut out);
                }
            }
            self.release_layer(layer);
            std::mem::swap(&mut x, &mut out);
            if let Some(tap) = tap.as_mut() {
                tap(slot + 1, &x);
            }
        }
        if let Some(caches) = caches {
            for (cache, w) in caches.iter_mut().zip(batch.bounds.windows(2)) {
                cache.len += w[1] - w[0];
            }
        }
        Ok(x)
    }

    /// Gives back the pages of a layer of a streamed model.
    pub fn release_layer(&self, index: usize) {
        self.layers[index].maps().for_each(Map::release);
    }

    /// Runs the layer `index` over the hidden states `x`, `[n, hidden]`, of a reading.
    #[allow(clippy::too_many_arguments, reason = "operands are passed one by one")]
    pub fn layer(
        &self,
        index: usize,
        reading: &Reading,
        x: &[f32],
        past: Past<'_, '_>,
        par: Par,
        work: &mut Workspace,
        out: &mut Vec<f32>,
    ) {
        let config = self.config();
        let (layer, maps) = (&self.model.layers[index], &self.layers[index]);
        let Workspace { rows, normed, raw, q, k, v, attended, gate, up, middle, scores } = work;
        assert_eq!(x.len(), reading.batch.len() * config.hidden_size, "layer: shapes disagree");
        let run = |maps: &[Map], x: &[f32], outs: &mut [&mut Vec<f32>], rows: &mut Layouts| {
            apply(maps, x, outs, par, self.precision, rows);
        };

        maybe_norm(par, config, layer.norms.before_attention.as_ref(), x, normed);
        run(&maps.qkv, normed, &mut [&mut *q, &mut *k, &mut *v], rows);
        for (norm, y) in [(&layer.q_norm, &mut *q), (&layer.k_norm, &mut *k)] {
            if let Some(weight) = norm {
                raw.resize(y.len(), 0.0);
                norm_of(config, weight).forward(y, raw);
                std::mem::swap(y, raw);
            }
            if let Some(rope) = layer.kind.rope {
                reading.ropes[rope].apply(y, config.head_dim, false);
            }
        }
        attended.resize(q.len(), 0.0);
        attention::attend(par, Heads::of(config, layer.kind), &reading.batch, (q, k, v), past, attended, scores);
        run(std::slice::from_ref(&maps.o), attended, &mut [&mut *middle], rows);
        self.close(par, layer.norms.after_attention.as_ref(), middle, raw, x);

        maybe_norm(par, config, layer.norms.before_mlp.as_ref(), middle, normed);
        run(&maps.gate_up, normed, &mut [&mut *gate, &mut *up], rows);
        let wide = attended;
        wide.resize(gate.len(), 0.0);
        let piece = piece(par, gate.len(), config.intermediate_size);
        if piece < gate.len() {
            let operands = gate.par_chunks(piece).zip(up.par_chunks(piece));
            wide.par_chunks_mut(piece).zip(operands).for_each(|(wide, (gate, up))| {
                activation::gated(config.activation, gate, up, wide);
            });
        } else {
            activation::gated(config.activation, gate, up, wide);
        }
        run(std::slice::from_ref(&maps.down), wide, &mut [&mut *out], rows);
        self.close(par, layer.norms.after_mlp.as_ref(), out, raw, middle);
    }

    /// The end of a branch: its norm, where there is one, and the residual stream it is added to.
    fn close(&self, par: Par, norm: Option<&Param>, y: &mut Vec<f32>, raw: &mut Vec<f32>, residual: &[f32]) {
        if norm.is_some() {
            maybe_norm(par, self.config(), norm, y, raw);
            std::mem::swap(y, raw);
        }
        add_scaled(y, self.config().residual_scale, residual);
    }
}

/// `x` normed, or as it is where there is no norm.
fn maybe_norm(par: Par, config: &Config, weight: Option<&Param>, x: &[f32], y: &mut Vec<f32>) {
    y.resize(x.len(), 0.0);
    let Some(weight) = weight else { return y.copy_from_slice(x) };
    let norm = norm_of(config, weight);
    let piece = piece(par, x.len(), weight.len());
    if piece < x.len() {
        y.par_chunks_mut(piece).zip(x.par_chunks(piece)).for_each(|(y, x)| norm.forward(x, y));
    } else {
        norm.forward(x, y);
    }
}

/// Values of whole rows of `width` that a thread takes of an operation on each value.
fn piece(par: Par, len: usize, width: usize) -> usize {
    // Below this, waking a thread costs more than it saves.
    const LEAST: usize = 1 << 16;
    (len / width).div_ceil(par.threads()) * width.max(1).max(LEAST.min(len))
}
