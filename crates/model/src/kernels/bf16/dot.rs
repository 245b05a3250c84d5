//! The register tile of the AVX-512 dot product of bf16 pairs: 12 rows by two vectors of columns. Rows are packed as
//! columns are, the lanes of a pair next to each other.

use super::{Destination, NR};

/// Rows of the tile.
const MR: usize = 12;

/// `result (+)= alpha·a·b` of packed panels.
///
/// # Safety
/// The instructions must be available, and `result` be elements that nobody else uses meanwhile.
#[inline]
pub(super) unsafe fn tile(a: &[u32], b: &[u32], result: Destination, accumulate: bool, alpha: f32) {
    // Fewer rows than a panel has are not paid for as a whole one.
    // SAFETY: the caller's promise.
    unsafe {
        match result.rows {
            ..=1 => tile_of::<1>(a, b, result, accumulate, alpha),
            2..=4 => tile_of::<4>(a, b, result, accumulate, alpha),
            5..=8 => tile_of::<8>(a, b, result, accumulate, alpha),
            _ => tile_of::<MR>(a, b, result, accumulate, alpha),
        }
    }
}

/// A tile of which `ROWS` rows are computed.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile_of<const ROWS: usize>(a: &[u32], b: &[u32], result: Destination, accumulate: bool, alpha: f32) {
    use std::arch::x86_64::*;
    let pairs = b.len() / NR;
    let Destination { at: c, stride, rows, cols } = result;
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
