//! Attention with operands in bf16, by the processor's instructions for it: the queries of a tile go through as the
//! rows of a product with all keys of a span, and their weights as those of one with its values.

use super::{Job, Query, SPAN};
use crate::kernels::attention::{Heads, soft_cap};
use crate::kernels::bf16::{Destination, Instructions, Lines, NR, powers_of_2};
use std::cell::RefCell;
use std::ops::Range;

/// Rows of the largest tile.
const MOST: usize = 32;

thread_local! {
    /// Packed queries and weights.
    static PACKED: RefCell<[Vec<u32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Attention of some rows; see [`super::attend`]. The layout's instructions must be available.
pub(super) fn attend(instructions: Instructions, job: Job<'_>, scratch: &mut Vec<f32>) {
    let dim = job.heads.dim;
    let (rows, width) = (instructions.rows(), dim.next_multiple_of(NR));
    assert!(rows <= MOST && instructions.available(), "attention by instructions that are not there");
    scratch.resize(rows * (SPAN + width + dim), 0.0);
    let (scores, rest) = scratch.split_at_mut(rows * SPAN);
    let (sums, queries) = rest.split_at_mut(rows * width);
    let _configured = instructions.enter();
    PACKED.with_borrow_mut(|[packed_queries, packed_weights]| {
        let mut tile = Tile { instructions, job, scores, sums, queries, width, packed_queries, packed_weights };
        for first in (0..tile.job.queries()).step_by(rows) {
            let count = rows.min(tile.job.queries() - first);
            // SAFETY: the instructions are there and configured; the rest is the promise that came with the job.
            unsafe { tile.run(first, count) };
        }
    });
}

struct Tile<'a> {
    instructions: Instructions,
    job: Job<'a>,
    /// `[rows, SPAN]`: scores of a span, then weights.
    scores: &'a mut [f32],
    /// `[rows, width]`: values weighted so far.
    sums: &'a mut [f32],
    /// `[rows, dim]`.
    queries: &'a mut [f32],
    /// Channels, filled up to whole columns of a product.
    width: usize,
    packed_queries: &'a mut Vec<u32>,
    packed_weights: &'a mut Vec<u32>,
}

impl Tile<'_> {
    /// The queries `first..first + count`.
    ///
    /// # Safety
    /// As [`super::attend`]; the instructions must be there and configured on this thread.
    unsafe fn run(&mut self, first: usize, count: usize) {
        let dim = self.job.heads.dim;
        let mut queries = [Query::default(); MOST];
        let queries = &mut queries[..count];
        let seen = self.job.begin(first, queries);
        for (row, query) in self.queries.chunks_exact_mut(dim).zip(queries.iter()) {
            row.copy_from_slice(&self.job.q[query.at..query.at + dim]);
        }
        let lines = Lines::of_f32(self.queries, dim, 1);
        // SAFETY: the instructions are there.
        unsafe { self.instructions.pack_rows(lines, (0, count), (0, dim.div_ceil(2)), dim, self.packed_queries) };
        self.sums[..count * self.width].fill(0.0);
        for span in (seen.start / SPAN * SPAN..seen.end).step_by(SPAN) {
            let seen = seen.start.max(span) - span..seen.end.min(span + SPAN) - span;
            // SAFETY: as above.
            unsafe { self.span(span, seen, queries) };
        }
        for (query, sums) in queries.iter().zip(self.sums.chunks_exact(self.width)) {
            // SAFETY: the promise that came with the job.
            unsafe { self.job.finish(query, sums, query.peak) };
        }
    }

    /// Takes in the tokens `seen` of the span that begins with the token `span`.
    ///
    /// # Safety
    /// The instructions must be there and configured on this thread.
    unsafe fn span(&mut self, span: usize, seen: Range<usize>, queries: &mut [Query]) {
        let (keys, values) = self.job.kv.span(span);
        let count = queries.len();
        // Tokens by whole panels of keys.
        let tokens = seen.start / NR * NR..seen.end.next_multiple_of(NR);
        let panel = self.instructions.depth(self.job.heads.dim.div_ceil(2)) * NR;
        for (at, keys) in tokens.clone().step_by(NR).zip(keys[tokens.start / NR * panel..].chunks_exact(panel)) {
            let at = self.scores[at..].as_mut_ptr();
            let result = Destination { at, stride: SPAN, rows: count, cols: NR };
            // SAFETY: the scores have `count` rows, of which these columns are within the span.
            unsafe { self.instructions.tile(self.packed_queries, keys, result, false, 1.0) };
        }
        // SAFETY: every processor with these instructions has these parts of AVX-512.
        unsafe { self.weigh(span, tokens.clone(), queries) };
        let rows = tokens.start / 2 * NR..tokens.end / 2 * NR;
        let panels = values.chunks_exact(values.len() / (self.width / NR));
        for (at, values) in (0..self.width).step_by(NR).zip(panels) {
            let at = self.sums[at..].as_mut_ptr();
            let result = Destination { at, stride: self.width, rows: count, cols: NR };
            // SAFETY: the sums have `count` rows of `width`.
            unsafe { self.instructions.tile(self.packed_weights, &values[rows.clone()], result, true, 1.0) };
        }
    }

    /// Turns the scores of the tokens `tokens` of a span into packed weights, 0 where a query does not see the token,
    /// and scales what the queries gathered before.
    ///
    /// # Safety
    /// The instructions must be there.
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn weigh(&mut self, span: usize, tokens: Range<usize>, queries: &mut [Query]) {
        let Heads { scale, softcap, .. } = self.job.heads;
        let (count, steps) = (queries.len(), tokens.len() / NR);
        self.packed_weights.resize(steps * MOST * NR / 2, 0);
        let rows = self.scores.chunks_exact_mut(SPAN).zip(self.sums.chunks_exact_mut(self.width));
        for (row, ((scores, sums), query)) in rows.zip(queries).enumerate() {
            let scores = &mut scores[tokens.clone()];
            let place = |token: usize| token.saturating_sub(span + tokens.start).min(scores.len());
            let seen = place(query.low)..place(query.end);
            let mut scale = scale;
            if let Some(cap) = softcap {
                scores[seen.clone()].iter_mut().for_each(|score| *score *= scale);
                soft_cap(&mut scores[seen.clone()], cap, None);
                scale = 1.0;
            }
            let pairs = (self.instructions == Instructions::Amx).then(|| &mut self.packed_weights[row * NR / 2..]);
            // SAFETY: AVX-512 is there.
            let factor = unsafe {
                match steps {
                    1 => weights::<2>(scores, seen, scale, query, pairs),
                    2 => weights::<4>(scores, seen, scale, query, pairs),
                    3 => weights::<6>(scores, seen, scale, query, pairs),
                    _ => weights::<8>(scores, seen, scale, query, pairs),
                }
            };
            if factor != 1.0 {
                sums.iter_mut().for_each(|sum| *sum *= factor);
            }
        }
        if self.instructions != Instructions::Amx {
            let lines = Lines::of_f32(&self.scores[tokens.start..], SPAN, 1);
            let (pairs, inner) = ((0, tokens.len() / 2), tokens.len());
            // SAFETY: the instructions are there.
            unsafe { self.instructions.pack_rows(lines, (0, count), pairs, inner, self.packed_weights) };
        }
    }
}

/// Lanes of a vector.
const WIDTH: usize = 16;

/// Turns the products of a query with `VECTORS` vectors of keys into `exp(score − peak)`, a score being the product
/// times `scale`, and the peak the largest score of the query so far; into 0 outside of `seen`. Takes their sum in.
/// Returns what all that was gathered before is multiplied by.
///
/// The weights replace the products, or go rounded to the packed rows `pairs`, where a step of 32 tokens is
/// [`MOST`] rows further on than the one before.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn weights<const VECTORS: usize>(
    products: &mut [f32],
    seen: Range<usize>,
    scale: f32,
    query: &mut Query,
    pairs: Option<&mut [u32]>,
) -> f32 {
    use std::arch::x86_64::*;
    assert!(products.len() == VECTORS * WIDTH, "products of another number of keys");
    // Finite, so that it can be rounded; its exponential is 0.
    let unseen = _mm512_set1_ps(-1e30);
    let mut vectors = [unseen; VECTORS];
    let mut largest = unseen;
    let whole = seen == (0..products.len());
    for (n, vector) in vectors.iter_mut().enumerate() {
        let mask = if whole {
            __mmask16::MAX
        } else {
            let below = |end: usize| (1u32 << end.saturating_sub(n * WIDTH).min(WIDTH)) - 1;
            (below(seen.end) & !below(seen.start)) as __mmask16
        };
        // SAFETY: a vector of the products.
        *vector = unsafe { _mm512_mask_loadu_ps(unseen, mask, products.as_ptr().add(n * WIDTH)) };
        largest = _mm512_max_ps(largest, *vector);
    }
    let mut factor = 1.0;
    if seen.is_empty() {
        vectors.fill(_mm512_setzero_ps());
    } else {
        // In powers of 2.
        let scale = scale * std::f32::consts::LOG2_E;
        let largest = _mm512_reduce_max_ps(largest) * scale;
        let peak = if largest > query.peak { largest } else { query.peak };
        if query.weight != 0.0 && peak != query.peak {
            factor = (query.peak - peak).exp2();
        }
        let (scale, shift) = (_mm512_set1_ps(scale), _mm512_set1_ps(-peak));
        let mut sum = _mm512_setzero_ps();
        for vector in &mut vectors {
            *vector = powers_of_2(_mm512_fmadd_ps(*vector, scale, shift));
            sum = _mm512_add_ps(sum, *vector);
        }
        query.peak = peak;
        query.weight = query.weight * factor + _mm512_reduce_add_ps(sum);
    }
    match pairs {
        Some(pairs) => {
            assert!(pairs.len() >= (VECTORS / 2 - 1) * MOST * NR / 2 + NR / 2, "packed rows are too short");
            for (step, two) in vectors.chunks_exact(2).enumerate() {
                // SAFETY: the length was asserted; bf16 pairs are plain bits.
                unsafe {
                    let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(two[1], two[0]));
                    _mm512_storeu_si512(pairs.as_mut_ptr().add(step * MOST * NR / 2).cast(), both);
                }
            }
        }
        None => {
            for (n, vector) in vectors.iter().enumerate() {
                // SAFETY: a vector of the products.
                unsafe { _mm512_storeu_ps(products.as_mut_ptr().add(n * WIDTH), *vector) };
            }
        }
    }
    factor
}
