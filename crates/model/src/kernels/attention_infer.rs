//! Attention for running forward: query rows against keys and values of their text so far, whether
//! those come from a cache, from the same batch, or from a text that several others continue.
//!
//! Keys are kept transposed in blocks of [`KEY_BLOCK`] tokens, so that the scores of a whole block
//! come from multiply-adds down the channels, without a horizontal sum for each key; values keep
//! one row per token. The query heads that share a key head, and neighbouring rows, go through in
//! tiles, so that keys and values are read once for several of them.
//!
//! What a row gives depends on its own query, keys and values alone: every score is one chain of
//! multiply-adds down the channels and every output one along the tokens, whatever is in the tile.

// Loops over small constant ranges are written with indices: they must unroll completely so that
// the sums stay in registers.
#![allow(clippy::needless_range_loop, reason = "one index runs over several arrays")]

use super::attention::{Heads, soft_cap};
use super::{LANES, SharedMut, exp, max, reduce};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Tokens whose keys are interleaved; a multiple of every vector width.
pub const KEY_BLOCK: usize = 16;

/// Length of the keys of `tokens` tokens, the last block filled up.
pub fn key_len(tokens: usize, kv_row: usize) -> usize {
    tokens.div_ceil(KEY_BLOCK) * KEY_BLOCK * kv_row
}

/// Writes the keys (rows of `kv_row` channels) of the tokens from `past` on into their blocks,
/// growing `blocks`.
pub fn append_keys<'a>(
    blocks: &mut Vec<f32>,
    past: usize,
    keys: impl ExactSizeIterator<Item = &'a [f32]>,
    kv_row: usize,
) {
    blocks.resize(key_len(past + keys.len(), kv_row), 0.0);
    for (token, row) in (past..).zip(keys) {
        let block = &mut blocks[token / KEY_BLOCK * KEY_BLOCK * kv_row..][..KEY_BLOCK * kv_row];
        for (lanes, value) in block.chunks_exact_mut(KEY_BLOCK).zip(row) {
            lanes[token % KEY_BLOCK] = *value;
        }
    }
}

/// Keys and values of one text, of one or all of a layer's key heads.
#[derive(Debug, Clone, Copy)]
pub struct KeysValues<'a> {
    /// In blocks, as [`append_keys`] writes them.
    pub keys: &'a [f32],
    /// `[tokens, kv_row]`.
    pub values: &'a [f32],
    /// Channels of a token.
    pub kv_row: usize,
    /// Where this head's channels begin.
    pub column: usize,
}

/// Attention of the last `rows` tokens of a text for the query heads of one key head. Row `i` of `q`
/// and of the result, `[rows, query·dim]`, sees the tokens up to its own; `scores` is scratch.
///
/// # Safety
/// `out` points to `rows·query·dim` live elements, of which nobody else uses those of this key
/// head's query heads meanwhile.
pub(crate) unsafe fn attend(
    q: &[f32],
    kv: KeysValues<'_>,
    heads: Heads,
    kv_head: usize,
    out: SharedMut,
    scores: &mut Vec<f32>,
) {
    let (q_row, group) = (heads.query * heads.dim, heads.query / heads.key_value);
    let (rows, total) = (q.len() / q_row, kv.values.len() / kv.kv_row);
    assert!(
        rows <= total
            && rows * q_row == q.len()
            && total * kv.kv_row == kv.values.len()
            && kv.keys.len() == key_len(total, kv.kv_row)
            && kv.column + heads.dim <= kv.kv_row
            && (kv_head + 1) * group <= heads.query,
        "attend: shapes disagree"
    );
    let width = total.next_multiple_of(KEY_BLOCK);
    scores.resize(TILE * width, 0.0);
    pulp::Arch::new().dispatch(Attend { q, kv, heads, first: kv_head * group, group, total, out, scores, width });
}

/// Queries in a tile.
const TILE: usize = 4;

struct Attend<'a> {
    q: &'a [f32],
    kv: KeysValues<'a>,
    heads: Heads,
    /// First query head.
    first: usize,
    group: usize,
    total: usize,
    out: SharedMut,
    scores: &'a mut [f32],
    width: usize,
}

/// A query of a tile: where it begins in `q` and in the result, and the tokens it sees.
#[derive(Clone, Copy, Default)]
struct Query {
    at: usize,
    low: usize,
    end: usize,
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let q_row = self.heads.query * self.heads.dim;
        let rows = self.q.len() / q_row;
        let (past, heads, first, group) = (self.total - rows, self.heads, self.first, self.group);
        let query = |n: usize| {
            let (row, head) = (n / group, first + n % group);
            let token = past + row;
            Query { at: row * q_row + head * heads.dim, low: heads.first_seen(token), end: token + 1 }
        };
        let count = rows * group;
        let mut n = 0;
        while n + 4 <= count {
            tile::<S, 4>(simd, &mut self, std::array::from_fn(|i| query(n + i)));
            n += 4;
        }
        if n + 2 <= count {
            tile::<S, 2>(simd, &mut self, std::array::from_fn(|i| query(n + i)));
            n += 2;
        }
        if n < count {
            tile::<S, 1>(simd, &mut self, [query(n)]);
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const Q: usize>(simd: S, job: &mut Attend<'_>, queries: [Query; Q]) {
    let Heads { dim, scale, softcap, .. } = job.heads;
    let (kv, width) = (job.kv, job.width);
    let low = queries.iter().map(|q| q.low).min().unwrap_or(0);
    let end = queries.iter().map(|q| q.end).max().unwrap_or(0);
    let starts: [usize; Q] = queries.map(|q| q.at);
    key_products::<S, Q>(simd, job.q, starts, kv, dim, low..end, job.scores, width);
    let mut inverse = [0f32; Q];
    for i in 0..Q {
        let row = &mut job.scores[i * width..][..end];
        inverse[i] = 1.0 / softmax_numerators(&mut row[queries[i].low..queries[i].end], scale, softcap);
        // What this query does not see weighs nothing in the tile's common pass over the values.
        row[low..queries[i].low].fill(0.0);
        row[queries[i].end..].fill(0.0);
    }
    let outs: [*mut f32; Q] = queries.map(|q| job.out.0.wrapping_add(q.at));
    weighted_values::<S, Q>(simd, job.scores, width, kv, dim, low..end, inverse, outs);
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

/// Products of the queries with the keys of the tokens `seen` (and of whatever else is in the blocks
/// at both ends).
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
fn key_products<S: Simd, const Q: usize>(
    simd: S,
    q: &[f32],
    starts: [usize; Q],
    kv: KeysValues<'_>,
    dim: usize,
    seen: Range<usize>,
    scores: &mut [f32],
    width: usize,
) {
    // A strip is as many tokens of a block as a vector has lanes.
    let strips = seen.end.next_multiple_of(KEY_BLOCK) / S::F32_LANES;
    assert!(strips * S::F32_LANES <= width && Q * width <= scores.len(), "scores too short");
    assert!(strips * S::F32_LANES * kv.kv_row <= kv.keys.len() && kv.column + dim <= kv.kv_row, "keys too short");
    assert!(starts.iter().all(|at| at + dim <= q.len()), "queries too short");
    let mut strip = seen.start / S::F32_LANES;
    while strip + 4 <= strips {
        key_strips::<S, Q, 4>(simd, q, starts, kv, dim, strip, scores, width);
        strip += 4;
    }
    while strip < strips {
        key_strips::<S, Q, 1>(simd, q, starts, kv, dim, strip, scores, width);
        strip += 1;
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
fn key_strips<S: Simd, const Q: usize, const N: usize>(
    simd: S,
    q: &[f32],
    starts: [usize; Q],
    kv: KeysValues<'_>,
    dim: usize,
    first: usize,
    scores: &mut [f32],
    width: usize,
) {
    let keys_at: [*const f32; N] = std::array::from_fn(|n| {
        let token = (first + n) * S::F32_LANES;
        let at = token / KEY_BLOCK * KEY_BLOCK * kv.kv_row + kv.column * KEY_BLOCK + token % KEY_BLOCK;
        kv.keys[at..].as_ptr()
    });
    let q_at: [*const f32; Q] = starts.map(|at| q[at..].as_ptr());
    let mut sums = [[simd.splat_f32s(0.0); N]; Q];
    for c in 0..dim {
        let offset = c.wrapping_mul(KEY_BLOCK);
        let mut keys = [simd.splat_f32s(0.0); N];
        for n in 0..N {
            // SAFETY: the caller checked that the whole blocks up to the last strip lie in `keys`
            // and that the channels lie in a row; a strip does not cross its block's 16 lanes.
            keys[n] = unsafe { keys_at[n].add(offset).cast::<S::f32s>().read_unaligned() };
        }
        for i in 0..Q {
            // SAFETY: the caller checked that each query has `dim` channels.
            let value = simd.splat_f32s(unsafe { *q_at[i].add(c) });
            for n in 0..N {
                sums[i][n] = simd.mul_add_e_f32s(value, keys[n], sums[i][n]);
            }
        }
    }
    for i in 0..Q {
        let (target, _) = S::as_mut_simd_f32s(&mut scores[i * width + first * S::F32_LANES..][..N * S::F32_LANES]);
        target[..N].copy_from_slice(&sums[i]);
    }
}

/// `outs[i] = inverse[i]·Σ weights[i][t]·values[t]` over the tokens `seen` and one head's channels.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
fn weighted_values<S: Simd, const Q: usize>(
    simd: S,
    weights: &[f32],
    width: usize,
    kv: KeysValues<'_>,
    dim: usize,
    seen: Range<usize>,
    inverse: [f32; Q],
    outs: [*mut f32; Q],
) {
    assert!(seen.end * kv.kv_row <= kv.values.len() && kv.column + dim <= kv.kv_row, "values too short");
    assert!(seen.end <= width && Q * width <= weights.len(), "weights too short");
    let lanes = S::F32_LANES;
    let mut c = 0;
    while c + 4 * lanes <= dim {
        value_strips::<S, Q, 4>(simd, weights, width, kv, c, &seen, inverse, outs);
        c += 4 * lanes;
    }
    while c + 2 * lanes <= dim {
        value_strips::<S, Q, 2>(simd, weights, width, kv, c, &seen, inverse, outs);
        c += 2 * lanes;
    }
    while c + lanes <= dim {
        value_strips::<S, Q, 1>(simd, weights, width, kv, c, &seen, inverse, outs);
        c += lanes;
    }
    for c in c..dim {
        for i in 0..Q {
            let column = kv.column + c;
            let sum: f32 = seen.clone().map(|t| weights[i * width + t] * kv.values[t * kv.kv_row + column]).sum();
            // SAFETY: the result's row has `dim` channels from here, which are this job's own.
            unsafe { *outs[i].add(c) = sum * inverse[i] };
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
fn value_strips<S: Simd, const Q: usize, const N: usize>(
    simd: S,
    weights: &[f32],
    width: usize,
    kv: KeysValues<'_>,
    channel: usize,
    seen: &Range<usize>,
    inverse: [f32; Q],
    outs: [*mut f32; Q],
) {
    let mut sums = [[simd.splat_f32s(0.0); N]; Q];
    let mut row = kv.values.as_ptr().wrapping_add(seen.start * kv.kv_row + kv.column + channel);
    let weights_at: [*const f32; Q] = std::array::from_fn(|i| weights[i * width..].as_ptr());
    for t in seen.clone() {
        let mut values = [simd.splat_f32s(0.0); N];
        for n in 0..N {
            // SAFETY: the caller checked that `values` has a row for each token seen, and that the
            // channels lie within it.
            values[n] = unsafe { row.add(n * S::F32_LANES).cast::<S::f32s>().read_unaligned() };
        }
        for i in 0..Q {
            // SAFETY: the caller checked that each query has a weight for each token.
            let weight = simd.splat_f32s(unsafe { *weights_at[i].add(t) });
            for n in 0..N {
                sums[i][n] = simd.mul_add_e_f32s(weight, values[n], sums[i][n]);
            }
        }
        row = row.wrapping_add(kv.kv_row);
    }
    for i in 0..Q {
        let factor = simd.splat_f32s(inverse[i]);
        for n in 0..N {
            let value = simd.mul_f32s(sums[i][n], factor);
            // SAFETY: the result's row has these channels, which are this job's own.
            unsafe { outs[i].add(channel + n * S::F32_LANES).cast::<S::f32s>().write_unaligned(value) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Threads;
    use crate::kernels::attention_train::attention;

    fn run(q: &[f32], keys: &[f32], values: &[f32], heads: Heads) -> Vec<f32> {
        let mut out = vec![f32::NAN; q.len()];
        let kv_row = heads.key_value * heads.dim;
        for kv_head in 0..heads.key_value {
            let kv = KeysValues { keys, values, kv_row, column: kv_head * heads.dim };
            // SAFETY: the result is as long as the queries, and this thread's own.
            unsafe { attend(q, kv, heads, kv_head, SharedMut(out.as_mut_ptr()), &mut Vec::new()) };
        }
        out
    }

    /// Rows read one by one, or a few at a time, equal the blockwise kernel that training uses, and
    /// have the same bits however many go together.
    #[test]
    fn rows_equal_the_blockwise_kernel_and_ignore_their_neighbours() {
        for (query, key_value, dim, softcap, window) in [
            (4, 2, 32, None, None),
            (2, 2, 10, Some(1.5), None),
            (6, 1, 40, None, Some(21)),
            (1, 1, 128, Some(4.0), Some(70)),
            (3, 3, 6, None, Some(1)),
            (14, 2, 64, None, None),
        ] {
            let heads = Heads { query, key_value, dim, scale: 0.3, softcap, window };
            let (q_row, kv_row, tokens) = (query * dim, key_value * dim, 150);
            let wave = |len: usize, f: f32| (0..len).map(|i| (i as f32 * f).sin()).collect::<Vec<_>>();
            let (q, k, v) = (wave(tokens * q_row, 0.37), wave(tokens * kv_row, 0.71), wave(tokens * kv_row, 0.13));
            let mut expected = vec![0f32; q.len()];
            attention(Threads::One, &q, &k, &v, heads, &[0, tokens], &mut expected);
            let mut all = Vec::new();
            append_keys(&mut all, 0, k.chunks_exact(kv_row), kv_row);
            let whole = run(&q, &all, &v, heads);
            let (mut blocks, mut past) = (Vec::new(), 0);
            for new in [1, 1, 3, 1, 10, 1, 15, 1, 1, 60, 1, 40, 1, 14] {
                append_keys(&mut blocks, past, k[past * kv_row..(past + new) * kv_row].chunks_exact(kv_row), kv_row);
                let end = past + new;
                let out = run(&q[past * q_row..end * q_row], &blocks, &v[..end * kv_row], heads);
                assert_eq!(out, whole[past * q_row..end * q_row]);
                for (a, b) in out.iter().zip(&expected[past * q_row..end * q_row]) {
                    assert!((a - b).abs() < 2e-5, "{query}/{key_value} heads of {dim}: {a} and {b}");
                }
                past = end;
            }
            assert_eq!(past, tokens);
        }
    }
}
