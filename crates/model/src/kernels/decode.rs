//! Attention of new rows over a sequence's key/value cache, for decoding: one query row against
//! all keys so far.
//!
//! Keys are kept transposed in blocks of [`KEY_BLOCK`] tokens, so that the scores of a whole block
//! come from multiply-adds down the channels, without a horizontal sum for each key; values keep
//! one row per token. See [`crate::cache::LayerCache`].

// Loops over small constant ranges are written with indices: they must unroll completely so that
// the sums stay in registers.
#![allow(clippy::needless_range_loop, reason = "one index runs over several arrays")]

use super::attention::{Heads, soft_cap};
use super::{LANES, exp, max, reduce};
use pulp::{Simd, WithSimd};

/// Tokens whose keys are interleaved; a multiple of every vector width.
pub const KEY_BLOCK: usize = 16;

/// Length of the keys of `tokens` tokens, the last block filled up.
pub fn key_len(tokens: usize, kv_row: usize) -> usize {
    tokens.div_ceil(KEY_BLOCK) * KEY_BLOCK * kv_row
}

/// Writes the keys (`[n, kv_row]`) of the tokens from `past` on into their blocks, growing `blocks`.
pub fn append_keys(blocks: &mut Vec<f32>, past: usize, keys: &[f32], kv_row: usize) {
    let new = keys.len() / kv_row;
    blocks.resize(key_len(past + new, kv_row), 0.0);
    for (token, row) in (past..).zip(keys.chunks_exact(kv_row)) {
        let block = &mut blocks[token / KEY_BLOCK * KEY_BLOCK * kv_row..][..KEY_BLOCK * kv_row];
        for (lanes, value) in block.chunks_exact_mut(KEY_BLOCK).zip(row) {
            lanes[token % KEY_BLOCK] = *value;
        }
    }
}

/// Attention of `q` (`[new, query·dim]`) over cached keys (in blocks) and values (`[past+new,
/// key_value·dim]`), the new rows already appended: row `i` sees the first `past+i+1`.
/// `scores` is scratch.
pub fn cached_attention(q: &[f32], keys: &[f32], values: &[f32], heads: Heads, out: &mut [f32], scores: &mut Vec<f32>) {
    let (q_row, kv_row) = (heads.query * heads.dim, heads.key_value * heads.dim);
    let (new, total) = (q.len() / q_row, values.len() / kv_row);
    assert!(
        new <= total
            && new * q_row == q.len()
            && total * kv_row == values.len()
            && keys.len() == key_len(total, kv_row)
            && out.len() == q.len(),
        "cached_attention: shapes disagree"
    );
    scores.clear();
    scores.resize(total.div_ceil(KEY_BLOCK) * KEY_BLOCK, 0.0);
    pulp::Arch::new().dispatch(Attend { q, keys, values, heads, total, out, scores });
}

struct Attend<'a> {
    q: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    heads: Heads,
    total: usize,
    out: &'a mut [f32],
    scores: &'a mut [f32],
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Heads { query, key_value, dim, scale, softcap, .. } = self.heads;
        let (q_row, kv_row, group) = (query * dim, key_value * dim, query / key_value);
        let new = self.q.len() / q_row;
        for i in 0..new {
            let seen = self.total - new + i + 1;
            let low = self.heads.first_seen(seen - 1);
            for head in 0..query {
                let at = i * q_row + head * dim;
                let column = head / group * dim;
                key_products(simd, &self.q[at..at + dim], self.keys, kv_row, column, low..seen, self.scores);
                let scores = &mut self.scores[low..seen];
                let inverse = 1.0 / softmax_numerators(scores, scale, softcap);
                let out = &mut self.out[at..at + dim];
                weighted_values(simd, scores, &self.values[low * kv_row..], kv_row, column, out);
                for v in out.iter_mut() {
                    *v *= inverse;
                }
            }
        }
    }
}

/// Replaces products by `exp(score − largest)`, a score being the scaled (and perhaps capped)
/// product, and returns their sum.
#[inline(always)]
fn softmax_numerators(scores: &mut [f32], scale: f32, softcap: Option<f32>) -> f32 {
    for v in scores.iter_mut() {
        *v *= scale;
    }
    if let Some(cap) = softcap {
        soft_cap(scores, cap, None);
    }
    let peak = max(scores);
    for v in scores.iter_mut() {
        *v = exp(*v - peak);
    }
    let (chunks, rest) = scores.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for chunk in chunks {
        for (l, v) in lanes.iter_mut().zip(chunk) {
            *l += v;
        }
    }
    reduce(lanes) + rest.iter().sum::<f32>()
}

/// Products of `q` with the keys of the tokens `seen` (and of whatever else is in the blocks at
/// both ends).
#[inline(always)]
fn key_products<S: Simd>(
    simd: S,
    q: &[f32],
    keys: &[f32],
    kv_row: usize,
    column: usize,
    seen: std::ops::Range<usize>,
    scores: &mut [f32],
) {
    // A strip is as many tokens of a block as a vector has lanes.
    let strips = seen.end.div_ceil(KEY_BLOCK) * KEY_BLOCK / S::F32_LANES;
    assert!(column + q.len() <= kv_row, "head outside the row");
    assert!(strips * S::F32_LANES <= scores.len() && strips * S::F32_LANES * kv_row <= keys.len(), "keys too short");
    let mut strip = seen.start / S::F32_LANES;
    while strip + 8 <= strips {
        key_strips::<S, 8>(simd, q, keys, kv_row, column, strip, scores);
        strip += 8;
    }
    while strip + 4 <= strips {
        key_strips::<S, 4>(simd, q, keys, kv_row, column, strip, scores);
        strip += 4;
    }
    while strip < strips {
        key_strips::<S, 1>(simd, q, keys, kv_row, column, strip, scores);
        strip += 1;
    }
}

#[inline(always)]
fn key_strips<S: Simd, const N: usize>(
    simd: S,
    q: &[f32],
    keys: &[f32],
    kv_row: usize,
    column: usize,
    first: usize,
    scores: &mut [f32],
) {
    let starts: [*const f32; N] = std::array::from_fn(|n| {
        let token = (first + n) * S::F32_LANES;
        let at = token / KEY_BLOCK * KEY_BLOCK * kv_row + column * KEY_BLOCK + token % KEY_BLOCK;
        keys[at..].as_ptr()
    });
    let mut sums = [simd.splat_f32s(0.0); N];
    for (c, value) in q.iter().enumerate() {
        let value = simd.splat_f32s(*value);
        let offset = c.wrapping_mul(KEY_BLOCK);
        for n in 0..N {
            // SAFETY: the caller checked that the whole blocks up to the last strip lie in `keys`
            // and that the channels lie in a row; a strip does not cross its block's 16 lanes.
            let key = unsafe { starts[n].add(offset).cast::<S::f32s>().read_unaligned() };
            sums[n] = simd.mul_add_e_f32s(value, key, sums[n]);
        }
    }
    let (target, _) = S::as_mut_simd_f32s(&mut scores[first * S::F32_LANES..][..N * S::F32_LANES]);
    target[..N].copy_from_slice(&sums);
}

/// `out = Σ weights[t]·values[t]` over one head's channels.
#[inline(always)]
fn weighted_values<S: Simd>(simd: S, weights: &[f32], values: &[f32], kv_row: usize, column: usize, out: &mut [f32]) {
    assert!(weights.len() * kv_row <= values.len() && column + out.len() <= kv_row, "values too short");
    let (dim, lanes) = (out.len(), S::F32_LANES);
    let mut c = 0;
    while c + 4 * lanes <= dim {
        value_strips::<S, 4, 2>(simd, weights, values, kv_row, column + c, &mut out[c..c + 4 * lanes]);
        c += 4 * lanes;
    }
    while c + 2 * lanes <= dim {
        value_strips::<S, 2, 4>(simd, weights, values, kv_row, column + c, &mut out[c..c + 2 * lanes]);
        c += 2 * lanes;
    }
    while c + lanes <= dim {
        value_strips::<S, 1, 8>(simd, weights, values, kv_row, column + c, &mut out[c..c + lanes]);
        c += lanes;
    }
    for (c, out) in out.iter_mut().enumerate().skip(c) {
        *out = weights.iter().zip(values.chunks_exact(kv_row)).map(|(w, v)| w * v[column + c]).sum();
    }
}

/// `N` vectors of channels; `APART` neighbouring tokens add to sums of their own, because one chain
/// of multiply-adds would wait for itself.
#[inline(always)]
fn value_strips<S: Simd, const N: usize, const APART: usize>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    kv_row: usize,
    column: usize,
    out: &mut [f32],
) {
    let mut sums = [[simd.splat_f32s(0.0); N]; APART];
    let (groups, rest) = weights.as_chunks::<APART>();
    let mut row = values[column..].as_ptr();
    for group in groups {
        for a in 0..APART {
            let weight = simd.splat_f32s(group[a]);
            for n in 0..N {
                // SAFETY: the caller checked that `values` has a row for each weight and that the
                // columns lie within it.
                let value = unsafe { row.add(n * S::F32_LANES).cast::<S::f32s>().read_unaligned() };
                sums[a][n] = simd.mul_add_e_f32s(weight, value, sums[a][n]);
            }
            row = row.wrapping_add(kv_row);
        }
    }
    for (a, weight) in rest.iter().enumerate() {
        let weight = simd.splat_f32s(*weight);
        for n in 0..N {
            // SAFETY: as above.
            let value = unsafe { row.add(n * S::F32_LANES).cast::<S::f32s>().read_unaligned() };
            sums[a][n] = simd.mul_add_e_f32s(weight, value, sums[a][n]);
        }
        row = row.wrapping_add(kv_row);
    }
    let (out, _) = S::as_mut_simd_f32s(out);
    for n in 0..N {
        let mut total = sums[0][n];
        for a in 1..APART {
            total = simd.add_f32s(total, sums[a][n]);
        }
        out[n] = total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Par;
    use crate::kernels::attention::attention;

    /// Rows read one by one, or a few at a time, from the cache equal the whole sequence at once.
    #[test]
    fn cached_rows_equal_the_blockwise_kernel() {
        for (query, key_value, dim, softcap, window) in [
            (4, 2, 32, None, None),
            (2, 2, 10, Some(1.5), None),
            (6, 1, 40, None, Some(21)),
            (1, 1, 128, Some(4.0), Some(70)),
            (3, 3, 6, None, Some(1)),
        ] {
            let heads = Heads { query, key_value, dim, scale: 0.3, softcap, window };
            let (q_row, kv_row, tokens) = (query * dim, key_value * dim, 150);
            let wave = |len: usize, f: f32| (0..len).map(|i| (i as f32 * f).sin()).collect::<Vec<_>>();
            let (q, k, v) = (wave(tokens * q_row, 0.37), wave(tokens * kv_row, 0.71), wave(tokens * kv_row, 0.13));
            let mut expected = vec![0f32; q.len()];
            attention(Par::Sequential, &q, &k, &v, heads, &[0, tokens], &mut expected);
            let (mut blocks, mut scores, mut past) = (Vec::new(), Vec::new(), 0);
            for new in [1, 1, 3, 1, 10, 1, 15, 1, 1, 60, 1, 40, 1, 14] {
                append_keys(&mut blocks, past, &k[past * kv_row..(past + new) * kv_row], kv_row);
                let end = past + new;
                let mut out = vec![f32::NAN; new * q_row];
                let queries = &q[past * q_row..end * q_row];
                cached_attention(queries, &blocks, &v[..end * kv_row], heads, &mut out, &mut scores);
                for (a, b) in out.iter().zip(&expected[past * q_row..end * q_row]) {
                    assert!((a - b).abs() < 2e-5, "{query}/{key_value} heads of {dim}: {a} and {b}");
                }
                past = end;
            }
            assert_eq!(past, tokens);
        }
    }
}
