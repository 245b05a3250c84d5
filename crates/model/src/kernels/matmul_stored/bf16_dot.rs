//! The kernel with the processor's dot product of bf16 pairs (AVX-512 BF16).

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_variables, reason = "x86-64 only"))]
#![allow(clippy::needless_range_loop, reason = "one index runs over several arrays")]

use super::{ActivationTile, Columns, Weight, block_rows};

/// Values in a vector.
const GROUP: usize = 32;

/// Whether the instructions are there; tiles do not read weights as they are stored.
pub(super) fn available() -> bool {
    crate::kernels::bf16::Instructions::best().is_some()
}

/// Rounds `x[n, inputs]` to bf16, in rows of whole vectors.
pub(super) fn fill(x: &[f32], inputs: usize, stride: &mut usize, out: &mut Vec<f32>) {
    *stride = inputs.next_multiple_of(GROUP) / 2;
    out.resize(x.len() / inputs * *stride, 0.0);
    let stride = *stride;
    crate::kernels::vectorised(
        #[inline(always)]
        || {
            for (row, out) in x.chunks_exact(inputs).zip(out.chunks_exact_mut(stride)) {
                let (pairs, rest) = row.as_chunks::<2>();
                for (pair, out) in pairs.iter().zip(out.iter_mut()) {
                    *out = f32::from_bits(crate::kernels::bf16::lane(pair[0], pair[1]));
                }
                let mut filled = pairs.len();
                if let [last] = rest {
                    out[filled] = f32::from_bits(crate::kernels::bf16::lane(*last, 0.0));
                    filled += 1;
                }
                out[filled..].fill(0.0);
            }
        },
    );
}

/// All columns of one piece.
pub(super) fn matmul(x: &ActivationTile, w: Weight<'_>, out: Columns, scale: f32) {
    #[cfg(target_arch = "x86_64")]
    {
        assert!(available(), "rows were laid out for instructions that are not there");
        let (rows, block) = (w.rows(), block_rows(x) / 6 * 6);
        for from in (0..x.count).step_by(block) {
            let to = (from + block).min(x.count);
            let mut row = 0;
            while row + 4 <= rows {
                // SAFETY: the instructions are there.
                unsafe { line::<4>(x, w, out, scale, row, from..to) };
                row += 4;
            }
            while row < rows {
                // SAFETY: the instructions are there.
                unsafe { line::<1>(x, w, out, scale, row, from..to) };
                row += 1;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn line<const R: usize>(
    x: &ActivationTile,
    w: Weight<'_>,
    out: Columns,
    scale: f32,
    row: usize,
    span: std::ops::Range<usize>,
) {
    let mut at = span.start;
    while at + 6 <= span.end {
        tile::<R, 6>(x, w, out, scale, row, at);
        at += 6;
    }
    while at + 3 <= span.end {
        tile::<R, 3>(x, w, out, scale, row, at);
        at += 3;
    }
    while at < span.end {
        tile::<R, 1>(x, w, out, scale, row, at);
        at += 1;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn tile<const R: usize, const C: usize>(
    x: &ActivationTile,
    w: Weight<'_>,
    out: Columns,
    scale: f32,
    row: usize,
    at: usize,
) {
    use std::arch::x86_64::*;
    let (row_bytes, whole) = (w.inputs * 2, w.inputs / GROUP);
    assert!(
        (row + R) * row_bytes <= w.bytes.len() && (at + C) * x.stride <= x.lanes.len(),
        "tile outside its operands"
    );
    let mut sums = [[_mm512_setzero_ps(); C]; R];
    let w_at: [*const u8; R] = std::array::from_fn(|r| w.bytes[(row + r) * row_bytes..].as_ptr());
    let x_at: [*const f32; C] = std::array::from_fn(|c| x.lanes[(at + c) * x.stride..].as_ptr());
    for g in 0..whole {
        let mut pairs = [_mm512_setzero_si512(); R];
        for r in 0..R {
            // SAFETY: `whole` vectors lie in a row, and the rows in the weight.
            pairs[r] = unsafe { _mm512_loadu_si512(w_at[r].add(g * 64).cast()) };
        }
        for c in 0..C {
            // SAFETY: a row of `x` holds at least `whole` vectors; bf16 pairs are plain bits.
            let value: __m512bh = unsafe { std::mem::transmute(_mm512_loadu_si512(x_at[c].add(g * 16).cast())) };
            for r in 0..R {
                // SAFETY: both are vectors of 512 bits.
                let pair: __m512bh = unsafe { std::mem::transmute(pairs[r]) };
                sums[r][c] = _mm512_dpbf16_ps(sums[r][c], pair, value);
            }
        }
    }
    if whole * GROUP < w.inputs {
        let mask = (1u32 << (w.inputs - whole * GROUP)) - 1;
        for r in 0..R {
            // SAFETY: only what lies in the row is read; the rest is zero.
            let pair: __m512bh =
                unsafe { std::mem::transmute(_mm512_maskz_loadu_epi16(mask, w_at[r].add(whole * 64).cast())) };
            for c in 0..C {
                // SAFETY: rows of `x` are filled up to whole vectors.
                let value: __m512bh =
                    unsafe { std::mem::transmute(_mm512_loadu_si512(x_at[c].add(whole * 16).cast())) };
                sums[r][c] = _mm512_dpbf16_ps(sums[r][c], pair, value);
            }
        }
    }
    for r in 0..R {
        for c in 0..C {
            out.set(at + c, row + r, _mm512_reduce_add_ps(sums[r][c]) * scale);
        }
    }
}
