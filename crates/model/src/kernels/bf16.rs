//! Matrix products whose operands are rounded to bf16 and whose sums stay in `f32`, with the
//! AVX-512 BF16 dot product where the processor has it (`design/engine.md` has what it gains).
//!
//! Operands are packed as usual (Goto & van de Geijn, "Anatomy of high-performance matrix
//! multiplication", 2008): panels of [`NR`] columns and of [`MR`] rows whose 32-bit lanes hold two
//! consecutive values along the inner dimension, rounded to nearest even on the way.
//!
//! Not covered: NaN payloads (a NaN may become another NaN or an infinity), threads within one
//! product.

mod pack;

use super::gemm::Target;
pub(crate) use pack::Lines;
#[cfg(target_arch = "x86_64")]
pub(crate) use pack::pack;

/// Rows of the register tile.
pub(crate) const MR: usize = 12;
/// Columns of the register tile: two 512-bit vectors.
pub(crate) const NR: usize = 32;
/// Inner dimension packed at a time, in pairs.
const KC: usize = 256;
/// Rows packed at a time.
const MC: usize = 12 * MR;
/// Columns packed at a time, which stay in the second-level cache.
const NC: usize = 1024;

/// Whether this processor has the instructions.
pub fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        // Every processor with the last of these has the others.
        std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Two values, rounded to bf16, in one lane; the first in the low half.
#[inline(always)]
pub(crate) fn lane(low: f32, high: f32) -> u32 {
    let round = |x: f32| {
        let bits = x.to_bits();
        bits.wrapping_add(0x7fff + ((bits >> 16) & 1))
    };
    (round(high) & 0xffff_0000) | (round(low) >> 16)
}

/// `dst[m, n] (+)= alpha·a[m, k]·b[k, n]`; the caller has checked the result's bounds.
///
/// # Safety
/// As `super::gemm::matmul`, and [`available`] must have returned true.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn matmul(
    (m, n, k): (usize, usize, usize),
    dst: Target,
    accumulate: bool,
    alpha: f32,
    a: Lines<'_>,
    b: Lines<'_>,
) {
    thread_local! {
        static PACKED: std::cell::RefCell<(Vec<u32>, Vec<u32>)> = const { std::cell::RefCell::new((Vec::new(), Vec::new())) };
    }
    let pairs_all = k.div_ceil(2);
    // Blocks of one size, since what is left over would have its own pass over the result.
    let step = pairs_all.div_ceil(pairs_all.div_ceil(KC));
    PACKED.with_borrow_mut(|(packed_a, packed_b)| {
        for col0 in (0..n).step_by(NC) {
            let cols = NC.min(n - col0);
            for pair0 in (0..pairs_all).step_by(step) {
                let pairs = (pair0, step.min(pairs_all - pair0));
                let accumulate = accumulate || pair0 > 0;
                // SAFETY: the instructions are there, by the caller's promise.
                unsafe { pack::<NR>(b, col0, cols, pairs, k, packed_b) };
                for row0 in (0..m).step_by(MC) {
                    let rows = MC.min(m - row0);
                    // SAFETY: as above.
                    unsafe { pack::<MR>(a, row0, rows, pairs, k, packed_a) };
                    for (col, b_panel) in packed_b.chunks_exact(pairs.1 * NR).enumerate() {
                        let cols = NR.min(cols - col * NR);
                        for (row, a_panel) in packed_a.chunks_exact(pairs.1 * MR).enumerate() {
                            let rows = MR.min(rows - row * MR);
                            let at = dst.at + (row0 + row * MR) * dst.row_stride + col0 + col * NR;
                            // SAFETY: the tile's `rows`×`cols` elements lie inside the checked result.
                            unsafe {
                                let c = dst.base.0.add(at);
                                tile(a_panel, b_panel, c, dst.row_stride, accumulate, alpha, rows, cols);
                            }
                        }
                    }
                }
            }
        }
    });
}

/// `c[rows, cols] (+)= alpha·a·b` of packed panels, up to a register tile.
///
/// # Safety
/// [`available`] must have returned true, and `c` be `rows` rows of `cols` elements, `stride` apart, that
/// nobody else uses meanwhile.
#[cfg(target_arch = "x86_64")]
#[inline]
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
pub(crate) unsafe fn tile(
    a: &[u32],
    b: &[u32],
    c: *mut f32,
    stride: usize,
    accumulate: bool,
    alpha: f32,
    rows: usize,
    cols: usize,
) {
    // Fewer rows than a panel has are not paid for as a whole one.
    // SAFETY: the caller's promise.
    unsafe {
        match rows {
            ..=1 => tile_of::<1>(a, b, c, stride, accumulate, alpha, rows, cols),
            2..=4 => tile_of::<4>(a, b, c, stride, accumulate, alpha, rows, cols),
            5..=8 => tile_of::<8>(a, b, c, stride, accumulate, alpha, rows, cols),
            _ => tile_of::<MR>(a, b, c, stride, accumulate, alpha, rows, cols),
        }
    }
}

/// A tile of which `ROWS` rows are computed and `rows` written.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
unsafe fn tile_of<const ROWS: usize>(
    a: &[u32],
    b: &[u32],
    c: *mut f32,
    stride: usize,
    accumulate: bool,
    alpha: f32,
    rows: usize,
    cols: usize,
) {
    use std::arch::x86_64::*;
    let pairs = b.len() / NR;
    debug_assert!(a.len() == pairs * MR && rows <= ROWS && ROWS <= MR && cols <= NR);
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    let (mut a, mut b) = (a.as_ptr(), b.as_ptr());
    for _ in 0..pairs {
        // SAFETY: both panels hold `pairs` groups of MR and NR lanes; bf16 pairs are plain bits.
        unsafe {
            let b0: __m512bh = std::mem::transmute(_mm512_loadu_si512(b.cast()));
            let b1: __m512bh = std::mem::transmute(_mm512_loadu_si512(b.add(16).cast()));
            for (i, sum) in sums.iter_mut().enumerate() {
                let x: __m512bh = std::mem::transmute(_mm512_set1_epi32(*a.add(i) as i32));
                sum[0] = _mm512_dpbf16_ps(sum[0], x, b0);
                sum[1] = _mm512_dpbf16_ps(sum[1], x, b1);
            }
            a = a.add(MR);
            b = b.add(NR);
        }
    }
    let alpha = _mm512_set1_ps(alpha);
    let masks = [0, 16].map(|half| ((1u32 << cols.saturating_sub(half).min(16)) - 1) as __mmask16);
    for (i, sum) in sums.iter().enumerate().take(rows) {
        for (half, (sum, mask)) in sum.iter().zip(masks).enumerate() {
            let at = c.wrapping_add(i * stride + half * 16);
            // SAFETY: masked loads and stores touch the `cols` elements of the row that are there.
            unsafe {
                let value = if accumulate {
                    _mm512_fmadd_ps(*sum, alpha, _mm512_maskz_loadu_ps(mask, at))
                } else {
                    _mm512_mul_ps(*sum, alpha)
                };
                _mm512_mask_storeu_ps(at, mask, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::kernels::gemm::{linear, linear_input_grad, linear_weight_grad};
    use crate::kernels::weight::Weight;
    use crate::kernels::{MatmulOptions, MatmulPrecision, Threads};
    use lopper_testkit::{Feature, skip_unless};

    fn values(n: usize, salt: usize) -> Vec<f32> {
        (0..n).map(|i| (((i * 7919 + salt * 104_729) % 1000) as f32 - 499.5) / 500.0).collect()
    }

    /// Every shape around the tile borders, in the three orders of operands, against f32.
    #[test]
    fn agrees_with_f32_within_bf16_rounding() {
        let Some(()) = skip_unless(Feature::Bf16, super::available().then_some(())) else { return };
        for (n, inputs, outputs) in [(1, 1, 1), (12, 32, 32), (13, 33, 65), (30, 7, 5), (150, 128, 40), (3, 1030, 2)] {
            let (x, w, dy) = (values(n * inputs, 1), values(outputs * inputs, 2), values(n * outputs, 3));
            let close = |name: &str, depth: usize, f: &dyn Fn(MatmulOptions, &mut [f32]), len: usize| {
                let (mut exact, mut half) = (values(len, 4), values(len, 4));
                f(Threads::One.into(), &mut exact);
                f(MatmulOptions { threads: Threads::One, precision: MatmulPrecision::Bf16 }, &mut half);
                // Each product is off by at most 2·2⁻⁹; the worst case would be `depth` of them.
                let tolerance = 2.0f32.powi(-8) * (depth as f32).sqrt() * 1.5 + 1e-5;
                assert_eq!(exact.len(), half.len());
                for (a, b) in exact.iter().zip(&half) {
                    assert!((a - b).abs() <= tolerance, "{name} {n} {inputs} {outputs}: {a} {b}");
                }
                assert!(len < 40 || exact != half, "{name}: bf16 was not used");
            };
            for accumulate in [false, true] {
                close("y", inputs, &|p, y| linear(p, &x, Weight::of_f32(&w, inputs), y, accumulate, 0.5), n * outputs);
                close(
                    "dx",
                    outputs,
                    &|p, dx| linear_input_grad(p, &dy, Weight::of_f32(&w, inputs), dx, accumulate, 0.5),
                    n * inputs,
                );
            }
            close("dw", n, &|p, dw| linear_weight_grad(p, &dy, &x, inputs, outputs, dw, 0.5), outputs * inputs);
        }
    }
}
