//! The two products of attention: queries with keys, and weights with values, of a tile of queries and a span of
//! tokens.

// Loops over small constant ranges are written with indices: they must unroll completely so that
// the sums stay in registers.
#![allow(clippy::needless_range_loop, reason = "one index runs over several arrays")]

use super::SPAN;
use super::keys_values::KEY_GROUP;
use pulp::Simd;
use std::ops::Range;

/// Whether there are registers for the sums of four queries by four vectors (AVX-512 has 32, others 16).
#[inline(always)]
fn many<S: Simd>() -> bool {
    S::F32_LANES >= 16
}

/// Products of the queries with the keys of the tokens `seen` of a span (and of whatever else is in the groups at both
/// ends).
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
pub(super) fn key_products<S: Simd, const Q: usize>(
    simd: S,
    q: &[f32],
    starts: [usize; Q],
    keys: &[f32],
    dim: usize,
    seen: Range<usize>,
    scores: &mut [f32],
) {
    // A strip is as many tokens of a block as a vector has lanes.
    let strips = seen.end.next_multiple_of(KEY_GROUP) / S::F32_LANES;
    assert!(seen.end <= SPAN && Q * SPAN <= scores.len(), "scores too short");
    assert!(strips * S::F32_LANES * dim <= keys.len(), "keys too short");
    assert!(starts.iter().all(|at| at + dim <= q.len()), "queries too short");
    let mut strip = seen.start / S::F32_LANES;
    while many::<S>() && strip + 4 <= strips {
        key_strips::<S, Q, 4>(simd, q, starts, keys, dim, strip, scores);
        strip += 4;
    }
    while strip + 2 <= strips {
        key_strips::<S, Q, 2>(simd, q, starts, keys, dim, strip, scores);
        strip += 2;
    }
    if strip < strips {
        key_strips::<S, Q, 1>(simd, q, starts, keys, dim, strip, scores);
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
fn key_strips<S: Simd, const Q: usize, const N: usize>(
    simd: S,
    q: &[f32],
    starts: [usize; Q],
    keys: &[f32],
    dim: usize,
    first: usize,
    scores: &mut [f32],
) {
    let keys_at: [*const f32; N] = std::array::from_fn(|n| {
        let token = (first + n) * S::F32_LANES;
        keys[token / KEY_GROUP * KEY_GROUP * dim + token % KEY_GROUP..].as_ptr()
    });
    let q_at: [*const f32; Q] = starts.map(|at| q[at..].as_ptr());
    let mut sums = [[simd.splat_f32s(0.0); N]; Q];
    for c in 0..dim {
        let offset = c.wrapping_mul(KEY_GROUP);
        let mut keys = [simd.splat_f32s(0.0); N];
        for n in 0..N {
            // SAFETY: the caller checked that the whole groups up to the last strip are in `keys`; a strip does not
            // cross its group's 16 lanes.
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
        let (target, _) = S::as_mut_simd_f32s(&mut scores[i * SPAN + first * S::F32_LANES..][..N * S::F32_LANES]);
        target[..N].copy_from_slice(&sums[i]);
    }
}

/// `sums[i] = factors[i]·sums[i] + Σ weights[i][t]·values[t]` over the tokens `seen` of a span; `values` has a row of
/// `dim` channels for each token.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
pub(super) fn weighted_values<S: Simd, const Q: usize>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    dim: usize,
    seen: Range<usize>,
    factors: [f32; Q],
    sums: &mut [f32],
) {
    assert!(seen.end * dim <= values.len(), "values too short");
    assert!(seen.end <= SPAN && Q * SPAN <= weights.len(), "weights too short");
    assert!(sums.len() == Q * dim, "sums of another size");
    let lanes = S::F32_LANES;
    let mut c = 0;
    while many::<S>() && c + 4 * lanes <= dim {
        value_strips::<S, Q, 4>(simd, weights, values, (c, dim), &seen, factors, sums);
        c += 4 * lanes;
    }
    while c + 2 * lanes <= dim {
        value_strips::<S, Q, 2>(simd, weights, values, (c, dim), &seen, factors, sums);
        c += 2 * lanes;
    }
    while c + lanes <= dim {
        value_strips::<S, Q, 1>(simd, weights, values, (c, dim), &seen, factors, sums);
        c += lanes;
    }
    if c < dim {
        last_values::<S, Q>(simd, weights, values, (c, dim), &seen, factors, sums);
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
fn value_strips<S: Simd, const Q: usize, const N: usize>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    (channel, dim): (usize, usize),
    seen: &Range<usize>,
    factors: [f32; Q],
    all: &mut [f32],
) {
    let mut sums = [[simd.splat_f32s(0.0); N]; Q];
    for i in 0..Q {
        let factor = simd.splat_f32s(factors[i]);
        let (own, _) = S::as_simd_f32s(&all[i * dim + channel..][..N * S::F32_LANES]);
        for n in 0..N {
            sums[i][n] = simd.mul_f32s(own[n], factor);
        }
    }
    let mut row = values.as_ptr().wrapping_add(seen.start * dim + channel);
    let mut weights_at = [weights.as_ptr(); Q];
    for i in 0..Q {
        weights_at[i] = weights[i * SPAN..].as_ptr().wrapping_add(seen.start);
    }
    for t in 0..seen.len() {
        let mut own = [simd.splat_f32s(0.0); N];
        for n in 0..N {
            // SAFETY: the caller checked that `values` has a row for each token seen.
            own[n] = unsafe { row.add(n * S::F32_LANES).cast::<S::f32s>().read_unaligned() };
        }
        for i in 0..Q {
            // SAFETY: the caller checked that each query has a weight for each token.
            let weight = simd.splat_f32s(unsafe { *weights_at[i].add(t) });
            for n in 0..N {
                sums[i][n] = simd.mul_add_e_f32s(weight, own[n], sums[i][n]);
            }
        }
        row = row.wrapping_add(dim);
    }
    for i in 0..Q {
        let (own, _) = S::as_mut_simd_f32s(&mut all[i * dim + channel..][..N * S::F32_LANES]);
        own[..N].copy_from_slice(&sums[i]);
    }
}

/// The channels from `channel` on, fewer than a vector has lanes.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
fn last_values<S: Simd, const Q: usize>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    (channel, dim): (usize, usize),
    seen: &Range<usize>,
    factors: [f32; Q],
    all: &mut [f32],
) {
    let mut sums = [simd.splat_f32s(0.0); Q];
    for i in 0..Q {
        let own = simd.partial_load_f32s(&all[i * dim + channel..(i + 1) * dim]);
        sums[i] = simd.mul_f32s(own, simd.splat_f32s(factors[i]));
    }
    for t in seen.clone() {
        let own = simd.partial_load_f32s(&values[t * dim + channel..(t + 1) * dim]);
        for i in 0..Q {
            let weight = simd.splat_f32s(weights[i * SPAN + t]);
            sums[i] = simd.mul_add_e_f32s(weight, own, sums[i]);
        }
    }
    for i in 0..Q {
        simd.partial_store_f32s(&mut all[i * dim + channel..(i + 1) * dim], sums[i]);
    }
}
