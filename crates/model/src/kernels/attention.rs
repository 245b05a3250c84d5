//! What attention has in common in training ([`super::attention_train`]) and in running forward
//! ([`super::attention_infer`]).

use super::{tanh, vectorised};

/// Shapes and constants of a layer's attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads.
    pub key_value: usize,
    /// Width of a head.
    pub dim: usize,
    /// Multiplies the scores.
    pub scale: f32,
    /// Scores s become c·tanh(s/c).
    pub softcap: Option<f32>,
    /// A token sees itself and the `window - 1` tokens before it.
    pub window: Option<usize>,
}

impl Heads {
    /// The first token that the token `at` sees.
    pub fn first_seen(&self, at: usize) -> usize {
        self.window.map_or(0, |window| (at + 1).saturating_sub(window))
    }

    /// Query heads that share a key and value head.
    pub fn group(&self) -> usize {
        self.query / self.key_value
    }
}

/// `s = cap·tanh(s/cap)`; `slopes` is given the derivative, 1 − tanh².
pub(crate) fn soft_cap(scores: &mut [f32], cap: f32, slopes: Option<&mut [f32]>) {
    let inverse = 1.0 / cap;
    match slopes {
        None => vectorised(
            #[inline(always)]
            || {
                for s in scores.iter_mut() {
                    *s = cap * tanh(*s * inverse);
                }
            },
        ),
        Some(slopes) => vectorised(
            #[inline(always)]
            || {
                for (s, slope) in scores.iter_mut().zip(slopes.iter_mut()) {
                    let t = tanh(*s * inverse);
                    *s = cap * t;
                    *slope = 1.0 - t * t;
                }
            },
        ),
    }
}
