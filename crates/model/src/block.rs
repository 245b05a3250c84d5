//! One decoder layer: attention and gated MLP, each behind an RMSNorm and added to the residual
//! stream; forward, and a hand-written backward.
//!
//! The forward pass leaves in [`Activations`] what the backward pass needs; norms and the gated
//! activation are cheap and recomputed. A run that is not training reuses one set for all layers.

use crate::batch::Batch;
use crate::cache::LayerCache;
use crate::config::Config;
use crate::kernels::attention::{Heads, attention, attention_grad};
use crate::kernels::decode::cached_attention;
use crate::kernels::{Par, activation, add_assign, norm, rope::RopeTable};
use crate::linear::{Dropout, Linear};
use crate::param::{Gradients, Param};
use rayon::prelude::*;

/// Weights of one decoder layer. Cloning shares the values.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Norm before the attention.
    pub input_norm: Param,
    /// Query projection.
    pub q: Linear,
    /// Key projection.
    pub k: Linear,
    /// Value projection.
    pub v: Linear,
    /// Output projection of the attention.
    pub o: Linear,
    /// Norm over each query head.
    pub q_norm: Option<Param>,
    /// Norm over each key head.
    pub k_norm: Option<Param>,
    /// Norm before the MLP.
    pub post_norm: Param,
    /// Gate projection.
    pub gate: Linear,
    /// Up projection.
    pub up: Linear,
    /// Down projection.
    pub down: Linear,
}

/// What a layer's forward pass leaves for its backward pass.
#[derive(Debug, Default, Clone)]
pub(crate) struct Activations {
    /// Residual stream into the layer.
    pub x: Vec<f32>,
    q_raw: Vec<f32>,
    k_raw: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    /// Residual stream between attention and MLP.
    middle: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
}

/// Buffers that every layer overwrites.
#[derive(Debug, Default, Clone)]
pub(crate) struct Scratch {
    normed: Vec<f32>,
    wide: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    dnormed: Vec<f32>,
}

/// What stays the same for all layers of one pass.
pub(crate) struct Pass<'a> {
    pub config: &'a Config,
    pub rope: &'a RopeTable,
    pub batch: &'a Batch,
    pub par: Par,
    pub dropout: Option<Dropout>,
}

impl Pass<'_> {
    pub fn heads(&self) -> Heads {
        Heads::of(self.config)
    }
}

impl Layer {
    /// Reads `acts.x` and writes the layer's output into `out`. With caches (one per sequence),
    /// keys and values are appended and earlier tokens are attended to.
    pub(crate) fn forward(
        &self,
        pass: &Pass<'_>,
        acts: &mut Activations,
        scratch: &mut Scratch,
        caches: Option<&mut [&mut LayerCache]>,
        out: &mut Vec<f32>,
    ) {
        let (par, eps, heads) = (pass.par, pass.config.rms_norm_eps as f32, pass.heads());
        let normed = &mut scratch.normed;
        normed.resize(acts.x.len(), 0.0);
        norm::rms_norm(&acts.x, &self.input_norm.data, eps, normed);
        project_and_norm(&self.q, self.q_norm.as_ref(), pass, normed, &mut acts.q_raw, &mut acts.q);
        project_and_norm(&self.k, self.k_norm.as_ref(), pass, normed, &mut acts.k_raw, &mut acts.k);
        self.v.forward(par, normed, &mut acts.v, pass.dropout);
        pass.rope.apply(&mut acts.q, &pass.batch.positions, false);
        pass.rope.apply(&mut acts.k, &pass.batch.positions, false);
        acts.attended.resize(acts.q.len(), 0.0);
        match caches {
            Some(caches) => attend_cached(pass, heads, acts, caches),
            None => attention(par, &acts.q, &acts.k, &acts.v, heads, &pass.batch.bounds, &mut acts.attended),
        }
        self.o.forward(par, &acts.attended, &mut acts.middle, pass.dropout);
        add_assign(&mut acts.middle, &acts.x);
        norm::rms_norm(&acts.middle, &self.post_norm.data, eps, normed);
        self.gate.forward(par, normed, &mut acts.gate, pass.dropout);
        self.up.forward(par, normed, &mut acts.up, pass.dropout);
        scratch.wide.resize(acts.gate.len(), 0.0);
        activation::swiglu(&acts.gate, &acts.up, &mut scratch.wide);
        self.down.forward(par, &scratch.wide, out, pass.dropout);
        add_assign(out, &acts.middle);
    }

    /// Turns `d`, the gradient of the layer's output, into that of its input, and adds the
    /// parameters' gradients. Uses up the activations.
    pub(crate) fn backward(
        &self,
        pass: &Pass<'_>,
        acts: &mut Activations,
        scratch: &mut Scratch,
        d: &mut [f32],
        grads: &mut Gradients,
    ) {
        let (par, eps, drop) = (pass.par, pass.config.rms_norm_eps as f32, pass.dropout);
        let Scratch { normed, wide, dq, dk, dv, dnormed } = scratch;
        for buffer in [&mut *normed, dnormed] {
            buffer.resize(acts.x.len(), 0.0);
        }

        // MLP: out = middle + down(silu(gate)·up)
        norm::rms_norm(&acts.middle, &self.post_norm.data, eps, normed);
        wide.resize(acts.gate.len(), 0.0);
        activation::swiglu(&acts.gate, &acts.up, wide);
        dq.resize(wide.len(), 0.0);
        self.down.backward(par, wide, d, dq, false, grads, drop);
        activation::swiglu_grad(&mut acts.gate, &mut acts.up, dq);
        self.gate.backward(par, normed, &acts.gate, dnormed, false, grads, drop);
        self.up.backward(par, normed, &acts.up, dnormed, true, grads, drop);
        norm::rms_norm_grad(&acts.middle, &self.post_norm.data, eps, dnormed, d, true, grads.of(&self.post_norm));

        // Attention: middle = x + o(attention(q, k, v))
        let dattended = wide;
        dattended.resize(acts.attended.len(), 0.0);
        self.o.backward(par, &acts.attended, d, dattended, false, grads, drop);
        dq.resize(acts.q.len(), 0.0);
        dk.resize(acts.k.len(), 0.0);
        dv.resize(acts.v.len(), 0.0);
        let Activations { q, k, v, attended, .. } = acts;
        let bounds = &pass.batch.bounds;
        attention_grad(par, q, k, v, attended, dattended, pass.heads(), bounds, dq, dk, dv);
        pass.rope.apply(dq, &pass.batch.positions, true);
        pass.rope.apply(dk, &pass.batch.positions, true);
        norm_grad_in_place(self.q_norm.as_ref(), eps, &acts.q_raw, dq, dattended, grads);
        norm_grad_in_place(self.k_norm.as_ref(), eps, &acts.k_raw, dk, dattended, grads);
        norm::rms_norm(&acts.x, &self.input_norm.data, eps, normed);
        self.q.backward(par, normed, dq, dnormed, false, grads, drop);
        self.k.backward(par, normed, dk, dnormed, true, grads, drop);
        self.v.backward(par, normed, dv, dnormed, true, grads, drop);
        norm::rms_norm_grad(&acts.x, &self.input_norm.data, eps, dnormed, d, true, grads.of(&self.input_norm));
    }

    /// The projections in a fixed order with the last part of their names.
    pub fn linears_mut(&mut self) -> [(&'static str, &mut Linear); 7] {
        [
            ("self_attn.q_proj", &mut self.q),
            ("self_attn.k_proj", &mut self.k),
            ("self_attn.v_proj", &mut self.v),
            ("self_attn.o_proj", &mut self.o),
            ("mlp.gate_proj", &mut self.gate),
            ("mlp.up_proj", &mut self.up),
            ("mlp.down_proj", &mut self.down),
        ]
    }
}

/// A projection and the norm over its heads; `raw` keeps what the norm's gradient needs.
fn project_and_norm(
    linear: &Linear,
    weight: Option<&Param>,
    pass: &Pass<'_>,
    x: &[f32],
    raw: &mut Vec<f32>,
    y: &mut Vec<f32>,
) {
    match weight {
        None => linear.forward(pass.par, x, y, pass.dropout),
        Some(weight) => {
            linear.forward(pass.par, x, raw, pass.dropout);
            y.resize(raw.len(), 0.0);
            norm::rms_norm(raw, &weight.data, pass.config.rms_norm_eps as f32, y);
        }
    }
}

fn norm_grad_in_place(
    weight: Option<&Param>,
    eps: f32,
    raw: &[f32],
    d: &mut Vec<f32>,
    spare: &mut Vec<f32>,
    grads: &mut Gradients,
) {
    if let Some(weight) = weight {
        spare.resize(d.len(), 0.0);
        norm::rms_norm_grad(raw, &weight.data, eps, d, spare, false, grads.of(weight));
        std::mem::swap(d, spare);
    }
}

/// Appends keys and values to the caches and attends. Sequences without a past go through the
/// blockwise kernel together; the others each read their own cache.
fn attend_cached(pass: &Pass<'_>, heads: Heads, acts: &mut Activations, caches: &mut [&mut LayerCache]) {
    let (q_row, kv_row) = (heads.query * heads.dim, heads.key_value * heads.dim);
    let bounds = &pass.batch.bounds;
    assert_eq!(caches.len() + 1, bounds.len(), "one cache per sequence");
    let fresh = caches.iter().all(|c| c.values.is_empty());
    for (cache, w) in caches.iter_mut().zip(bounds.windows(2)) {
        cache.append(&acts.k[w[0] * kv_row..w[1] * kv_row], &acts.v[w[0] * kv_row..w[1] * kv_row], kv_row);
    }
    if fresh {
        attention(pass.par, &acts.q, &acts.k, &acts.v, heads, bounds, &mut acts.attended);
        return;
    }
    let mut rest = acts.attended.as_mut_slice();
    let mut jobs = Vec::with_capacity(caches.len());
    for (cache, w) in caches.iter().zip(bounds.windows(2)) {
        let (mine, after) = rest.split_at_mut((w[1] - w[0]) * q_row);
        rest = after;
        jobs.push((&acts.q[w[0] * q_row..w[1] * q_row], &**cache, mine));
    }
    let run = |(q, cache, out): (&[f32], &LayerCache, &mut [f32])| {
        if !q.is_empty() {
            cached_attention(q, &cache.keys, &cache.values, heads, out, &mut Vec::new());
        }
    };
    if pass.par.threads() > 1 { jobs.into_par_iter().for_each(run) } else { jobs.into_iter().for_each(run) }
}
