//! Choosing the next token from logits: greedy, or temperature, then top-k, then top-p, in the
//! order and with the tie rules of Hugging Face's logits processors (`TemperatureLogitsWarper`,
//! `TopKLogitsWarper`, `TopPLogitsWarper`).
//!
//! A request's randomness is one uniform number per token from its own ChaCha8 stream, turned into a token by inverting
//! the distribution in order of token id; nothing else is drawn, so the batch cannot change it. Nucleus sampling:
//! Holtzman et al., arXiv 1904.09751.

use lopper_model::kernels::loss::log_sum_exp;
use lopper_record::{Fault, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// The most probable token; the lowest id wins a tie.
    #[default]
    Greedy,
    /// A draw from the model's distribution after temperature, top-k and top-p.
    Sample {
        /// Divides the logits; above zero.
        temperature: f64,
        /// Keep the k most probable tokens, and all that tie with the last of them.
        top_k: Option<usize>,
        /// Keep the smallest set of most probable tokens that together reach this probability.
        top_p: Option<f64>,
    },
}

impl Sampling {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// A [`Fault`] that names the setting.
    pub fn check(&self) -> Result<()> {
        let Self::Sample { temperature, top_k, top_p } = *self else { return Ok(()) };
        let fault = |what: &str, expected: &str, got: String| {
            Err(Fault::new(format!("{what} is out of range"))
                .expected(expected)
                .got(got)
                .hint("the usual choice is temperature 0.9 with top_p 0.95")
                .into())
        };
        if !(temperature.is_finite() && temperature > 0.0) {
            return fault("temperature", "a number above 0 (for arg-max, sample greedily)", temperature.to_string());
        }
        if top_k == Some(0) {
            return fault("top_k", "at least 1", "0".into());
        }
        match top_p {
            Some(p) if !(p > 0.0 && p <= 1.0) => fault("top_p", "above 0 and at most 1", p.to_string()),
            _ => Ok(()),
        }
    }
}

/// Chooses the tokens of one request.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Buffers that a thread reuses from choice to choice.
#[derive(Debug, Default)]
struct Scratch {
    scaled: Vec<f32>,
    candidates: Vec<(f32, u32)>,
    weights: Vec<f64>,
}

impl Sampler {
    /// A sampler whose draws depend on `seed` alone.
    pub fn new(sampling: Sampling, seed: u64) -> Self {
        Self { sampling, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The next token and its natural log-probability under the model itself, before temperature, top-k and top-p.
    ///
    /// # Errors
    /// Where the logits are not finite.
    pub fn choose(&mut self, logits: &[f32]) -> Result<(u32, f32)> {
        let total = log_sum_exp(logits);
        if !total.is_finite() {
            return Err(not_finite().into());
        }
        let token = match self.sampling {
            Sampling::Greedy => argmax(logits),
            Sampling::Sample { temperature, top_k, top_p } => {
                let uniform = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
                SCRATCH.with_borrow_mut(|scratch| draw(logits, temperature, top_k, top_p, uniform, scratch))
            }
        };
        Ok((token, logits[token as usize] - total))
    }
}

/// The fault of a model whose logits are NaN or infinite.
pub(crate) fn not_finite() -> Fault {
    Fault::new("the model gave logits that are not finite").expected("finite logits").got("NaN or infinity").hint(
        "a value overflows, or weights are no numbers: is the checkpoint damaged, or config.json another model's?",
    )
}

/// The natural log-probability of a token that was not chosen from `logits`.
///
/// # Errors
/// Where the logits are not finite.
pub(crate) fn log_probability(logits: &[f32], token: u32) -> Result<f32> {
    let total = log_sum_exp(logits);
    if !total.is_finite() {
        return Err(not_finite().into());
    }
    Ok(logits[token as usize] - total)
}

/// Index of the largest value; the first of equals.
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, v) in logits.iter().enumerate() {
        if *v > logits[best] {
            best = i;
        }
    }
    best as u32
}

fn draw(
    logits: &[f32],
    temperature: f64,
    top_k: Option<usize>,
    top_p: Option<f64>,
    uniform: f64,
    scratch: &mut Scratch,
) -> u32 {
    let Scratch { scaled, candidates, weights } = scratch;
    let inverse = (1.0 / temperature) as f32;
    // Bounded so that a temperature near zero gives arg-max and not infinities.
    scaled.clear();
    scaled.extend(logits.iter().map(|v| (v * inverse).clamp(f32::MIN, f32::MAX)));
    candidates.clear();
    let threshold = top_k.filter(|k| *k < scaled.len()).map(|k| kth_largest(scaled, k, weights));
    let all = scaled.iter().zip(0u32..).map(|(v, i)| (*v, i));
    match threshold {
        Some(threshold) => candidates.extend(all.filter(|(v, _)| *v >= threshold)),
        None => candidates.extend(all),
    }
    if let Some(p) = top_p.filter(|p| *p < 1.0) {
        keep_nucleus(candidates, p);
    }
    let peak = candidates.iter().map(|(v, _)| *v).fold(f32::NEG_INFINITY, f32::max);
    weights.clear();
    weights.extend(candidates.iter().map(|(v, _)| f64::from(v - peak).exp()));
    let mut left = uniform * weights.iter().sum::<f64>();
    for (weight, (_, token)) in weights.iter().zip(candidates.iter()) {
        left -= weight;
        if left < 0.0 {
            return *token;
        }
    }
    // Rounding used up all probability: the last candidate that has any.
    weights.iter().zip(candidates.iter()).rev().find(|(w, _)| **w > 0.0).map_or(0, |(_, (_, token))| *token)
}

/// The k-th largest value, by partial selection.
fn kth_largest(values: &[f32], k: usize, spare: &mut Vec<f64>) -> f32 {
    spare.clear();
    spare.extend(values.iter().map(|v| f64::from(*v)));
    let (_, kth, _) = spare.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    *kth as f32
}

/// Keeps the smallest set of the most probable candidates that reaches `p` (of equals the lower
/// id), in order of token id. Only as much is sorted as the set turns out to need.
fn keep_nucleus(candidates: &mut Vec<(f32, u32)>, p: f64) {
    let peak = candidates.iter().map(|(v, _)| *v).fold(f32::NEG_INFINITY, f32::max);
    let weight = |v: f32| f64::from(v - peak).exp();
    let target = p * candidates.iter().map(|(v, _)| weight(*v)).sum::<f64>();
    let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    let (mut sorted, mut sum, mut keep) = (0, 0.0, 0);
    'selecting: while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let take = rest.len().min(64.max(sorted * 3));
        if take < rest.len() {
            rest.select_nth_unstable_by(take - 1, order);
        }
        rest[..take].sort_unstable_by(order);
        for (v, _) in &rest[..take] {
            if keep > 0 && sum >= target {
                break 'selecting;
            }
            sum += weight(*v);
            keep += 1;
        }
        sorted += take;
    }
    candidates.truncate(keep);
    candidates.sort_unstable_by_key(|(_, token)| *token);
}
