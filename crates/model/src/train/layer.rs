//! A decoder layer in training: forward, and a hand-written backward.
//!
//! The forward pass leaves in [`Activations`] what the backward pass needs; norms and the gated
//! activation are cheap and recomputed. What only runs forward goes through [`crate::forward`].

use crate::batch::Batch;
use crate::config::{Config, LayerKind};
use crate::forward::{Past, attend};
use crate::kernels::attention_infer::KvLayout;
use crate::kernels::attention_train::{Operands, attention, attention_grad};
use crate::kernels::norm::RmsNorm;
use crate::kernels::rope::RopeRows;
use crate::kernels::{MatmulOptions, activation, add_assign, add_scaled};
use crate::layer::{Layer, norm_of};
use crate::linear::{Dropout, Linear};
use crate::param::{Gradients, Param};

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
    /// Of attention in bf16: log2 Σ exp(score) of each query.
    log_sums: Vec<f32>,
    /// The attention's result before its norm, where there is one.
    attention_out: Vec<f32>,
    /// Residual stream between attention and MLP.
    middle: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// The MLP's result before its norm, where there is one.
    mlp_out: Vec<f32>,
}

/// Buffers that every layer overwrites.
#[derive(Debug, Default, Clone)]
pub(crate) struct Scratch {
    normed: Vec<f32>,
    wide: Vec<f32>,
    fused: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    dnormed: Vec<f32>,
    dbranch: Vec<f32>,
    /// Keys and values as attention in bf16 reads them.
    words: Vec<u32>,
}

/// What stays the same for all layers of one pass.
pub(crate) struct Pass<'a> {
    pub config: &'a Config,
    /// One for each of [`Config::ropes`].
    pub ropes: &'a [RopeRows],
    pub batch: &'a Batch,
    pub matmul: MatmulOptions,
    pub dropout: Option<Dropout>,
}

impl Pass<'_> {
    fn norm<'p>(&self, weight: &'p Param) -> RmsNorm<'p> {
        norm_of(self.config, weight)
    }

    fn rotate(&self, kind: LayerKind, x: &mut [f32], transpose: bool) {
        if let Some(rope) = kind.rope {
            self.ropes[rope].apply(x, self.config.head_dim, transpose);
        }
    }
}

impl Layer {
    /// Reads `acts.x` and writes the layer's output into `out`.
    pub(crate) fn forward(&self, pass: &Pass<'_>, acts: &mut Activations, scratch: &mut Scratch, out: &mut Vec<f32>) {
        let (matmul, heads, scale) = (pass.matmul, pass.config.heads(self.kind), pass.config.residual_scale);
        let Scratch { normed, wide, fused, words, .. } = scratch;
        maybe_norm(pass, self.norms.before_attention.as_ref(), &acts.x, normed);
        // Where a norm follows, the projection goes to the buffer that the norm's gradient needs.
        let q = if self.q_norm.is_some() { &mut acts.q_raw } else { &mut acts.q };
        let k = if self.k_norm.is_some() { &mut acts.k_raw } else { &mut acts.k };
        self.qkv.forward(matmul, normed, pass.config.qkv_sizes(), [q, k, &mut acts.v], fused, pass.dropout);
        for (norm, raw, y) in [(&self.q_norm, &acts.q_raw, &mut acts.q), (&self.k_norm, &acts.k_raw, &mut acts.k)] {
            if let Some(weight) = norm {
                y.resize(raw.len(), 0.0);
                pass.norm(weight).forward(raw, y);
            }
            pass.rotate(self.kind, y, false);
        }
        acts.attended.resize(acts.q.len(), 0.0);
        let Activations { q, k, v, attended, log_sums, .. } = acts;
        match matmul.bf16() {
            None => attention(matmul.threads, q, k, v, heads, &pass.batch.bounds, attended),
            instructions => {
                let layout = KvLayout { heads: heads.key_value, dim: heads.dim, instructions };
                log_sums.resize(pass.batch.len() * heads.query, 0.0);
                let (past, sums) = (Past::Batch, Some(log_sums.as_mut_slice()));
                attend(matmul.threads, heads, layout, pass.batch, (q, k, v), past, attended, sums, words);
            }
        }
        project(
            pass,
            &self.o,
            self.norms.after_attention.as_ref(),
            &acts.attended,
            &mut acts.attention_out,
            &mut acts.middle,
        );
        add_scaled(&mut acts.middle, scale, &acts.x);

        maybe_norm(pass, self.norms.before_mlp.as_ref(), &acts.middle, normed);
        let width = pass.config.intermediate_size;
        self.gate_up.forward(matmul, normed, [width; 2], [&mut acts.gate, &mut acts.up], fused, pass.dropout);
        wide.resize(acts.gate.len(), 0.0);
        activation::gated(pass.config.activation, &acts.gate, &acts.up, wide);
        project(pass, &self.down, self.norms.after_mlp.as_ref(), wide, &mut acts.mlp_out, out);
        add_scaled(out, scale, &acts.middle);
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
        let (matmul, drop, heads) = (pass.matmul, pass.dropout, pass.config.heads(self.kind));
        let Scratch { normed, wide, fused, dq, dk, dv, dnormed, dbranch, .. } = scratch;
        dnormed.resize(acts.x.len(), 0.0);

        // MLP: out = middle + scale·norm(down(act(gate)·up))
        maybe_norm(pass, self.norms.before_mlp.as_ref(), &acts.middle, normed);
        wide.resize(acts.gate.len(), 0.0);
        activation::gated(pass.config.activation, &acts.gate, &acts.up, wide);
        dq.resize(wide.len(), 0.0);
        let dbranch_of = branch_grad(pass, self.norms.after_mlp.as_ref(), &acts.mlp_out, d, dbranch, grads);
        self.down.backward(matmul, wide, dbranch_of, dq, false, grads, drop);
        activation::gated_grad(pass.config.activation, &mut acts.gate, &mut acts.up, dq);
        let width = pass.config.intermediate_size;
        self.gate_up.backward(matmul, normed, [width; 2], [&acts.gate, &acts.up], dnormed, grads, fused, drop);
        maybe_norm_grad(pass, self.norms.before_mlp.as_ref(), &acts.middle, dnormed, d, grads);

        // Attention: middle = x + scale·norm(o(attention(q, k, v)))
        let dattended = wide;
        dattended.resize(acts.attended.len(), 0.0);
        let dbranch_of = branch_grad(pass, self.norms.after_attention.as_ref(), &acts.attention_out, d, dbranch, grads);
        self.o.backward(matmul, &acts.attended, dbranch_of, dattended, false, grads, drop);
        dq.resize(acts.q.len(), 0.0);
        dk.resize(acts.k.len(), 0.0);
        dv.resize(acts.v.len(), 0.0);
        let Activations { q, k, v, attended: out, log_sums, .. } = acts;
        let operands = Operands { q, k, v, out, dout: dattended, log_sums, heads };
        attention_grad(matmul, operands, &pass.batch.bounds, dq, dk, dv);
        pass.rotate(self.kind, dq, true);
        pass.rotate(self.kind, dk, true);
        head_norm_grad(pass, self.q_norm.as_ref(), &acts.q_raw, dq, dattended, grads);
        head_norm_grad(pass, self.k_norm.as_ref(), &acts.k_raw, dk, dattended, grads);
        maybe_norm(pass, self.norms.before_attention.as_ref(), &acts.x, normed);
        self.qkv.backward(matmul, normed, pass.config.qkv_sizes(), [dq, dk, dv], dnormed, grads, fused, drop);
        maybe_norm_grad(pass, self.norms.before_attention.as_ref(), &acts.x, dnormed, d, grads);
    }
}

/// `x` normed, or as it is where there is no norm.
fn maybe_norm(pass: &Pass<'_>, weight: Option<&Param>, x: &[f32], y: &mut Vec<f32>) {
    y.resize(x.len(), 0.0);
    match weight {
        Some(weight) => pass.norm(weight).forward(x, y),
        None => y.copy_from_slice(x),
    }
}

/// Adds to `d` the gradient `dy` of what [`maybe_norm`] made.
fn maybe_norm_grad(
    pass: &Pass<'_>,
    weight: Option<&Param>,
    x: &[f32],
    dy: &[f32],
    d: &mut [f32],
    grads: &mut Gradients,
) {
    match weight {
        Some(weight) => pass.norm(weight).backward(x, dy, d, true, grads.of(weight)),
        None => add_assign(d, dy),
    }
}

/// The last projection of attention or MLP, and the norm of its result, which keeps `raw`.
fn project(pass: &Pass<'_>, linear: &Linear, norm: Option<&Param>, x: &[f32], raw: &mut Vec<f32>, y: &mut Vec<f32>) {
    match norm {
        None => linear.forward(pass.matmul, x, y, pass.dropout),
        Some(weight) => {
            linear.forward(pass.matmul, x, raw, pass.dropout);
            y.resize(raw.len(), 0.0);
            pass.norm(weight).forward(raw, y);
        }
    }
}

/// The gradient of what [`project`] read from its linear map, given that of the residual stream.
fn branch_grad<'a>(
    pass: &Pass<'_>,
    norm: Option<&Param>,
    raw: &[f32],
    d: &'a [f32],
    spare: &'a mut Vec<f32>,
    grads: &mut Gradients,
) -> &'a [f32] {
    let scale = pass.config.residual_scale;
    if norm.is_none() && scale == 1.0 {
        return d;
    }
    spare.clear();
    match norm {
        Some(weight) => {
            spare.resize(d.len(), 0.0);
            let scaled: Vec<f32>;
            let dy = if scale == 1.0 {
                d
            } else {
                scaled = d.iter().map(|d| d * scale).collect();
                &scaled
            };
            pass.norm(weight).backward(raw, dy, spare, false, grads.of(weight));
        }
        None => spare.extend(d.iter().map(|d| d * scale)),
    }
    spare
}

/// Turns `d` from the gradient of normed heads into that of the heads.
fn head_norm_grad(
    pass: &Pass<'_>,
    weight: Option<&Param>,
    raw: &[f32],
    d: &mut Vec<f32>,
    spare: &mut Vec<f32>,
    grads: &mut Gradients,
) {
    if let Some(weight) = weight {
        spare.resize(d.len(), 0.0);
        pass.norm(weight).backward(raw, d, spare, false, grads.of(weight));
        std::mem::swap(d, spare);
    }
}
