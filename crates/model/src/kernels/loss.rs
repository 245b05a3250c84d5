//! The head and the cross-entropy together, in chunks of rows, so that the logits of a large
//! vocabulary are never held whole; and log-probabilities of given tokens for scoring.

use super::gemm::{linear, linear_input_grad, linear_weight_grad};
use super::{LANES, Par, exp, max, reduce, vectorised};

/// Logits held at a time, in values: bounds the scratch to 4 MB.
const CHUNK_VALUES: usize = 1 << 20;

fn chunk_rows(vocab: usize) -> usize {
    (CHUNK_VALUES / vocab).clamp(1, 256)
}

/// Σ exp(row − peak) of one row of logits.
#[inline(always)]
fn sum_exp(row: &[f32], peak: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += exp(chunk[i] - peak);
        }
    }
    rest.iter().fold(reduce(lanes), |sum, v| sum + exp(v - peak))
}

/// log Σ exp(row) of one row of logits.
pub fn log_sum_exp(row: &[f32]) -> f32 {
    vectorised(
        #[inline(always)]
        || {
            let peak = max(row);
            peak + sum_exp(row, peak).ln()
        },
    )
}

/// What the model says about one token that was really there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// Natural logarithm of the token's probability.
    pub logprob: f32,
    /// Whether it was the most probable token (the lowest id wins a tie).
    pub greedy: bool,
}

/// Log-probability of `targets[i]` after hidden row `i` (`hidden`: `[n, width]`, after the final
/// norm; `head`: `[vocab, width]`).
pub fn token_logprobs(par: Par, hidden: &[f32], head: &[f32], width: usize, targets: &[u32]) -> Vec<TokenLogprob> {
    let vocab = head.len() / width;
    let rows = chunk_rows(vocab);
    let mut logits = vec![0f32; rows.min(targets.len()) * vocab];
    let mut result = Vec::with_capacity(targets.len());
    for (hidden, targets) in hidden.chunks(rows * width).zip(targets.chunks(rows)) {
        let logits = &mut logits[..targets.len() * vocab];
        linear(par, hidden, head, width, vocab, logits, false, 1.0);
        for (row, &target) in logits.chunks_exact(vocab).zip(targets) {
            let value = row[target as usize];
            let greedy = row[..target as usize].iter().all(|v| *v < value) && row.iter().all(|v| *v <= value);
            result.push(TokenLogprob { logprob: value - log_sum_exp(row), greedy });
        }
    }
    result
}

/// Σ wᵢ·(−log p(targetᵢ)) over the rows, with gradients: `dhidden` is written, `dhead` added to
/// where one is given. The sum is returned as `f64`; divide weights beforehand to get a mean.
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
pub fn cross_entropy(
    par: Par,
    hidden: &[f32],
    head: &[f32],
    width: usize,
    targets: &[u32],
    weights: &[f32],
    dhidden: Option<&mut [f32]>,
    mut dhead: Option<&mut [f32]>,
) -> f64 {
    let vocab = head.len() / width;
    assert!(hidden.len() == targets.len() * width && targets.len() == weights.len(), "cross_entropy: shapes disagree");
    let rows = chunk_rows(vocab);
    let mut logits = vec![0f32; rows.min(targets.len()) * vocab];
    let mut dhidden = dhidden.map(|d| d.chunks_mut(rows * width));
    let mut total = 0f64;
    for ((hidden, targets), weights) in hidden.chunks(rows * width).zip(targets.chunks(rows)).zip(weights.chunks(rows))
    {
        let logits = &mut logits[..targets.len() * vocab];
        linear(par, hidden, head, width, vocab, logits, false, 1.0);
        vectorised(
            #[inline(always)]
            || {
                for ((row, &target), &weight) in logits.chunks_exact_mut(vocab).zip(targets).zip(weights) {
                    let peak = max(row);
                    let sum = sum_exp(row, peak);
                    let at = target as usize;
                    total += f64::from(weight) * f64::from(peak + sum.ln() - row[at]);
                    let scale = weight / sum;
                    for v in row.iter_mut() {
                        *v = exp(*v - peak) * scale;
                    }
                    row[at] -= weight;
                }
            },
        );
        if let Some(chunks) = dhidden.as_mut() {
            let dhidden = chunks.next().expect("as many chunks as rows");
            linear_input_grad(par, logits, head, width, vocab, dhidden, false, 1.0);
        }
        if let Some(dhead) = dhead.as_deref_mut() {
            linear_weight_grad(par, logits, hidden, width, vocab, dhead, 1.0);
        }
    }
    total
}
