//! Attention for running forward: query rows against keys and values of their text so far, whether
//! those come from a cache, from the same batch, or from a text that several others continue.
//!
//! Keys are kept transposed in blocks of [`KEY_BLOCK`] tokens, so that the scores of a whole block
//! come from multiply-adds down the channels, without a horizontal sum for each key; values keep
//! one row per token. The query heads that share a key head, and neighbouring rows, go through in
//! tiles, so that keys and values are read once for several of them.
//!
//! A text goes by in spans of [`SPAN`] tokens, which stay in cache while some dozens of queries read them; what a query
//! has gathered so far is scaled where a later span has a larger score (Milakov & Gimelshein, arXiv 1805.02867; Dao et
//! al., arXiv 2205.14135). No row of scores is as long as its text.
//!
//! What a row gives depends on its own query, keys and values alone: every score is one chain of
//! multiply-adds down the channels and every output one along the tokens, whatever is in the tile, and spans begin at
//! the same tokens for every row.

mod products;

use super::attention::{Heads, soft_cap};
use super::{LANES, SharedMut, exp, max, reduce};
use products::{key_products, weighted_values};
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

/// Attention of the new tokens `rows` of a text (counted from the first of them) for the query heads of one key head.
/// Row `i` of `q` and of the result, `[new tokens, query·dim]`, sees the tokens up to its own, the last one all of
/// them; `scratch` is overwritten.
///
/// # Safety
/// `out` points to as many live elements as `q` has, of which nobody else uses those of these rows and of this key
/// head's query heads meanwhile.
pub(crate) unsafe fn attend(
    q: &[f32],
    kv: KeysValues<'_>,
    heads: Heads,
    kv_head: usize,
    rows: Range<usize>,
    out: SharedMut,
    scratch: &mut Vec<f32>,
) {
    let (q_row, group) = (heads.query * heads.dim, heads.query / heads.key_value);
    let (new, total) = (q.len() / q_row, kv.values.len() / kv.kv_row);
    assert!(
        new <= total
            && rows.end <= new
            && new * q_row == q.len()
            && total * kv.kv_row == kv.values.len()
            && kv.keys.len() == key_len(total, kv.kv_row)
            && kv.column + heads.dim <= kv.kv_row
            && (kv_head + 1) * group <= heads.query,
        "attend: shapes disagree"
    );
    scratch.resize(TILE * SPAN + QUERIES * heads.dim, 0.0);
    let (scores, sums) = scratch.split_at_mut(TILE * SPAN);
    let (first, past) = (kv_head * group, total - new);
    pulp::Arch::new().dispatch(Attend { q, kv, heads, first, group, rows, past, out, scores, sums });
}

/// Queries in a tile.
const TILE: usize = 4;
/// Queries that read a span one tile after the other.
const QUERIES: usize = 32;
/// Tokens whose scores are held at a time; whole blocks of keys.
const SPAN: usize = 128;

struct Attend<'a> {
    q: &'a [f32],
    kv: KeysValues<'a>,
    heads: Heads,
    /// First query head.
    first: usize,
    group: usize,
    rows: Range<usize>,
    /// Tokens before the first row of `q`.
    past: usize,
    out: SharedMut,
    /// `[TILE, SPAN]`.
    scores: &'a mut [f32],
    /// `[QUERIES, dim]`: values weighted so far.
    sums: &'a mut [f32],
}

/// A query: where it begins in `q` and in the result, the tokens it sees, and what it has gathered so far.
#[derive(Clone, Copy, Default)]
struct Query {
    at: usize,
    low: usize,
    end: usize,
    /// The largest score so far.
    peak: f32,
    /// Σ exp(score − peak) so far.
    weight: f32,
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let Heads { query, dim, .. } = self.heads;
        let (group, first_row) = (self.group, self.rows.start);
        let count = self.rows.len() * group;
        let mut queries = [Query::default(); QUERIES];
        for begin in (0..count).step_by(QUERIES) {
            let queries = &mut queries[..QUERIES.min(count - begin)];
            let (mut low, mut end) = (usize::MAX, 0);
            for (n, own) in (begin..).zip(queries.iter_mut()) {
                let (row, head) = (first_row + n / group, self.first + n % group);
                let token = self.past + row;
                let seen = self.heads.first_seen(token)..token + 1;
                (low, end) = (low.min(seen.start), end.max(seen.end));
                let at = row * query * dim + head * dim;
                *own = Query { at, low: seen.start, end: seen.end, peak: f32::NEG_INFINITY, weight: 0.0 };
            }
            self.sums[..queries.len() * dim].fill(0.0);
            for span in (low / SPAN * SPAN..end).step_by(SPAN) {
                let mut n = 0;
                while n + 4 <= queries.len() {
                    tile::<S, 4>(simd, &mut self, queries, n, span);
                    n += 4;
                }
                if n + 2 <= queries.len() {
                    tile::<S, 2>(simd, &mut self, queries, n, span);
                    n += 2;
                }
                if n < queries.len() {
                    tile::<S, 1>(simd, &mut self, queries, n, span);
                }
            }
            for (own, sums) in queries.iter().zip(self.sums.chunks_exact(dim)) {
                let inverse = 1.0 / own.weight;
                for (c, sum) in sums.iter().enumerate() {
                    // SAFETY: the result's row has `dim` channels from here, which are this job's own.
                    unsafe { *self.out.0.wrapping_add(own.at + c) = sum * inverse };
                }
            }
        }
    }
}

/// Takes the tokens of the span that begins with the token `span` in, for `Q` queries from number `first` on.
#[inline(always)]
fn tile<S: Simd, const Q: usize>(simd: S, job: &mut Attend<'_>, queries: &mut [Query], first: usize, span: usize) {
    let Heads { dim, scale, softcap, .. } = job.heads;
    let queries = &mut queries[first..first + Q];
    let low = queries.iter().map(|q| q.low).min().unwrap_or(0).max(span);
    let end = queries.iter().map(|q| q.end).max().unwrap_or(0).min(span + SPAN);
    if low >= end {
        return;
    }
    let mut starts = [0; Q];
    for i in 0..Q {
        starts[i] = queries[i].at;
    }
    key_products::<S, Q>(simd, job.q, starts, job.kv, dim, low..end, span, job.scores);
    let mut factors = [1f32; Q];
    for i in 0..Q {
        let row = &mut job.scores[i * SPAN..][..SPAN];
        let own = &mut queries[i];
        let (from, to) = (own.low.clamp(low, end), own.end.clamp(low, end));
        if from < to {
            factors[i] = softmax_numerators(&mut row[from - span..to - span], scale, softcap, own);
        }
        // What this query does not see weighs nothing in the tile's common pass over the values.
        row[low - span..from.min(to) - span].fill(0.0);
        row[to.max(from) - span..end - span].fill(0.0);
    }
    let sums = &mut job.sums[first * dim..][..Q * dim];
    weighted_values::<S, Q>(simd, job.scores, job.kv, dim, low..end, span, factors, sums);
}

/// Replaces products by `exp(score − peak)`, a score being the scaled (and perhaps capped) product and the peak the
/// largest score of the query so far, and takes their sum in. Returns what all that was gathered before is multiplied
/// by.
#[inline(always)]
fn softmax_numerators(scores: &mut [f32], scale: f32, softcap: Option<f32>, query: &mut Query) -> f32 {
    for v in scores.iter_mut() {
        *v *= scale;
    }
    if let Some(cap) = softcap {
        soft_cap(scores, cap, None);
    }
    let largest = max(scores);
    let peak = if largest > query.peak { largest } else { query.peak };
    let factor = if query.weight == 0.0 { 0.0 } else { exp(query.peak - peak) };
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
    query.peak = peak;
    query.weight = query.weight * factor + (reduce(lanes) + rest.iter().sum::<f32>());
    factor
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Threads;
    use crate::kernels::attention_train::attention;

    fn run(q: &[f32], keys: &[f32], values: &[f32], heads: Heads) -> Vec<f32> {
        let mut out = vec![f32::NAN; q.len()];
        let (q_row, kv_row) = (heads.query * heads.dim, heads.key_value * heads.dim);
        for kv_head in 0..heads.key_value {
            let kv = KeysValues { keys, values, kv_row, column: kv_head * heads.dim };
            // SAFETY: the result is as long as the queries, and this thread's own.
            unsafe { attend(q, kv, heads, kv_head, 0..q.len() / q_row, SharedMut(out.as_mut_ptr()), &mut vec![]) };
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
            (2, 1, 8, None, Some(130)),
            (1, 1, 256, None, Some(300)),
        ] {
            let heads = Heads { query, key_value, dim, scale: 0.3, softcap, window };
            let (q_row, kv_row, tokens) = (query * dim, key_value * dim, 430);
            let wave = |len: usize, f: f32| (0..len).map(|i| (i as f32 * f).sin()).collect::<Vec<_>>();
            let (q, k, v) = (wave(tokens * q_row, 0.37), wave(tokens * kv_row, 0.71), wave(tokens * kv_row, 0.13));
            let mut expected = vec![0f32; q.len()];
            attention(Threads::One, &q, &k, &v, heads, &[0, tokens], &mut expected);
            let mut all = Vec::new();
            append_keys(&mut all, 0, k.chunks_exact(kv_row), kv_row);
            let whole = run(&q, &all, &v, heads);
            let (mut blocks, mut past) = (Vec::new(), 0);
            for new in [1, 1, 3, 1, 10, 1, 15, 1, 1, 60, 1, 40, 1, 14, 200, 1, 79] {
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
