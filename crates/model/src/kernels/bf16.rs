//! Matrix products whose operands are rounded to bf16 and whose sums stay in `f32`, with the processor's instructions
//! for them: tiles ([`amx`]) or the AVX-512 dot product of pairs ([`dot`]). `design/engine.md` has what they gain.
//!
//! Operands are packed as usual (Goto & van de Geijn, "Anatomy of high-performance matrix multiplication", 2008), in
//! 32-bit lanes that hold two consecutive values along the inner dimension, rounded to nearest even on the way.
//! Columns come in panels of [`NR`], the lanes of a pair next to each other; rows come in panels of
//! [`Instructions::rows`], in the order that the instructions read them in.
//!
//! An element is summed in one order, whatever is computed with it; the order differs between the instructions.
//!
//! Not covered: NaN payloads (a NaN may become another NaN or an infinity), threads within one product.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod dot;
mod pack;

use super::gemm::Target;
pub(crate) use pack::Lines;
#[cfg(target_arch = "x86_64")]
use pack::{pack, pack_tiles};
use std::sync::OnceLock;

/// Columns of the register tile.
pub(crate) const NR: usize = 32;
/// Rows packed at a time, about.
const MC: usize = 144;

/// The instructions that multiply bf16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// AMX-BF16: tiles of 16 rows of 32 values.
    Amx,
    /// AVX512-BF16: dot products of pairs.
    Dot,
}

impl Instructions {
    /// The fastest that this processor and the operating system offer; none where there are no such instructions.
    /// `LOPPER_BF16=avx512` leaves tiles out, `LOPPER_BF16=off` both.
    pub fn best() -> Option<Self> {
        static BEST: OnceLock<Option<Instructions>> = OnceLock::new();
        *BEST.get_or_init(|| {
            let wanted = std::env::var("LOPPER_BF16").unwrap_or_default();
            let allowed = match wanted.as_str() {
                "off" => &[][..],
                "avx512" => &[Self::Dot],
                _ => &[Self::Amx, Self::Dot],
            };
            allowed.iter().copied().find(|instructions| instructions.available())
        })
    }

    /// Whether this processor and the operating system offer them.
    pub fn available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            // Every processor with the last of these has the others, and every one with tiles has all.
            let dot = std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("avx512bf16");
            dot && (self == Self::Dot || amx::available())
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            false
        }
    }

    /// What they are called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amx => "AMX-BF16",
            Self::Dot => "AVX512-BF16",
        }
    }

    /// Rows of the register tile and of a panel.
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Amx => 32,
            Self::Dot => 12,
        }
    }

    /// Pairs of the inner dimension and columns that are packed at a time and stay in the second-level cache, one or
    /// two megabytes, as large as it is where these instructions are.
    fn block(self) -> (usize, usize) {
        match self {
            Self::Amx => (512, 768),
            Self::Dot => (256, 1024),
        }
    }

    /// The pairs that a panel holds where `pairs` are wanted.
    pub(crate) fn depth(self, pairs: usize) -> usize {
        match self {
            Self::Amx => pairs.next_multiple_of(16),
            Self::Dot => pairs,
        }
    }

    /// Packs the rows `first..first + count` at the pairs `pair0..pair0 + pairs` of the inner dimension `k`.
    ///
    /// # Safety
    /// [`Self::available`] must have returned true.
    #[cfg(target_arch = "x86_64")]
    pub(crate) unsafe fn pack_rows(
        self,
        rows: Lines<'_>,
        (first, count): (usize, usize),
        pairs: (usize, usize),
        k: usize,
        out: &mut Vec<u32>,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Amx => pack_tiles(rows, first, count, pairs, k, out),
                Self::Dot => pack::<12>(rows, first, count, pairs, pairs.1, k, out),
            }
        }
    }

    /// Packs columns in panels of [`NR`], likewise.
    ///
    /// # Safety
    /// As [`Self::pack_rows`].
    #[cfg(target_arch = "x86_64")]
    pub(crate) unsafe fn pack_columns(
        self,
        columns: Lines<'_>,
        (first, count): (usize, usize),
        pairs: (usize, usize),
        k: usize,
        out: &mut Vec<u32>,
    ) {
        // SAFETY: the caller's promise.
        unsafe { pack::<NR>(columns, first, count, pairs, self.depth(pairs.1), k, out) }
    }

    /// What has to be kept while tiles are computed on this thread.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn enter(self) -> Option<amx::Configured> {
        (self == Self::Amx).then(amx::Configured::new)
    }

    /// `result (+)= alpha·a·b` of a panel of rows and one of columns.
    ///
    /// # Safety
    /// [`Self::available`] must have returned true, what [`Self::enter`] gave must be alive on this thread, and
    /// `result` be `rows` rows of `cols` elements that nobody else uses meanwhile.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(crate) unsafe fn tile(self, a: &[u32], b: &[u32], result: Destination, accumulate: bool, alpha: f32) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Amx => amx::tile(a, b, result, accumulate, alpha),
                Self::Dot => dot::tile(a, b, result, accumulate, alpha),
            }
        }
    }
}

/// The elements that a tile writes.
#[derive(Clone, Copy)]
pub(crate) struct Destination {
    /// The first of them.
    pub at: *mut f32,
    /// Elements from a row to the next.
    pub stride: usize,
    pub rows: usize,
    pub cols: usize,
}

/// Whether this processor has instructions for bf16, and they may be used.
pub fn available() -> bool {
    Instructions::best().is_some()
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

/// 2^x for −½ ≤ x ≤ ½ as a polynomial, from the constant on: of those with a constant of 1, the one whose largest
/// relative error is least, 3·10⁻⁶.
#[cfg(target_arch = "x86_64")]
const POWER: [f32; 5] = [1.0, 0.693_124_2, 0.240_241, 0.055_906_426, 0.009_582_853];

/// 2^x, off by up to 3·10⁻⁶ of it: a thousandth of what rounding to bf16 does.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn powers_of_2(x: std::arch::x86_64::__m512) -> std::arch::x86_64::__m512 {
    use std::arch::x86_64::*;
    let whole = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    let part = _mm512_sub_ps(x, whole);
    let mut value = _mm512_set1_ps(POWER[4]);
    for coefficient in [POWER[3], POWER[2], POWER[1], POWER[0]] {
        value = _mm512_fmadd_ps(value, part, _mm512_set1_ps(coefficient));
    }
    _mm512_scalef_ps(value, whole)
}

/// `dst[m, n] (+)= alpha·a[m, k]·b[k, n]`; the caller has checked the result's bounds.
///
/// # Safety
/// As `super::gemm::matmul`, and `instructions` must be available.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn matmul(
    instructions: Instructions,
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
    let (most_pairs, most_cols) = instructions.block();
    // Blocks of one size: for what is left over there would be another pass over the result, or over the rows.
    let step = instructions.depth(pairs_all.div_ceil(pairs_all.div_ceil(most_pairs)));
    let col_step = n.div_ceil(n.div_ceil(most_cols)).next_multiple_of(NR);
    let (panel_rows, row_step) = (instructions.rows(), MC.next_multiple_of(instructions.rows()));
    let _configured = instructions.enter();
    PACKED.with_borrow_mut(|(packed_a, packed_b)| {
        for col0 in (0..n).step_by(col_step) {
            let cols = col_step.min(n - col0);
            for pair0 in (0..pairs_all).step_by(step) {
                let pairs = (pair0, step.min(pairs_all - pair0));
                let depth = instructions.depth(pairs.1);
                let accumulate = accumulate || pair0 > 0;
                // SAFETY: the instructions are there, by the caller's promise.
                unsafe { instructions.pack_columns(b, (col0, cols), pairs, k, packed_b) };
                for row0 in (0..m).step_by(row_step) {
                    let rows = row_step.min(m - row0);
                    // SAFETY: as above.
                    unsafe { instructions.pack_rows(a, (row0, rows), pairs, k, packed_a) };
                    for (col, b_panel) in packed_b.chunks_exact(depth * NR).enumerate() {
                        let cols = NR.min(cols - col * NR);
                        for (row, a_panel) in packed_a.chunks_exact(depth * panel_rows).enumerate() {
                            let rows = panel_rows.min(rows - row * panel_rows);
                            let at = dst.at + (row0 + row * panel_rows) * dst.row_stride + col0 + col * NR;
                            // SAFETY: the tile's `rows`×`cols` elements lie inside the checked result.
                            unsafe {
                                let result = Destination { at: dst.base.0.add(at), stride: dst.row_stride, rows, cols };
                                instructions.tile(a_panel, b_panel, result, accumulate, alpha);
                            }
                        }
                    }
                }
            }
        }
    });
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

#[cfg(all(test, target_arch = "x86_64"))]
mod exact {
    use super::*;
    use crate::kernels::SharedMut;
    use half::bf16;
    use lopper_testkit::{Feature, skip_unless};

    /// Small whole numbers are exact in bf16 and their sums in f32: every instruction set gives the very product,
    /// for every shape around the borders of its tiles and blocks, and in every order of the operands.
    #[test]
    fn products_of_whole_numbers_are_exact() {
        let all = [Instructions::Amx, Instructions::Dot].map(|i| (i, i.available()));
        let Some(()) = skip_unless(Feature::Bf16, all.iter().any(|(_, there)| *there).then_some(())) else { return };
        for (instructions, _) in all.into_iter().filter(|(_, there)| *there) {
            for (m, n, k) in
                [(1, 1, 1), (16, 32, 32), (17, 33, 31), (32, 32, 64), (33, 65, 33), (200, 40, 600), (5, 1100, 3)]
            {
                let value = |at: usize, salt: usize| ((at * 7919 + salt * 31) % 17) as f32 - 8.0;
                let element = |row: usize, col: usize| -> f32 {
                    (0..k).map(|i| value(row * k + i, 1) * value(col * k + i, 2)).sum()
                };
                let a: Vec<f32> = (0..m * k).map(|i| value(i, 1)).collect();
                let a_turned: Vec<f32> = (0..m * k).map(|i| value(i % m * k + i / m, 1)).collect();
                let b: Vec<f32> = (0..n * k).map(|i| value(i, 2)).collect();
                let b_stored: Vec<u8> = b.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
                let b_lines =
                    Lines { bytes: &b_stored, format: super::super::weight::Format::Bf16, ..Lines::of_f32(&b, k, 1) };
                for a in [Lines::of_f32(&a, k, 1), Lines::of_f32(&a_turned, 1, m)] {
                    for (accumulate, alpha, start) in [(false, 1.0, f32::NAN), (true, 1.0, 3.0), (true, 0.5, 3.0)] {
                        // Rows further apart than they are long: what lies between them is left alone.
                        let stride = n + 3;
                        let mut y = vec![start; m * stride];
                        let (base, total) = (SharedMut(y.as_mut_ptr()), y.len());
                        let dst = Target { base, total, at: 0, row_stride: stride };
                        // SAFETY: the instructions are there, and the result is as large as it is said to be.
                        unsafe { matmul(instructions, (m, n, k), dst, accumulate, alpha, a, b_lines) };
                        for (row, y) in y.chunks_exact(stride).enumerate() {
                            for (col, y) in y[..n].iter().enumerate() {
                                let wanted = alpha * element(row, col) + if accumulate { start } else { 0.0 };
                                assert_eq!(*y, wanted, "{} {m}×{n}×{k} at {row}, {col}", instructions.name());
                            }
                            assert!(y[n..].iter().all(|y| y.to_bits() == start.to_bits()), "written between rows");
                        }
                    }
                }
            }
        }
    }
}
