//! Attention in `f32`: scores of a group of keys come from multiply-adds down the channels, without a horizontal sum
//! for each key. The query heads that share a key head, and neighbouring rows, go through in tiles, so that keys and
//! values are read once for several of them.

use super::products::{key_products, weighted_values};
use super::{Job, Query, SPAN, softmax_numerators};
use crate::kernels::attention::Heads;
use pulp::{Simd, WithSimd};

/// Queries in a tile.
const TILE: usize = 4;
/// Queries that read a span one tile after the other.
const QUERIES: usize = 32;

/// Attention of some rows in `f32`; see [`super::attend`].
pub(super) fn attend(job: Job<'_>, scratch: &mut Vec<f32>) {
    scratch.resize(TILE * SPAN + QUERIES * job.heads.dim, 0.0);
    let (scores, sums) = scratch.split_at_mut(TILE * SPAN);
    pulp::Arch::new().dispatch(Attend { job, scores, sums });
}

struct Attend<'a> {
    job: Job<'a>,
    /// `[TILE, SPAN]`.
    scores: &'a mut [f32],
    /// `[QUERIES, dim]`: values weighted so far.
    sums: &'a mut [f32],
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let dim = self.job.heads.dim;
        let count = self.job.queries();
        let mut queries = [Query::default(); QUERIES];
        for begin in (0..count).step_by(QUERIES) {
            let queries = &mut queries[..QUERIES.min(count - begin)];
            let seen = self.job.begin(begin, queries);
            self.sums[..queries.len() * dim].fill(0.0);
            for span in (seen.start / SPAN * SPAN..seen.end).step_by(SPAN) {
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
                // SAFETY: the promise that came with the job.
                unsafe { self.job.finish(own, sums, own.peak * std::f32::consts::LOG2_E) };
            }
        }
    }
}

/// Takes the tokens of the span that begins with the token `span` in, for `Q` queries from number `first` on.
#[inline(always)]
fn tile<S: Simd, const Q: usize>(simd: S, state: &mut Attend<'_>, queries: &mut [Query], first: usize, span: usize) {
    let Attend { job, scores, sums } = state;
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
    let (keys, values) = job.kv.span(span);
    let (keys, values) = (bytemuck::cast_slice(keys), bytemuck::cast_slice(values));
    let local = low - span..end - span;
    key_products::<S, Q>(simd, job.q, starts, keys, dim, local.clone(), scores);
    let mut factors = [1f32; Q];
    for i in 0..Q {
        let row = &mut scores[i * SPAN..][..SPAN];
        let own = &mut queries[i];
        let (from, to) = (own.low.clamp(low, end), own.end.clamp(low, end));
        if from < to {
            factors[i] = softmax_numerators(&mut row[from - span..to - span], scale, softcap, own);
        }
        // What this query does not see weighs nothing in the tile's common pass over the values.
        row[low - span..from.min(to) - span].fill(0.0);
        row[to.max(from) - span..end - span].fill(0.0);
    }
    let sums = &mut sums[first * dim..][..Q * dim];
    weighted_values::<S, Q>(simd, scores, values, dim, local, factors, sums);
}
