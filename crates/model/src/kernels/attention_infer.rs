//! Attention for running forward: query rows against keys and values of their text so far, whether those come from a
//! cache, from the same batch, or from a text that several others continue. In `f32`, or, where keys and values are
//! kept in bf16, with operands in bf16: queries, keys, the weights of the softmax, and values. Scores, their softmax
//! and all sums are `f32` in any case.
//!
//! A text goes by in spans of [`SPAN`] tokens, which stay in cache while some dozens of queries read them; what a query
//! has gathered so far is scaled where a later span has a larger score (Milakov & Gimelshein, arXiv 1805.02867; Dao et
//! al., arXiv 2205.14135). No row of scores is as long as its text.
//!
//! What a row gives depends on its own query, keys and values alone: every score is summed down the channels and every
//! output along the tokens in one order, whatever else is in the tile, and spans begin at the same tokens for every
//! row.

#[cfg(target_arch = "x86_64")]
mod bf16_tiles;
mod f32_vectors;
mod keys_values;
mod products;

use super::attention::{Heads, soft_cap};
use super::{LANES, SharedMut, exp, max, reduce};
pub use keys_values::KvLayout;
pub(crate) use keys_values::{KeysValues, Spans};
use std::cell::RefCell;
use std::ops::Range;

/// Tokens whose keys and values are in one block, and whose scores are held at a time.
pub const SPAN: usize = 128;

/// Attention of some rows of a text for the query heads of one key head.
pub(crate) struct Job<'a> {
    /// Queries of the text's new tokens, its last ones: `[new tokens, query·dim]`.
    pub q: &'a [f32],
    /// Keys and values of the whole text.
    pub kv: KeysValues<'a>,
    pub heads: Heads,
    /// Rows of `q` to attend for. Each sees the tokens up to its own.
    pub rows: Range<usize>,
    /// The result, shaped like `q`.
    pub out: SharedMut,
    /// Where log2 Σ exp(score) of each query is written, if it is wanted: `[new tokens, query]`.
    pub log_sums: Option<SharedMut>,
}

/// Attention of the job's rows.
///
/// # Safety
/// `out` points to as many live elements as `q` has, and `log_sums` to one for each of its heads; nobody else uses
/// those of these rows and of this key head's query heads meanwhile.
pub(crate) unsafe fn attend(job: Job<'_>) {
    thread_local! {
        static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    let Job { q, kv, heads, rows, .. } = &job;
    let new = q.len() / (heads.query * heads.dim);
    assert!(
        new <= kv.tokens
            && rows.end <= new
            && new * heads.query * heads.dim == q.len()
            && kv.layout.dim == heads.dim
            && (kv.head + 1) * heads.group() <= heads.query,
        "attend: shapes disagree"
    );
    let layout = kv.layout;
    SCRATCH.with_borrow_mut(|scratch| match layout.instructions {
        None => f32_vectors::attend(job, scratch),
        #[cfg(target_arch = "x86_64")]
        Some(instructions) => bf16_tiles::attend(instructions, job, scratch),
        #[cfg(not(target_arch = "x86_64"))]
        Some(_) => unreachable!("bf16 without instructions for it"),
    });
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

impl Job<'_> {
    /// Number of queries: rows times heads.
    fn queries(&self) -> usize {
        self.rows.len() * self.heads.group()
    }

    /// Begins the queries from number `first` on, the heads of a row one after the other; returns the tokens that any
    /// of them sees.
    fn begin(&self, first: usize, queries: &mut [Query]) -> Range<usize> {
        let Heads { query, dim, .. } = self.heads;
        let group = self.heads.group();
        let past = self.kv.tokens - self.q.len() / (query * dim);
        let (mut low, mut end) = (usize::MAX, 0);
        for (n, own) in (first..).zip(queries) {
            let (row, head) = (self.rows.start + n / group, self.kv.head * group + n % group);
            let token = past + row;
            let seen = self.heads.first_seen(token)..token + 1;
            (low, end) = (low.min(seen.start), end.max(seen.end));
            let at = row * query * dim + head * dim;
            *own = Query { at, low: seen.start, end: seen.end, peak: f32::NEG_INFINITY, weight: 0.0 };
        }
        low..end
    }

    /// Writes the result of a query, whose largest score in powers of 2 is `peak`.
    ///
    /// # Safety
    /// As [`attend`].
    #[inline(always)]
    unsafe fn finish(&self, query: &Query, sums: &[f32], peak: f32) {
        if let Some(log_sums) = self.log_sums {
            // SAFETY: there is one for each head of `dim` channels; this one is this job's own.
            unsafe { *log_sums.0.wrapping_add(query.at / self.heads.dim) = peak + query.weight.log2() };
        }
        let inverse = 1.0 / query.weight;
        for (c, sum) in sums[..self.heads.dim].iter().enumerate() {
            // SAFETY: the result has `dim` channels from here, which are this job's own.
            unsafe { *self.out.0.wrapping_add(query.at + c) = sum * inverse };
        }
    }
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
    use crate::cache::LayerCache;
    use crate::kernels::Threads;
    use crate::kernels::attention_train::attention;
    use crate::kernels::bf16::Instructions;
    use lopper_testkit::{Feature, skip_unless};

    fn waves(len: usize, frequency: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * frequency).sin()).collect()
    }

    /// Attention of the last tokens of a text, whose queries `q` are.
    fn run(q: &[f32], cache: &LayerCache, layout: KvLayout, heads: Heads) -> Vec<f32> {
        let mut out = vec![f32::NAN; q.len()];
        for head in 0..heads.key_value {
            let kv = KeysValues { layout, tokens: cache.tokens, head, spans: Spans::Blocks(&cache.blocks) };
            let (rows, out) = (0..q.len() / (heads.query * heads.dim), SharedMut(out.as_mut_ptr()));
            // SAFETY: the result is as long as the queries, and this thread's own.
            unsafe { attend(Job { q, kv, heads, rows, out, log_sums: None }) };
        }
        out
    }

    /// Rows read one by one, or a few at a time, equal the blockwise kernel that training uses, and
    /// have the same bits however many go together; in bf16, within what rounding gives.
    #[test]
    fn rows_equal_the_blockwise_kernel_and_ignore_their_neighbours() {
        let instructions = [Instructions::Amx, Instructions::Dot].into_iter().filter(|i| i.available());
        let mut kinds = vec![None];
        kinds.extend(instructions.map(Some));
        let _ = skip_unless(Feature::Bf16, kinds.get(1));
        for (query, key_value, dim, softcap, window) in [
            (4, 2, 32, None, None),
            (2, 2, 10, Some(1.5), None),
            (6, 1, 40, None, Some(21)),
            (1, 1, 128, Some(4.0), Some(70)),
            (3, 3, 6, None, Some(1)),
            (3, 1, 9, None, None),
            (14, 2, 64, None, None),
            (2, 1, 8, None, Some(130)),
            (1, 1, 256, None, Some(300)),
        ] {
            let heads = Heads { query, key_value, dim, scale: 0.3, softcap, window };
            let (q_row, kv_row, tokens) = (query * dim, key_value * dim, 430);
            let (q, k, v) = (waves(tokens * q_row, 0.37), waves(tokens * kv_row, 0.71), waves(tokens * kv_row, 0.13));
            let mut expected = vec![0f32; q.len()];
            attention(Threads::One, &q, &k, &v, heads, &[0, tokens], &mut expected);
            for instructions in &kinds {
                let layout = KvLayout { heads: key_value, dim, instructions: *instructions };
                let mut whole = LayerCache::default();
                whole.append(&k, &v, layout);
                let whole = run(&q, &whole, layout, heads);
                let largest = |a: f32, b: f32| if b.abs() > a { b.abs() } else { a };
                let error = whole.iter().zip(&expected).map(|(a, b)| a - b).fold(0f32, largest);
                // In bf16, scores are off by up to a thousandth or so for each of their products, and weights and
                // values by 2⁻⁹.
                let allowed = if instructions.is_some() { 2e-2 } else { 2e-5 };
                assert!(error < allowed, "{query}/{key_value} heads of {dim}, {instructions:?}: off by {error}");
                let (mut cache, mut past) = (LayerCache::default(), 0);
                for new in [1, 1, 3, 1, 10, 1, 15, 1, 1, 60, 1, 40, 1, 14, 200, 1, 79] {
                    let end = past + new;
                    cache.append(&k[past * kv_row..end * kv_row], &v[past * kv_row..end * kv_row], layout);
                    let out = run(&q[past * q_row..end * q_row], &cache, layout, heads);
                    assert!(out == whole[past * q_row..end * q_row], "{dim}, {instructions:?}: rows {past}..{end}");
                    past = end;
                }
                assert_eq!(past, tokens);
            }
        }
    }

    /// In bf16, the result is that of rounded queries, keys and values, but for the rounding of the weights.
    #[test]
    fn operands_in_bf16_are_rounded_and_sums_are_not() {
        let Some(instructions) = skip_unless(Feature::Bf16, Instructions::best()) else { return };
        let heads = Heads { query: 3, key_value: 1, dim: 64, scale: 0.125, softcap: None, window: None };
        let tokens = 300;
        let rounded = |values: Vec<f32>| -> Vec<f32> {
            values.into_iter().map(|value| half::bf16::from_f32(value).to_f32()).collect()
        };
        let q = rounded(waves(tokens * 192, 0.37).into_iter().map(|q| 3.0 * q).collect());
        let (k, v) = (rounded(waves(tokens * 64, 0.71)), rounded(waves(tokens * 64, 0.13)));
        let mut expected = vec![0f32; q.len()];
        attention(Threads::One, &q, &k, &v, heads, &[0, tokens], &mut expected);
        let layout = KvLayout { heads: 1, dim: 64, instructions: Some(instructions) };
        let mut cache = LayerCache::default();
        cache.append(&k, &v, layout);
        let out = run(&q, &cache, layout, heads);
        // The first token sees itself alone, with a weight of 1.
        assert_eq!(out[..64], v[..64]);
        let error = out.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(error < 2f32.powi(-9) && error > 0.0, "off by {error}");
    }
}
