//! The head and the cross-entropy together, in chunks of rows, so that the logits of a large
//! vocabulary are never held whole; and log-probabilities of given tokens for scoring.

use super::attention::soft_cap;
use super::gemm::{linear, linear_input_grad, linear_weight_grad};
use super::weight::Weight;
use super::{LANES, MatmulOptions, MatmulPrecision, exp, max, reduce, vectorised};

/// Logits held at a time, in values: 4 MB, or what the fewest rows take.
const CHUNK_VALUES: usize = 1 << 20;
/// The same for products in bf16: 64 MB.
const CHUNK_VALUES_BF16: usize = 1 << 24;
/// Fewest and most rows at a time: the head is read twice for each chunk, so with a large vocabulary few rows would be
/// spent on reading it (78 MB of logits at 152 thousand tokens).
const CHUNK_ROWS: (usize, usize) = (128, 256);
/// The same for products in bf16, which read and round the head anew for each chunk and take a tenth of the time.
const CHUNK_ROWS_BF16: (usize, usize) = (256, 512);

/// The head: the matrix, and what becomes of its products.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// `[vocab, width]`.
    pub weight: Weight<'a>,
    /// Multiplies the products.
    pub scale: f32,
    /// Scaled products l become c·tanh(l/c).
    pub softcap: Option<f32>,
}

impl Head<'_> {
    /// Rows of the matrix.
    pub fn vocab(&self) -> usize {
        self.weight.rows()
    }

    /// Inner dimension.
    pub fn width(&self) -> usize {
        self.weight.inputs
    }

    /// Logits `[n, vocab]` of hidden rows `[n, width]`.
    pub fn logits(&self, options: MatmulOptions, hidden: &[f32], logits: &mut [f32]) {
        linear(options, hidden, self.weight, logits, false, self.scale);
        self.cap(logits);
    }

    /// Caps scaled products.
    pub fn cap(&self, logits: &mut [f32]) {
        if let Some(cap) = self.softcap {
            soft_cap(logits, cap, None);
        }
    }
}

/// Rows whose logits are held at a time.
pub fn chunk_rows(vocab: usize, precision: MatmulPrecision) -> usize {
    let (values, (fewest, most)) = match precision {
        MatmulPrecision::F32 => (CHUNK_VALUES, CHUNK_ROWS),
        MatmulPrecision::Bf16 => (CHUNK_VALUES_BF16, CHUNK_ROWS_BF16),
    };
    (values / vocab).clamp(fewest, most)
}

/// Σ exp(row − peak) of one row of logits.
#[inline(always)]
pub(crate) fn sum_exp(row: &[f32], peak: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += exp(chunk[i] - peak);
        }
    }
    rest.iter().fold(reduce(lanes), |sum, v| sum + exp(v - peak))
}

/// Logits of a chunk of rows, kept from call to call: tens of megabytes that would have to be cleared each time.
#[derive(Debug, Default, Clone)]
pub struct LogitBuffers {
    /// Of the model that learns.
    pub own: Vec<f32>,
    /// Of its teacher.
    pub teacher: Vec<f32>,
}

/// The first `len` values of a buffer that grows where it is too small.
pub(crate) fn at_least(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
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

/// Σ wᵢ·(−log p(targetᵢ)) over the rows, with gradients: `dhidden` is written, `dhead` added to
/// where one is given. The sum is returned as `f64`; divide weights beforehand to get a mean.
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
pub fn cross_entropy(
    options: MatmulOptions,
    buffers: &mut LogitBuffers,
    hidden: &[f32],
    head: Head<'_>,
    targets: &[u32],
    weights: &[f32],
    dhidden: Option<&mut [f32]>,
    mut dhead: Option<&mut [f32]>,
) -> f64 {
    let (vocab, width) = (head.vocab(), head.width());
    assert!(hidden.len() == targets.len() * width && targets.len() == weights.len(), "cross_entropy: shapes disagree");
    let rows = chunk_rows(vocab, options.precision);
    let logits = at_least(&mut buffers.own, rows.min(targets.len()) * vocab);
    let mut dhidden = dhidden.map(|d| d.chunks_mut(rows * width));
    let mut total = 0f64;
    for ((hidden, targets), weights) in hidden.chunks(rows * width).zip(targets.chunks(rows)).zip(weights.chunks(rows))
    {
        let logits = &mut logits[..targets.len() * vocab];
        head.logits(options, hidden, logits);
        // What a logit's gradient is multiplied by on the way to the product it came from.
        let inverse = head.softcap.map_or(0.0, |cap| 1.0 / cap);
        let slope = |logit: f32| head.scale * (1.0 - (logit * inverse) * (logit * inverse));
        vectorised(
            #[inline(always)]
            || {
                for ((row, &target), &weight) in logits.chunks_exact_mut(vocab).zip(targets).zip(weights) {
                    let peak = max(row);
                    let sum = sum_exp(row, peak);
                    let at = target as usize;
                    total += f64::from(weight) * f64::from(peak + sum.ln() - row[at]);
                    let (scale, right) = (weight / sum, weight * slope(row[at]));
                    for v in row.iter_mut() {
                        *v = exp(*v - peak) * scale * slope(*v);
                    }
                    row[at] -= right;
                }
            },
        );
        if let Some(chunks) = dhidden.as_mut() {
            let dhidden = chunks.next().expect("as many chunks as rows");
            linear_input_grad(options, logits, head.weight, dhidden, false, 1.0);
        }
        if let Some(dhead) = dhead.as_deref_mut() {
            linear_weight_grad(options, logits, hidden, width, vocab, dhead, 1.0);
        }
    }
    total
}
