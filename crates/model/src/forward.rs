//! Running forward, as opposed to training: a model prepared for it, and one layer at a time over
//! any rows, so that whoever drives it decides which candidate, text or step goes through a layer
//! together with which others.
//!
//! A row's result depends on its own text alone: not on the other rows, the order, the batch or
//! the number of threads. Weights are used as they are stored ([`crate::kernels::rows`]), or, for
//! models so small that every product is over before it has begun, repacked once
//! ([`crate::kernels::packed_f32`]). Adapters are folded into a repacked weight and applied apart from a
//! stored one.
//!
//! Not covered: devices other than the CPU, keys and values in less than 16 bits.

mod attention;
mod head;
mod linear;

use crate::batch::Batch;
use crate::cache::{LayerCache, SequenceCache};
use crate::config::Config;
use crate::kernels::attention_infer::KvLayout;
use crate::kernels::bf16::Instructions;
use crate::kernels::rope::RopeRows;
use crate::kernels::{MatmulPrecision, Threads, activation, add_scaled};
use crate::layer::norm_of;
use crate::model::Model;
use crate::param::Param;
use linear::{Layouts, PreparedLinear, apply};
use lopper_record::{LayerIndex, LayerSet, LayerSlot, Result, ensure};

pub(crate) use attention::attend;
pub use head::{Target, TokenLogprob};
pub use linear::Pack;

/// Called with the number of layers done (0 = the embedding) and the hidden states, `[n, hidden]`
/// packed, at each boundary between kept layers.
pub type Tap<'a> = dyn FnMut(usize, &[f32]) + 'a;

#[derive(Debug)]
struct ForwardLayer {
    qkv: Vec<PreparedLinear>,
    o: PreparedLinear,
    gate_up: Vec<PreparedLinear>,
    down: PreparedLinear,
}

impl ForwardLayer {
    fn linears(&self) -> impl Iterator<Item = &PreparedLinear> {
        self.qkv.iter().chain([&self.o]).chain(&self.gate_up).chain([&self.down])
    }
}

/// A model prepared for running forward; serves every list of kept layers.
#[derive(Debug)]
pub struct Forward {
    model: Model,
    layers: Vec<ForwardLayer>,
    head: PreparedLinear,
    precision: MatmulPrecision,
}

/// Buffers of one thread, kept from call to call.
#[derive(Debug, Default)]
pub struct Workspace {
    rows: Layouts,
    normed: Vec<f32>,
    raw: Vec<f32>,
    q: Vec<f32>,
    /// Keys of the last layer that ran, rotated: `[n, key_value_heads·head_dim]`.
    pub k: Vec<f32>,
    /// Values of the last layer that ran, shaped like the keys.
    pub v: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// Hidden states between attention and MLP of the last layer that ran: `[n, hidden]`.
    pub middle: Vec<f32>,
    /// Keys and values as attention reads them.
    words: Vec<u32>,
}

/// Tokens on their way through the layers: a batch, and the cosines and sines of its positions.
#[derive(Debug, Clone, Default)]
pub struct PreparedBatch {
    /// The tokens.
    pub batch: Batch,
    ropes: Vec<RopeRows>,
}

impl PreparedBatch {
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
    pub fn new(model: &Model, pack: Pack, precision: MatmulPrecision) -> Self {
        let config = &model.config;
        let width = config.intermediate_size;
        let layers = model
            .layers
            .iter()
            .map(|layer| ForwardLayer {
                qkv: PreparedLinear::of_projections(&layer.qkv, config.qkv_sizes(), pack),
                o: PreparedLinear::new(&layer.o, pack),
                gate_up: PreparedLinear::of_projections(&layer.gate_up, [width; 2], pack),
                down: PreparedLinear::new(&layer.down, pack),
            })
            .collect();
        let head = PreparedLinear::of_matrix(model.head(), pack);
        Self { model: model.clone(), layers, head, precision }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    fn config(&self) -> &Config {
        &self.model.config
    }

    /// How keys and values are stored: in bf16 where products are in bf16 and the processor has instructions for it.
    pub fn kv_layout(&self) -> KvLayout {
        let config = self.config();
        let instructions = match self.precision {
            MatmulPrecision::F32 => None,
            MatmulPrecision::Bf16 => Instructions::best(),
        };
        KvLayout { heads: config.num_key_value_heads, dim: config.head_dim, instructions }
    }

    /// Prepares the tokens of a batch.
    pub fn prepare(&self, batch: Batch) -> PreparedBatch {
        let ropes = self.model.rope_rows(&batch);
        PreparedBatch { batch, ropes }
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
        kept: &LayerSet<LayerSlot>,
        threads: Threads,
        mut caches: Option<&mut [&mut SequenceCache]>,
        mut tap: Option<&mut Tap<'_>>,
    ) -> Result<Vec<f32>> {
        self.model.check_tokens(&batch.tokens)?;
        self.model.check_layers(kept)?;
        if let Some(caches) = &caches {
            ensure!(caches.len() == batch.sequences(), "one cache per sequence");
            ensure!(caches.iter().all(|c| c.layers.len() == kept.len()), "a cache belongs to one list of kept layers");
        }
        let prepared = self.prepare(batch.clone());
        let (mut work, mut x, mut out) = (Workspace::default(), Vec::new(), Vec::new());
        self.embed(&batch.tokens, &mut x);
        if let Some(tap) = tap.as_mut() {
            tap(0, &x);
        }
        for (done, layer) in kept.iter().enumerate() {
            match caches.as_deref_mut() {
                None => self.layer(layer, &prepared, &x, Past::Batch, threads, &mut work, &mut out),
                Some(caches) => {
                    let mut slots: Vec<_> = caches.iter_mut().map(|c| &mut c.layers[done]).collect();
                    self.layer(layer, &prepared, &x, Past::Caches(&mut slots), threads, &mut work, &mut out);
                }
            }
            self.release_layer(layer);
            std::mem::swap(&mut x, &mut out);
            if let Some(tap) = tap.as_mut() {
                tap(done + 1, &x);
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
    pub fn release_layer(&self, layer: LayerSlot) {
        self.layers[layer.index()].linears().for_each(PreparedLinear::release);
    }

    /// Runs one layer over the hidden states `x` of a batch, `[n, hidden]`, and writes its output into `out`, shaped
    /// alike.
    #[allow(clippy::too_many_arguments, reason = "operands are passed one by one")]
    pub fn layer(
        &self,
        layer: LayerSlot,
        batch: &PreparedBatch,
        x: &[f32],
        past: Past<'_, '_>,
        threads: Threads,
        work: &mut Workspace,
        out: &mut Vec<f32>,
    ) {
        self.mlp_output(layer, batch, x, past, threads, work, out);
        add_scaled(out, self.config().residual_scale, &work.middle);
    }

    /// As [`Forward::layer`] without the last addition: `out` is what the MLP gives, after its norm where there is one
    /// and before `residual_scale`; what it would be added to is in [`Workspace::middle`].
    #[allow(clippy::too_many_arguments, reason = "operands are passed one by one")]
    pub fn mlp_output(
        &self,
        layer: LayerSlot,
        batch: &PreparedBatch,
        x: &[f32],
        past: Past<'_, '_>,
        threads: Threads,
        work: &mut Workspace,
        out: &mut Vec<f32>,
    ) {
        let config = self.config();
        let (layer, linears) = (&self.model.layers[layer.index()], &self.layers[layer.index()]);
        let Workspace { rows, normed, raw, q, k, v, attended, gate, up, middle, words } = work;
        assert_eq!(x.len(), batch.batch.len() * config.hidden_size, "layer: shapes disagree");
        let run = |linears: &[PreparedLinear], x: &[f32], outs: &mut [&mut Vec<f32>], rows: &mut Layouts| {
            apply(linears, x, outs, threads, self.precision, rows);
        };

        maybe_norm(threads, config, layer.norms.before_attention.as_ref(), x, normed);
        run(&linears.qkv, normed, &mut [&mut *q, &mut *k, &mut *v], rows);
        for (norm, y) in [(&layer.q_norm, &mut *q), (&layer.k_norm, &mut *k)] {
            if let Some(weight) = norm {
                raw.resize(y.len(), 0.0);
                norm_of(config, weight).forward(y, raw);
                std::mem::swap(y, raw);
            }
            if let Some(rope) = layer.kind.rope {
                batch.ropes[rope].apply(y, config.head_dim, false);
            }
        }
        attended.resize(q.len(), 0.0);
        let (heads, layout) = (config.heads(layer.kind), self.kv_layout());
        attend(threads, heads, layout, &batch.batch, (q, k, v), past, attended, None, words);
        run(std::slice::from_ref(&linears.o), attended, &mut [&mut *middle], rows);
        self.norm_result(threads, layer.norms.after_attention.as_ref(), middle, raw);
        add_scaled(middle, config.residual_scale, x);

        maybe_norm(threads, config, layer.norms.before_mlp.as_ref(), middle, normed);
        run(&linears.gate_up, normed, &mut [&mut *gate, &mut *up], rows);
        let wide = attended;
        wide.resize(gate.len(), 0.0);
        let piece = piece(threads, gate.len(), config.intermediate_size);
        let operands = gate.chunks(piece).zip(up.chunks(piece));
        threads.for_each_of(wide.chunks_mut(piece).zip(operands).collect(), |(wide, (gate, up))| {
            activation::gated(config.activation, gate, up, wide);
        });
        run(std::slice::from_ref(&linears.down), wide, &mut [&mut *out], rows);
        self.norm_result(threads, layer.norms.after_mlp.as_ref(), out, raw);
    }

    /// The norm of what attention or MLP gives, where there is one.
    fn norm_result(&self, threads: Threads, norm: Option<&Param>, y: &mut Vec<f32>, raw: &mut Vec<f32>) {
        if norm.is_some() {
            maybe_norm(threads, self.config(), norm, y, raw);
            std::mem::swap(y, raw);
        }
    }
}

/// `x` normed, or as it is where there is no norm.
fn maybe_norm(threads: Threads, config: &Config, weight: Option<&Param>, x: &[f32], y: &mut Vec<f32>) {
    y.resize(x.len(), 0.0);
    let Some(weight) = weight else { return y.copy_from_slice(x) };
    let norm = norm_of(config, weight);
    let piece = piece(threads, x.len(), weight.len());
    threads.for_each_of(y.chunks_mut(piece).zip(x.chunks(piece)).collect(), |(y, x)| norm.forward(x, y));
}

/// Values of whole rows of `width` that a thread takes of an operation on each value.
fn piece(threads: Threads, len: usize, width: usize) -> usize {
    // Below this, handing a part to another thread costs more than it saves.
    let least: usize = if threads == Threads::Team { 1 << 13 } else { 1 << 16 };
    let width = width.max(1);
    (len / width).div_ceil(threads.count()).max(least.div_ceil(width)) * width
}

impl Model {
    /// Hidden states after the last kept layer, before the final norm: `[n, hidden]`, packed.
    ///
    /// `caches` (one per sequence, with as many slots as kept layers) makes the pass continue the
    /// sequences; `batch.positions` must then begin at each cache's length. For several passes,
    /// prepare the model once: [`Forward`].
    pub fn hidden_states(
        &self,
        batch: &Batch,
        kept: &LayerSet<LayerSlot>,
        threads: Threads,
        caches: Option<&mut [&mut SequenceCache]>,
        tap: Option<&mut Tap<'_>>,
    ) -> Result<Vec<f32>> {
        Forward::new(self, Pack::No, MatmulPrecision::F32).hidden_states(batch, kept, threads, caches, tap)
    }

    /// Applies the final norm to the given rows of packed hidden states.
    pub fn normed_rows(&self, hidden: &[f32], rows: impl IntoIterator<Item = usize>) -> Vec<f32> {
        Forward::new(self, Pack::No, MatmulPrecision::F32).normed_rows(hidden, rows)
    }

    /// Logits `[rows, vocab]` of hidden rows that went through [`Model::normed_rows`].
    pub fn logits(&self, normed: &[f32], threads: Threads) -> Vec<f32> {
        let mut logits = Vec::new();
        Forward::new(self, Pack::No, MatmulPrecision::F32).logits(threads, normed, &mut logits);
        logits
    }
}
