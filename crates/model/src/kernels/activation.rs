//! The gated activation of the MLP: `act(gate)·up` (Shazeer, arXiv 2002.05202), with SiLU or the
//! tanh approximation of GELU (Hendrycks & Gimpel, arXiv 1606.08415) as the function.

use super::{exp, vectorised};
use serde::{Deserialize, Serialize};

/// The function of the gate in the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x·σ(x).
    Silu,
    /// GELU by its tanh approximation (`gelu_pytorch_tanh`).
    GeluTanh,
}

/// √(2/π)·2: the tanh approximation of GELU is x·σ(2u) with u = √(2/π)·(x + 0.044715·x³).
const GELU_SLOPE: f32 = 1.595_769;
const GELU_CUBE: f32 = 0.044_715;

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// σ of what the function multiplies its argument with.
#[inline(always)]
fn gelu_gate(x: f32) -> f32 {
    sigmoid(GELU_SLOPE * x * (1.0 + GELU_CUBE * x * x))
}

/// `y = act(gate)·up`.
pub fn gated(activation: Activation, gate: &[f32], up: &[f32], y: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == y.len(), "gated activation: shapes disagree");
    match activation {
        Activation::Silu => vectorised(
            #[inline(always)]
            || {
                for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
                    *y = g / (1.0 + exp(-g)) * u;
                }
            },
        ),
        Activation::GeluTanh => vectorised(
            #[inline(always)]
            || {
                for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
                    *y = g * gelu_gate(*g) * u;
                }
            },
        ),
    }
}

/// Gradient of [`gated`]; `gate` and `up` are replaced by their gradients.
pub fn gated_grad(activation: Activation, gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    assert!(gate.len() == up.len() && gate.len() == dy.len(), "gated activation's gradient: shapes disagree");
    match activation {
        Activation::Silu => vectorised(
            #[inline(always)]
            || {
                for ((g, u), d) in gate.iter_mut().zip(up.iter_mut()).zip(dy) {
                    let sigmoid = sigmoid(*g);
                    let silu = *g * sigmoid;
                    let dgate = d * *u * (sigmoid + silu * (1.0 - sigmoid));
                    *u = d * silu;
                    *g = dgate;
                }
            },
        ),
        Activation::GeluTanh => vectorised(
            #[inline(always)]
            || {
                for ((g, u), d) in gate.iter_mut().zip(up.iter_mut()).zip(dy) {
                    let x = *g;
                    let gate = gelu_gate(x);
                    let slope = GELU_SLOPE * (1.0 + 3.0 * GELU_CUBE * x * x);
                    let dgate = d * *u * (gate + x * gate * (1.0 - gate) * slope);
                    *u = d * x * gate;
                    *g = dgate;
                }
            },
        ),
    }
}
