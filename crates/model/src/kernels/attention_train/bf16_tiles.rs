//! Gradients of attention with operands in bf16, by the processor's instructions for it: squares of [`SIDE`] keys by as
//! many queries, whose weights are computed again from the sums that the forward pass left (Dao, arXiv 2307.08691).
//! A square has a row for each key: so its weights, and their gradients, are operands of the products with queries
//! and with the gradients of the result as they are.

use super::{Job, Operands};
use crate::kernels::attention::{Heads, soft_cap};
use crate::kernels::bf16::{Destination, Instructions, Lines, NR, powers_of_2};
use crate::kernels::{SharedMut, dot};
use std::cell::RefCell;
use std::ops::Range;

/// Keys and queries of a square.
const SIDE: usize = 128;
/// Lanes of a vector.
const WIDTH: usize = 16;

/// The results, to which the gradients of keys and values are added.
#[derive(Clone, Copy)]
pub(super) struct Gradients {
    pub dq: SharedMut,
    pub dk: SharedMut,
    pub dv: SharedMut,
}

/// What a thread keeps from call to call.
#[derive(Default)]
struct Buffers {
    /// The blocks of queries of a head.
    queries: Vec<Queries>,
    keys: Keys,
    /// Scores of a square, then weights: `[key][query]`.
    weights: Vec<f32>,
    /// The weights' gradients, then the scores': `[key][query]`.
    slopes: Vec<f32>,
    /// What a cap multiplies the scores' gradients by, in a row.
    caps: Vec<f32>,
    /// An operand of the last products.
    packed: Vec<u32>,
    /// `[dim, queries]` of a head.
    dq: Vec<f32>,
}

/// A block of queries and of the gradients of their results, as columns of products.
#[derive(Default)]
struct Queries {
    /// A column for each row, by pairs of channels.
    rows: [Vec<u32>; 2],
    /// A column for each channel, by pairs of rows.
    channels: [Vec<u32>; 2],
    /// What is subtracted from each query's scores, in powers of 2, and from the gradients of its weights.
    log_sums: Vec<f32>,
    deltas: Vec<f32>,
}

/// A block of keys and values, as rows of products.
#[derive(Default)]
struct Keys {
    keys: Vec<u32>,
    values: Vec<u32>,
    /// A row for each channel of the keys, by pairs of tokens.
    channels: Vec<u32>,
    /// Their gradients, `[tokens, dim]` filled up to whole columns of a product.
    dk: Vec<f32>,
    dv: Vec<f32>,
}

/// The gradients of the query heads of one key head in one sequence.
///
/// # Safety
/// The results are as long as the operands of their names, and nobody else uses this sequence's rows of these heads
/// meanwhile.
pub(super) unsafe fn head_grad(instructions: Instructions, operands: Operands<'_>, job: Job, results: Gradients) {
    thread_local! {
        static BUFFERS: RefCell<Buffers> = RefCell::default();
    }
    assert!(instructions.available(), "attention by instructions that are not there");
    let _configured = instructions.enter();
    BUFFERS.with_borrow_mut(|buffers| {
        for buffer in [&mut buffers.weights, &mut buffers.slopes] {
            buffer.resize(SIDE * SIDE, 0.0);
        }
        let group = operands.heads.group();
        for head in job.head * group..(job.head + 1) * group {
            // SAFETY: the caller's promise, and the instructions are there and configured.
            unsafe { Head { instructions, operands, job, head }.run(buffers, results) };
        }
    });
}

/// A query head of a sequence.
#[derive(Clone, Copy)]
struct Head<'a> {
    instructions: Instructions,
    operands: Operands<'a>,
    /// The sequence and the key head.
    job: Job,
    head: usize,
}

impl Head<'_> {
    fn dim(&self) -> usize {
        self.operands.heads.dim
    }

    /// Channels, filled up to whole columns of a product.
    fn width(&self) -> usize {
        self.dim().next_multiple_of(NR)
    }

    /// From a token's query to the next, and from its key.
    fn strides(&self) -> (usize, usize) {
        (self.operands.heads.query * self.dim(), self.operands.heads.key_value * self.dim())
    }

    /// Where the query and the key of a token of the sequence begin.
    fn at(&self, token: usize) -> (usize, usize) {
        let (row, (query, key)) = (self.job.start + token, self.strides());
        (row * query + self.head * self.dim(), row * key + self.job.head * self.dim())
    }

    /// Tokens, filled up to whole blocks.
    fn whole(&self) -> usize {
        self.job.len.next_multiple_of(SIDE)
    }

    /// # Safety
    /// As [`head_grad`]; the instructions must be there and configured on this thread.
    unsafe fn run(self, buffers: &mut Buffers, results: Gradients) {
        let blocks = self.whole() / SIDE;
        if buffers.queries.len() < blocks {
            buffers.queries.resize_with(blocks, Queries::default);
        }
        buffers.dq.clear();
        buffers.dq.resize(self.dim() * self.whole(), 0.0);
        // SAFETY: the caller's promise.
        unsafe {
            for (block, queries) in buffers.queries[..blocks].iter_mut().enumerate() {
                self.pack_queries(block, queries);
            }
            for block in 0..blocks {
                self.keys(block, buffers, results);
            }
        }
        // Vectors of tokens, so that a line of memory is used whole on both sides.
        for first in (0..self.job.len).step_by(WIDTH) {
            let tokens = first..self.job.len.min(first + WIDTH);
            for (channel, dq) in buffers.dq.chunks_exact(self.whole()).enumerate() {
                for (token, dq) in tokens.clone().zip(&dq[tokens.clone()]) {
                    // SAFETY: the token's channels of this head are this call's own.
                    unsafe { *results.dq.at(self.at(token).0 + channel).0 = *dq };
                }
            }
        }
    }

    /// # Safety
    /// The instructions must be there.
    unsafe fn pack_queries(self, block: usize, queries: &mut Queries) {
        let (first, dim, stride) = (block * SIDE, self.dim(), self.strides().0);
        let (at, count) = (self.at(first).0, SIDE.min(self.job.len - first));
        let Operands { q, out, dout, log_sums, heads, .. } = self.operands;
        for ((values, rows), channels) in [q, dout].into_iter().zip(&mut queries.rows).zip(&mut queries.channels) {
            let (lines, turned) = (Lines::of_f32(&values[at..], stride, 1), Lines::of_f32(&values[at..], 1, stride));
            // SAFETY: the instructions are there.
            unsafe {
                self.instructions.pack_columns(lines, (0, count), (0, dim.div_ceil(2)), dim, rows);
                self.instructions.pack_columns(turned, (0, dim), (0, count.div_ceil(2)), count, channels);
            }
        }
        let tokens = self.job.start + first..self.job.start + first + count;
        queries.log_sums.clear();
        queries.log_sums.extend(tokens.map(|token| log_sums[token * heads.query + self.head]));
        queries.log_sums.resize(SIDE, 0.0);
        queries.deltas.clear();
        let rows = out[at..].chunks(stride).zip(dout[at..].chunks(stride)).take(count);
        queries.deltas.extend(rows.map(|(out, dout)| dot(&out[..dim], &dout[..dim])));
        queries.deltas.resize(SIDE, 0.0);
    }

    /// All that depends on a block of keys and values.
    ///
    /// # Safety
    /// As [`Head::run`].
    unsafe fn keys(self, block: usize, buffers: &mut Buffers, results: Gradients) {
        let (first, dim, stride, width) = (block * SIDE, self.dim(), self.strides().1, self.width());
        let (at, count) = (self.at(first).1, SIDE.min(self.job.len - first));
        let (k, v) = (&self.operands.k[at..], &self.operands.v[at..]);
        let keys = &mut buffers.keys;
        // SAFETY: the instructions are there.
        unsafe {
            let pack = |lines, rows, inner: usize, out: &mut Vec<u32>| {
                self.instructions.pack_rows(lines, (0, rows), (0, inner.div_ceil(2)), inner, out);
            };
            pack(Lines::of_f32(k, stride, 1), count, dim, &mut keys.keys);
            pack(Lines::of_f32(v, stride, 1), count, dim, &mut keys.values);
            pack(Lines::of_f32(k, 1, stride), dim, count, &mut keys.channels);
        }
        for sums in [&mut keys.dk, &mut keys.dv] {
            sums.clear();
            sums.resize(count * width, 0.0);
        }
        // The last block in which a query sees any of the keys.
        let window = self.operands.heads.window.unwrap_or(self.job.len);
        let last = (first + count - 1).saturating_add(window - 1).min(self.job.len - 1) / SIDE;
        for queries in block..=last {
            // SAFETY: the caller's promise.
            unsafe { self.square(first..first + count, queries, buffers) };
        }
        for (sums, target) in [(&buffers.keys.dk, results.dk), (&buffers.keys.dv, results.dv)] {
            for (token, sums) in (first..first + count).zip(sums.chunks_exact(width)) {
                for (channel, sum) in sums[..dim].iter().enumerate() {
                    // SAFETY: the token's channels of this key head are this call's own.
                    unsafe { *target.at(self.at(token).1 + channel).0 += sum };
                }
            }
        }
    }

    /// The tokens `keys` as keys, and a block of queries.
    ///
    /// # Safety
    /// The instructions must be there and configured on this thread.
    unsafe fn square(self, keys: Range<usize>, block: usize, buffers: &mut Buffers) {
        let (instructions, dim) = (self.instructions, self.dim());
        let queries = block * SIDE..self.job.len.min(block * SIDE + SIDE);
        let Buffers { queries: blocks, keys: packed_keys, weights, slopes, caps, packed, dq } = buffers;
        let columns = &blocks[block];
        // On the diagonal, queries before all keys of a tile see none of them.
        let hidden = |key: usize, query: usize| keys.start == queries.start && query + NR <= key;
        let square = Product { rows: keys.len(), inner: dim, stride: SIDE, accumulate: false };
        let pairs = |inner: usize| (0, inner.div_ceil(2));
        // SAFETY: the instructions are there and configured.
        unsafe {
            square.run(instructions, &packed_keys.keys, &columns.rows[0], weights, hidden);
            square.run(instructions, &packed_keys.values, &columns.rows[1], slopes, hidden);
            self.weigh(keys.clone(), queries.clone(), columns, weights, slopes, caps);
            let sums = Product { rows: keys.len(), inner: queries.len(), stride: self.width(), accumulate: true };
            let none = |_, _| false;
            for (square, channels, sum) in [
                (&*weights, &columns.channels[1], &mut packed_keys.dv),
                (&*slopes, &columns.channels[0], &mut packed_keys.dk),
            ] {
                let lines = Lines::of_f32(square, SIDE, 1);
                instructions.pack_rows(lines, (0, keys.len()), pairs(queries.len()), queries.len(), packed);
                sums.run(instructions, packed, channels, sum, none);
            }
            let lines = Lines::of_f32(slopes, 1, SIDE);
            instructions.pack_columns(lines, (0, queries.len()), pairs(keys.len()), keys.len(), packed);
            let turned = Product { rows: dim, inner: keys.len(), stride: self.whole(), accumulate: true };
            turned.run(instructions, &packed_keys.channels, packed, &mut dq[queries.start..], none);
        }
    }

    /// Turns products of keys and queries into weights, and the weights' gradients into those of the scores times their
    /// scale; both 0 where the query does not see the key.
    ///
    /// # Safety
    /// The instructions must be there.
    #[target_feature(enable = "avx512f")]
    unsafe fn weigh(
        self,
        keys: Range<usize>,
        queries: Range<usize>,
        columns: &Queries,
        weights: &mut [f32],
        slopes: &mut [f32],
        caps: &mut Vec<f32>,
    ) {
        use std::arch::x86_64::*;
        let Heads { scale, softcap, window, .. } = self.operands.heads;
        let factor = if softcap.is_some() { 1.0 } else { scale } * std::f32::consts::LOG2_E;
        let (factor, scale_vector) = (_mm512_set1_ps(factor), _mm512_set1_ps(scale));
        let vectors = queries.len().div_ceil(WIDTH);
        assert!(columns.log_sums.len() == SIDE && columns.deltas.len() == SIDE && vectors * WIDTH <= SIDE);
        for ((weights, slopes), key) in weights.chunks_exact_mut(SIDE).zip(slopes.chunks_exact_mut(SIDE)).zip(keys) {
            if let Some(cap) = softcap {
                weights.iter_mut().for_each(|score| *score *= scale);
                caps.resize(SIDE, 0.0);
                soft_cap(weights, cap, Some(caps));
            }
            let end = window.map_or(queries.end, |window| key.saturating_add(window)).min(queries.end);
            let seen = key.max(queries.start) - queries.start..end.saturating_sub(queries.start);
            for at in (0..vectors).map(|vector| vector * WIDTH) {
                let below = |end: usize| (1u32 << end.saturating_sub(at).min(WIDTH)) - 1;
                let mask = (below(seen.end) & !below(seen.start)) as __mmask16;
                // SAFETY: `at` and the vector's other lanes are within rows of `SIDE`.
                unsafe {
                    let (weight, slope) = (weights.as_mut_ptr().add(at), slopes.as_mut_ptr().add(at));
                    if mask == 0 {
                        _mm512_storeu_ps(weight, _mm512_setzero_ps());
                        _mm512_storeu_ps(slope, _mm512_setzero_ps());
                        continue;
                    }
                    let log_sum = _mm512_loadu_ps(columns.log_sums.as_ptr().add(at));
                    let delta = _mm512_loadu_ps(columns.deltas.as_ptr().add(at));
                    let power = _mm512_fmsub_ps(_mm512_loadu_ps(weight), factor, log_sum);
                    let value = _mm512_maskz_mov_ps(mask, powers_of_2(power));
                    let mut change = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(slope), delta), scale_vector);
                    if softcap.is_some() {
                        change = _mm512_mul_ps(change, _mm512_loadu_ps(caps.as_ptr().add(at)));
                    }
                    _mm512_storeu_ps(weight, value);
                    _mm512_storeu_ps(slope, _mm512_maskz_mul_ps(mask, value, change));
                }
            }
        }
    }
}

/// A product of packed rows and columns.
#[derive(Clone, Copy)]
struct Product {
    rows: usize,
    /// The inner dimension.
    inner: usize,
    /// Elements from a row of the result to the next.
    stride: usize,
    accumulate: bool,
}

impl Product {
    /// `result (+)= a·b`, all packed columns of it, but for the tiles whose first row and column are `hidden`.
    ///
    /// # Safety
    /// The instructions must be there and configured on this thread.
    unsafe fn run(
        self,
        instructions: Instructions,
        a: &[u32],
        b: &[u32],
        result: &mut [f32],
        hidden: impl Fn(usize, usize) -> bool,
    ) {
        let (depth, height) = (instructions.depth(self.inner.div_ceil(2)), instructions.rows());
        let columns = b.len() / depth;
        let last = (self.rows - 1) * self.stride + columns;
        assert!(columns <= self.stride && last <= result.len(), "attention: outside the result");
        assert!(a.len() >= self.rows.div_ceil(height) * height * depth, "attention: too few rows");
        let at = result.as_mut_ptr();
        for (column, b) in b.chunks_exact(depth * NR).enumerate().map(|(n, b)| (n * NR, b)) {
            for (row, a) in a.chunks_exact(height * depth).enumerate().map(|(n, a)| (n * height, a)) {
                if hidden(row, column) {
                    continue;
                }
                let at = at.wrapping_add(row * self.stride + column);
                let tile = Destination { at, stride: self.stride, rows: height.min(self.rows - row), cols: NR };
                // SAFETY: the tile is within the result; the rest is the caller's promise.
                unsafe { instructions.tile(a, b, tile, self.accumulate, 1.0) };
            }
        }
    }
}
