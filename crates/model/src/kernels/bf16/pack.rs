//! Packing operands for the register tile: panels of lines whose 32-bit lanes hold two consecutive
//! values along the inner dimension, from `f32` (rounded to nearest even on the way) or from bf16 as
//! a checkpoint stores it.

use crate::kernels::weight::{Format, as_bytes};

/// The lines of an operand: rows of A or columns of B, either of whose dimensions is contiguous.
#[derive(Clone, Copy)]
pub(crate) struct Lines<'a> {
    /// The elements, of any alignment.
    pub bytes: &'a [u8],
    /// How they are stored: `f32` or bf16.
    pub format: Format,
    /// Elements from a line to the next.
    pub line_stride: usize,
    /// Elements from a place along the inner dimension to the next.
    pub inner_stride: usize,
}

impl<'a> Lines<'a> {
    /// Lines of values in memory.
    pub fn of_f32(values: &'a [f32], line_stride: usize, inner_stride: usize) -> Self {
        Self { bytes: as_bytes(values), format: Format::F32, line_stride, inner_stride }
    }
}

/// Packs the lines `first..first + count` at the pairs `pair0..pair0 + pairs` of the inner dimension `k`
/// into panels of `WIDTH` lines: `panel[pair][line]`, filled up with zeros to `depth` pairs and whole panels.
///
/// # Safety
/// The instructions for bf16 must be available.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) unsafe fn pack<const WIDTH: usize>(
    lines: Lines<'_>,
    first: usize,
    count: usize,
    (pair0, pairs): (usize, usize),
    depth: usize,
    k: usize,
    out: &mut Vec<u32>,
) {
    let size = lines.format.bytes();
    let (from, inner) = check(lines, first, count, (pair0, pairs), k);
    assert!(pairs <= depth, "a panel of fewer pairs");
    out.resize(count.div_ceil(WIDTH) * depth * WIDTH, 0);
    for (panel, out) in out.chunks_exact_mut(depth * WIDTH).enumerate() {
        let count = WIDTH.min(count - panel * WIDTH);
        // The lanes of lines that are there are written below.
        let written = if count < WIDTH { 0 } else { pairs * WIDTH };
        out[written..].fill(0);
        // SAFETY: the last element that is read was checked above, and `out` is `pairs` groups of `WIDTH` lanes.
        unsafe {
            let source = lines.bytes.as_ptr().add((from + panel * WIDTH * lines.line_stride) * size);
            match (lines.format, lines.inner_stride) {
                (Format::Bf16, 1) => turned_panel::<true, WIDTH>(source, lines.line_stride, inner, count, out),
                (_, 1) => turned_panel::<false, WIDTH>(source, lines.line_stride, inner, count, out),
                (Format::Bf16, stride) => zipped::<true>(source, stride, inner, count, out.as_mut_ptr(), WIDTH),
                (_, stride) => zipped::<false>(source, stride, inner, count, out.as_mut_ptr(), WIDTH),
            }
        }
    }
}

/// A panel of `count` lines that are contiguous along the inner dimension, 16 at a time.
///
/// # Safety
/// As [`turned`], of all lines.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn turned_panel<const HALF: bool, const WIDTH: usize>(
    source: *const u8,
    stride: usize,
    inner: usize,
    count: usize,
    out: &mut [u32],
) {
    for group in (0..count).step_by(16) {
        let (count, width) = ((count - group).min(16), (WIDTH - group).min(16));
        // SAFETY: the lines are among those of the panel, in the source and in `out`.
        unsafe {
            let source = source.add(group * stride * if HALF { 2 } else { 4 });
            turned::<HALF>(source, stride, inner, count, out.as_mut_ptr().add(group), WIDTH, width);
        }
    }
}

/// The first element that is read, and how many of each line; the operand holds them all.
#[cfg(target_arch = "x86_64")]
fn check(lines: Lines<'_>, first: usize, count: usize, (pair0, pairs): (usize, usize), k: usize) -> (usize, usize) {
    let inner = k.min(2 * (pair0 + pairs)) - 2 * pair0;
    let from = first * lines.line_stride + 2 * pair0 * lines.inner_stride;
    let last = from + (count - 1) * lines.line_stride + (inner - 1) * lines.inner_stride;
    assert!(last < lines.bytes.len() / lines.format.bytes(), "operand is too short");
    assert!(lines.inner_stride == 1 || lines.line_stride == 1, "neither dimension of the operand is contiguous");
    assert!(inner.div_ceil(2) == pairs, "pairs beyond the inner dimension");
    (from, inner)
}

/// Packs lines in the order that tiles are loaded in: panels of 32 lines, each `panel[step][line][16 pairs]`, filled up
/// with zeros to whole steps and panels. Arguments and safety are those of [`pack`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) unsafe fn pack_tiles(
    lines: Lines<'_>,
    first: usize,
    count: usize,
    (pair0, pairs): (usize, usize),
    k: usize,
    out: &mut Vec<u32>,
) {
    const WIDTH: usize = 32;
    const PAIRS: usize = 16;
    let size = lines.format.bytes();
    let (from, inner) = check(lines, first, count, (pair0, pairs), k);
    let steps = pairs.div_ceil(PAIRS);
    // Every lane of a line is written below; those of lines that are not there are cleared.
    out.resize(count.div_ceil(WIDTH) * steps * PAIRS * WIDTH, 0);
    for (panel, out) in out.chunks_exact_mut(steps * PAIRS * WIDTH).enumerate() {
        let count = WIDTH.min(count - panel * WIDTH);
        if count < WIDTH {
            out.fill(0);
        }
        // SAFETY: the last element that is read was checked above, and `out` is `steps` groups of 32 times 16 lanes.
        unsafe {
            let source = lines.bytes.as_ptr().add((from + panel * WIDTH * lines.line_stride) * size);
            let out = out.as_mut_ptr();
            match (lines.format, lines.inner_stride) {
                (Format::Bf16, 1) => straight::<true>(source, lines.line_stride, inner, count, out),
                (_, 1) => straight::<false>(source, lines.line_stride, inner, count, out),
                (format, stride) => {
                    for group in (0..count).step_by(16) {
                        let count = (count - group).min(16);
                        let (source, out) = (source.add(group * size), out.add(group * PAIRS));
                        match format {
                            Format::Bf16 => regrouped::<true>(source, stride, inner, count, out),
                            _ => regrouped::<false>(source, stride, inner, count, out),
                        }
                    }
                }
            }
        }
    }
}

/// Up to 32 lines that are contiguous along the inner dimension, in tiles: nothing is turned.
///
/// # Safety
/// `source` points to `count` lines of `inner` elements, `stride` apart; `out` to 32 times 16 lanes for each 32
/// elements.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn straight<const HALF: bool>(source: *const u8, stride: usize, inner: usize, count: usize, out: *mut u32) {
    use std::arch::x86_64::*;
    let size = if HALF { 2 } else { 4 };
    for line in 0..count {
        for (step, place) in (0..inner).step_by(32).enumerate() {
            let mask = (u64::MAX >> (64 - (inner - place).min(32))) as u32;
            // SAFETY: masked loads read the elements that are there, and the step is one of those of `out`.
            unsafe {
                let lanes = load::<HALF>(source.add((line * stride + place) * size), mask);
                _mm512_storeu_si512(out.add((step * 32 + line) * 16).cast(), lanes);
            }
        }
    }
}

/// Up to 16 lines that stand side by side, in tiles.
///
/// # Safety
/// `source` points to `inner` places of `count` elements, `stride` apart; `out` to the first line's lanes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn regrouped<const HALF: bool>(source: *const u8, stride: usize, inner: usize, count: usize, out: *mut u32) {
    use std::arch::x86_64::*;
    let size = if HALF { 2 } else { 4 };
    for (step, place) in (0..inner).step_by(32).enumerate() {
        let mut block = [_mm512_setzero_si512(); 16];
        let inner = (inner - place).min(32);
        // SAFETY: the places are there, and 16 groups of 16 lanes take those of 32 places.
        unsafe {
            zipped::<HALF>(source.add(place * stride * size), stride, inner, count, block.as_mut_ptr().cast(), 16)
        };
        for (line, lanes) in transpose(block).iter().enumerate().take(count) {
            // SAFETY: the step and the line are among those of `out`.
            unsafe { _mm512_storeu_si512(out.add((step * 32 + line) * 16).cast(), *lanes) };
        }
    }
}

/// The elements of `mask` as lanes of pairs.
///
/// # Safety
/// They can be read.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn load<const HALF: bool>(at: *const u8, mask: u32) -> std::arch::x86_64::__m512i {
    use std::arch::x86_64::*;
    // SAFETY: masked loads read the elements that are there.
    unsafe {
        if HALF {
            _mm512_maskz_loadu_epi16(mask, at.cast())
        } else {
            let low = _mm512_maskz_loadu_ps(mask as __mmask16, at.cast());
            let high = _mm512_maskz_loadu_ps((mask >> 16) as __mmask16, at.cast::<f32>().wrapping_add(16));
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        }
    }
}

/// Up to 16 lines that are contiguous along the inner dimension: 16 × 16 lanes are turned at a time.
///
/// # Safety
/// `source` points to `count` lines of `inner` elements, `stride` apart; `out` to a group of lanes for each
/// pair, `step` apart, of which `width` may be written.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn turned<const HALF: bool>(
    source: *const u8,
    stride: usize,
    inner: usize,
    count: usize,
    out: *mut u32,
    step: usize,
    width: usize,
) {
    use std::arch::x86_64::*;
    let size = if HALF { 2 } else { 4 };
    let pairs = inner.div_ceil(2);
    let lanes = ((1u32 << width) - 1) as __mmask16;
    for pair in (0..pairs).step_by(16) {
        let left = (inner - 2 * pair).min(32);
        let mask = (u64::MAX >> (64 - left)) as u32;
        let mut block = [_mm512_setzero_si512(); 16];
        for (line, lane) in block.iter_mut().enumerate().take(count) {
            // SAFETY: masked loads read the `left` elements that are there.
            unsafe { *lane = load::<HALF>(source.add((line * stride + 2 * pair) * size), mask) };
        }
        let turned = transpose(block);
        for (row, lane) in turned.iter().enumerate().take((pairs - pair).min(16)) {
            // SAFETY: the pair is one of those `out` has room for.
            unsafe { _mm512_mask_storeu_epi32(out.add((pair + row) * step).cast(), lanes, *lane) };
        }
    }
}

/// Lines that are contiguous across: two places along the inner dimension become a lane.
///
/// # Safety
/// `source` points to `inner` places of `count` elements, `stride` apart; `out` to a group of lanes for each
/// pair, `step` apart, of which `count` may be written.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn zipped<const HALF: bool>(
    source: *const u8,
    stride: usize,
    inner: usize,
    count: usize,
    out: *mut u32,
    step: usize,
) {
    use std::arch::x86_64::*;
    // Places of the even and the odd halves of the lanes, of two vectors one after the other.
    let order = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1,
        16, 0,
    );
    let load = |place: usize, line: usize, mask: __mmask16| {
        // SAFETY: masked loads read the elements that are there; of a place that is not, none.
        unsafe {
            let mask = if place < inner { mask } else { 0 };
            let at = source.wrapping_add((place * stride + line) * if HALF { 2 } else { 4 });
            if HALF {
                let halves = _mm256_maskz_loadu_epi16(mask, at.cast());
                (halves, _mm512_setzero_ps())
            } else {
                (_mm256_setzero_si256(), _mm512_maskz_loadu_ps(mask, at.cast()))
            }
        }
    };
    for pair in 0..inner.div_ceil(2) {
        for line in (0..count).step_by(16) {
            let mask = ((1u32 << (count - line).min(16)) - 1) as __mmask16;
            let (low, high) = (load(2 * pair, line, mask), load(2 * pair + 1, line, mask));
            let both = if HALF {
                _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low.0), high.0)
            } else {
                // SAFETY: both are vectors of 512 bits.
                unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high.1, low.1)) }
            };
            let both = _mm512_permutexvar_epi16(order, both);
            // SAFETY: the pair is one of those `out` has room for.
            unsafe { _mm512_mask_storeu_epi32(out.add(pair * step + line).cast(), mask, both) };
        }
    }
}

/// The transpose of 16 × 16 lanes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [std::arch::x86_64::__m512i; 16]) -> [std::arch::x86_64::__m512i; 16] {
    use std::arch::x86_64::*;
    let zero = _mm512_setzero_si512();
    // Within each 128-bit part, four rows at a time: 4 × 4 lanes are turned.
    let mut parts = [zero; 16];
    for four in (0..16).step_by(4) {
        let [a, b, c, d] = [rows[four], rows[four + 1], rows[four + 2], rows[four + 3]];
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        parts[four] = _mm512_unpacklo_epi64(ab_low, cd_low);
        parts[four + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
        parts[four + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
        parts[four + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    // Then the 4 × 4 parts themselves.
    let mut turned = [zero; 16];
    for row in 0..4 {
        let [a, b, c, d] = [parts[row], parts[row + 4], parts[row + 8], parts[row + 12]];
        let (ab_even, ab_odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (cd_even, cd_odd) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        turned[row] = _mm512_shuffle_i32x4::<0x88>(ab_even, cd_even);
        turned[row + 4] = _mm512_shuffle_i32x4::<0x88>(ab_odd, cd_odd);
        turned[row + 8] = _mm512_shuffle_i32x4::<0xdd>(ab_even, cd_even);
        turned[row + 12] = _mm512_shuffle_i32x4::<0xdd>(ab_odd, cd_odd);
    }
    turned
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use half::bf16;
    use lopper_testkit::{Feature, skip_unless};

    /// Every element at its place, for both formats, both orders and lengths around the blocks.
    #[test]
    fn panels_hold_the_rounded_elements() {
        let Some(()) = skip_unless(Feature::Bf16, super::super::Instructions::Dot.available().then_some(())) else {
            return;
        };
        fn check<const WIDTH: usize>(count: usize, k: usize) {
            let values: Vec<f32> = (0..count * k).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
            let halves: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
            // An odd address, as a file may have.
            let shifted: Vec<u8> = std::iter::once(0).chain(halves).collect();
            for (line_stride, inner_stride) in [(k, 1), (1, count)] {
                let stored = Lines { bytes: &shifted[1..], format: Format::Bf16, line_stride, inner_stride };
                for lines in [Lines::of_f32(&values, line_stride, inner_stride), stored] {
                    let pairs_all = k.div_ceil(2);
                    let (first, pair0) = (usize::from(count > 3), usize::from(pairs_all > 1));
                    let (count, pairs) = (count - first, pairs_all - pair0);
                    let mut out = vec![u32::MAX; 3];
                    // SAFETY: the instructions are there.
                    unsafe { pack::<WIDTH>(lines, first, count, (pair0, pairs), pairs, k, &mut out) };
                    assert_eq!(out.len(), count.div_ceil(WIDTH) * WIDTH * pairs);
                    for (at, lane) in out.iter().enumerate() {
                        let (panel, pair, line) = (at / (WIDTH * pairs), at / WIDTH % pairs, at % WIDTH);
                        let line = panel * WIDTH + line;
                        let expected = |inner: usize| -> u32 {
                            if line >= count || inner >= k {
                                return 0;
                            }
                            let at = (first + line) * line_stride + inner * inner_stride;
                            u32::from(bf16::from_f32(values[at]).to_bits())
                        };
                        let inner = 2 * (pair0 + pair);
                        assert_eq!(*lane, expected(inner) | expected(inner + 1) << 16, "{count} {k}: {line} {pair}");
                    }
                }
            }
        }
        for (count, k) in [(1, 1), (12, 32), (13, 33), (40, 7), (32, 64), (65, 97), (5, 31), (100, 130)] {
            check::<12>(count, k);
            check::<32>(count, k);
        }
    }
}
