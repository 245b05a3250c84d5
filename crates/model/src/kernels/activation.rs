//! The gated activation of the MLP: `silu(gate)·up`. Shazeer, arXiv 2002.05202.

use super::{exp, vectorised};

/// `y = gate·σ(gate)·up`.
pub fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == y.len(), "swiglu: shapes disagree");
    vectorised(
        #[inline(always)]
        || {
            for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
                *y = g / (1.0 + exp(-g)) * u;
            }
        },
    );
}

/// Gradient of [`swiglu`]; `gate` and `up` are replaced by their gradients.
pub fn swiglu_grad(gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    assert!(gate.len() == up.len() && gate.len() == dy.len(), "swiglu_grad: shapes disagree");
    vectorised(
        #[inline(always)]
        || {
            for ((g, u), d) in gate.iter_mut().zip(up.iter_mut()).zip(dy) {
                let sigmoid = 1.0 / (1.0 + exp(-*g));
                let silu = *g * sigmoid;
                let dgate = d * *u * (sigmoid + silu * (1.0 - sigmoid));
                *u = d * silu;
                *g = dgate;
            }
        },
    );
}
