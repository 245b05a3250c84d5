//! Differentiable forms of the decoder's non-linear steps, out of basic candle ops only.
//!
//! candle's fused `rms_norm`, `softmax_last_dim`, `rope` and the module `RmsNorm` are left out on
//! purpose: they return no gradient and say nothing about it.

use candle_core::{D, Result, Tensor};
use lopper_model::Activation;

/// `x / √(mean(x²) + eps) · (offset + weight)` over the last dimension.
pub fn rms_norm(x: &Tensor, weight: &Tensor, offset: f64, eps: f64) -> Result<Tensor> {
    let root = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    let weight = if offset == 0.0 { weight.clone() } else { (weight + offset)? };
    x.broadcast_div(&root)?.broadcast_mul(&weight)
}

/// Softmax over the last dimension. The subtracted maximum is a constant to the gradient, which it
/// does not change.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let exponentials = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    exponentials.broadcast_div(&exponentials.sum_keepdim(D::Minus1)?)
}

/// Logarithm of the softmax over the last dimension.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// Rotates the first values of every head of `x[n, heads, head_dim]`, half-split layout, by `cos`,
/// `sin` of shape `[n, 1, rotary_dim/2]`.
pub fn rotate(x: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Result<Tensor> {
    let (width, half) = (x.dim(D::Minus1)?, cos.dim(D::Minus1)?);
    let low = x.narrow(D::Minus1, 0, half)?;
    let high = x.narrow(D::Minus1, half, half)?;
    let turned_low = (low.broadcast_mul(cos)? - high.broadcast_mul(sin)?)?;
    let turned_high = (high.broadcast_mul(cos)? + low.broadcast_mul(sin)?)?;
    let mut parts = vec![turned_low, turned_high];
    if width > 2 * half {
        parts.push(x.narrow(D::Minus1, 2 * half, width - 2 * half)?);
    }
    Tensor::cat(&parts, D::Minus1)
}

/// `act(gate) · up`.
pub fn gated(activation: Activation, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    match activation {
        Activation::Silu => gate.silu()? * up,
        Activation::GeluTanh => {
            let inner = (gate + (gate.powf(3.0)? * 0.044_715)?)?;
            let tanh = (inner * (2.0 / std::f64::consts::PI).sqrt())?.tanh()?;
            ((gate * (tanh + 1.0)?)? * 0.5)? * up
        }
    }
}

/// `c·tanh(x/c)` where there is a cap.
pub fn soft_cap(x: Tensor, cap: Option<f64>) -> Result<Tensor> {
    match cap {
        Some(cap) => (x / cap)?.tanh()? * cap,
        None => Ok(x),
    }
}

/// `softmax(cap(scale·q·kᵀ) + mask)·v` with `q[b, heads, t, d]`, `k` and `v[b, kv_heads, t, d]`,
/// where each key head serves heads/kv_heads consecutive query heads, and `mask[t, t]`.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: &Tensor,
    (scale, cap): (f64, Option<f64>),
) -> Result<Tensor> {
    let groups = q.dim(1)? / k.dim(1)?;
    let (k, v) = (repeat_heads(k, groups)?, repeat_heads(v, groups)?);
    let scores = soft_cap((q.matmul(&k.transpose(2, 3)?)? * scale)?, cap)?.broadcast_add(mask)?;
    softmax(&scores)?.matmul(&v)
}

fn repeat_heads(x: &Tensor, groups: usize) -> Result<Tensor> {
    if groups == 1 {
        return Ok(x.clone());
    }
    let (b, heads, t, d) = x.dims4()?;
    x.unsqueeze(2)?.expand((b, heads, groups, t, d))?.reshape((b, heads * groups, t, d))
}
