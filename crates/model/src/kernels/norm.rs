//! RMSNorm over groups of `weight.len()` consecutive values: the whole row of a hidden state, each
//! head of a query or key (Qwen3), or all its heads together (OLMo 2). Zhang & Sennrich, arXiv
//! 1910.07467.

use super::{dot, vectorised};

/// `y = x / √(mean(x²) + eps) · (offset + weight)`, group by group.
#[derive(Debug, Clone, Copy)]
pub struct RmsNorm<'a> {
    /// One value per element of a group.
    pub weight: &'a [f32],
    /// Added to every weight (Gemma stores the difference from 1).
    pub offset: f32,
    /// Added to the mean square.
    pub eps: f32,
}

impl RmsNorm<'_> {
    /// Writes the normed `x` into `y`.
    pub fn forward(self, x: &[f32], y: &mut [f32]) {
        let Self { weight, offset, eps } = self;
        let d = weight.len();
        assert!(x.len() == y.len() && x.len().is_multiple_of(d), "rms_norm: shapes disagree");
        vectorised(
            #[inline(always)]
            || {
                for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
                    let inverse = 1.0 / (dot(x, x) / d as f32 + eps).sqrt();
                    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                        *y = x * inverse * (offset + w);
                    }
                }
            },
        );
    }

    /// The gradient: writes `dx` (or adds to it) and adds to `dweight` where one is given.
    pub fn backward(self, x: &[f32], dy: &[f32], dx: &mut [f32], accumulate: bool, mut dweight: Option<&mut [f32]>) {
        let Self { weight, offset, eps } = self;
        let d = weight.len();
        assert!(
            x.len() == dy.len() && x.len() == dx.len() && x.len().is_multiple_of(d),
            "rms_norm gradient: shapes disagree"
        );
        let mut scaled = vec![0f32; d];
        vectorised(
            #[inline(always)]
            || {
                for ((x, dy), dx) in x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d)) {
                    let inverse = 1.0 / (dot(x, x) / d as f32 + eps).sqrt();
                    for ((s, g), w) in scaled.iter_mut().zip(dy).zip(weight) {
                        *s = g * (offset + w);
                    }
                    let along = dot(&scaled, x) * inverse * inverse / d as f32;
                    if accumulate {
                        for ((dx, s), x) in dx.iter_mut().zip(&scaled).zip(x) {
                            *dx += inverse * (s - x * along);
                        }
                    } else {
                        for ((dx, s), x) in dx.iter_mut().zip(&scaled).zip(x) {
                            *dx = inverse * (s - x * along);
                        }
                    }
                    if let Some(dweight) = dweight.as_deref_mut() {
                        for ((dw, g), x) in dweight.iter_mut().zip(dy).zip(x) {
                            *dw += g * x * inverse;
                        }
                    }
                }
            },
        );
    }
}
