//! The kernel in `f32` arithmetic, for whichever vectors the processor has.

// The loops over a tile are written with indices: they must unroll completely so that the sums stay
// in registers.
#![allow(clippy::needless_range_loop, reason = "one index runs over several arrays")]

use super::{ActivationTile, Columns, Format, Weight, block_rows};
use half::bf16;
use pulp::{Simd, WithSimd};

/// Lays out `x[n, inputs]` in rows of whole groups of two vectors.
pub(super) fn fill(x: &[f32], inputs: usize, split: bool, round: bool, stride: &mut usize, out: &mut Vec<f32>) {
    struct Fill<'a> {
        x: &'a [f32],
        inputs: usize,
        split: bool,
        round: bool,
        stride: &'a mut usize,
        out: &'a mut Vec<f32>,
    }
    impl WithSimd for Fill<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Fill { x, inputs, split, round, stride, out } = self;
            let lanes = S::F32_LANES;
            *stride = inputs.next_multiple_of(2 * lanes);
            out.resize(x.len() / inputs * *stride, 0.0);
            let rounded = |v: f32| if round { bf16::from_f32(v).to_f32() } else { v };
            for (row, out) in x.chunks_exact(inputs).zip(out.chunks_exact_mut(*stride)) {
                if !split {
                    out[..inputs].copy_from_slice(row);
                    out[inputs..].fill(0.0);
                    continue;
                }
                for (group, out) in row.chunks(2 * lanes).zip(out.chunks_exact_mut(2 * lanes)) {
                    let (even, odd) = out.split_at_mut(lanes);
                    if group.len() == 2 * lanes {
                        for ((pair, even), odd) in group.as_chunks::<2>().0.iter().zip(even).zip(odd) {
                            (*even, *odd) = (rounded(pair[0]), rounded(pair[1]));
                        }
                    } else {
                        for lane in 0..lanes {
                            even[lane] = group.get(2 * lane).map_or(0.0, |v| rounded(*v));
                            odd[lane] = group.get(2 * lane + 1).map_or(0.0, |v| rounded(*v));
                        }
                    }
                }
            }
        }
    }
    pulp::Arch::new().dispatch(Fill { x, inputs, split, round, stride, out });
}

/// All columns of one piece.
pub(super) fn matmul(x: &ActivationTile, w: Weight<'_>, out: Columns, scale: f32) {
    pulp::Arch::new().dispatch(Matmul { x, w, out, scale });
}

struct Matmul<'a> {
    x: &'a ActivationTile,
    w: Weight<'a>,
    out: Columns,
    scale: f32,
}

/// A group of two vectors' worth of stored elements as two vectors of `f32`.
trait Load<S: Simd> {
    const BYTES: usize;
    /// # Safety
    /// `at` points to a whole group.
    unsafe fn load(simd: S, at: *const u8) -> [S::f32s; 2];
}

struct Whole;
struct Halves;

impl<S: Simd> Load<S> for Whole {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load(_: S, at: *const u8) -> [S::f32s; 2] {
        // SAFETY: the caller's promise; nothing is assumed of the alignment.
        unsafe { at.cast::<[S::f32s; 2]>().read_unaligned() }
    }
}

impl<S: Simd> Load<S> for Halves {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load(simd: S, at: *const u8) -> [S::f32s; 2] {
        // SAFETY: the caller's promise; nothing is assumed of the alignment.
        let pairs = unsafe { at.cast::<S::u32s>().read_unaligned() };
        let even = simd.wrapping_dyn_shl_u32s(pairs, simd.splat_u32s(16));
        let odd = simd.and_u32s(pairs, simd.splat_u32s(0xffff_0000));
        [simd.transmute_f32s_u32s(even), simd.transmute_f32s_u32s(odd)]
    }
}

impl WithSimd for Matmul<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Matmul { x, w, out, scale } = self;
        match w.format {
            Format::F32 => all::<S, Whole>(simd, x, w, out, scale),
            Format::Bf16 => all::<S, Halves>(simd, x, w, out, scale),
            Format::F16 => unreachable!("converted by the caller"),
        }
    }
}

#[inline(always)]
fn all<S: Simd, L: Load<S>>(simd: S, x: &ActivationTile, w: Weight<'_>, out: Columns, scale: f32) {
    // Thirty-two registers hold a tile of 4×5 sums and its operands, sixteen one of 2×3.
    if S::F32_LANES == 16 {
        blocks::<S, L, 4, 5>(simd, x, w, out, scale);
    } else {
        blocks::<S, L, 2, 3>(simd, x, w, out, scale);
    }
}

#[inline(always)]
fn blocks<S: Simd, L: Load<S>, const R: usize, const C: usize>(
    simd: S,
    x: &ActivationTile,
    w: Weight<'_>,
    out: Columns,
    scale: f32,
) {
    let (rows, block) = (w.rows(), block_rows(x) / C * C);
    for from in (0..x.count).step_by(block) {
        let to = (from + block).min(x.count);
        let mut row = 0;
        while row + R <= rows {
            line::<S, L, R, C>(simd, x, w, out, scale, row, from..to);
            row += R;
        }
        while row < rows {
            line::<S, L, 1, C>(simd, x, w, out, scale, row, from..to);
            row += 1;
        }
    }
}

/// `R` rows of `W` against the rows `span` of `x`.
#[inline(always)]
fn line<S: Simd, L: Load<S>, const R: usize, const C: usize>(
    simd: S,
    x: &ActivationTile,
    w: Weight<'_>,
    out: Columns,
    scale: f32,
    row: usize,
    span: std::ops::Range<usize>,
) {
    let mut at = span.start;
    while at + C <= span.end {
        tile::<S, L, R, C>(simd, x, w, out, scale, row, at);
        at += C;
    }
    while at + 2 <= span.end {
        tile::<S, L, R, 2>(simd, x, w, out, scale, row, at);
        at += 2;
    }
    if at < span.end {
        tile::<S, L, R, 1>(simd, x, w, out, scale, row, at);
    }
}

#[inline(always)]
fn tile<S: Simd, L: Load<S>, const R: usize, const C: usize>(
    simd: S,
    x: &ActivationTile,
    w: Weight<'_>,
    out: Columns,
    scale: f32,
    row: usize,
    at: usize,
) {
    let group = 2 * S::F32_LANES;
    let (row_bytes, whole) = (w.inputs * L::BYTES, w.inputs / group);
    assert!(
        (row + R) * row_bytes <= w.bytes.len() && (at + C) * x.stride <= x.lanes.len(),
        "tile outside its operands"
    );
    let mut sums = [[simd.splat_f32s(0.0); C]; R];
    let w_at: [*const u8; R] = std::array::from_fn(|r| w.bytes[(row + r) * row_bytes..].as_ptr());
    let x_at: [*const f32; C] = std::array::from_fn(|c| x.lanes[(at + c) * x.stride..].as_ptr());
    for g in 0..whole {
        // A loop and not a closure: vector instructions in a closure may stay calls of functions.
        let mut w = [[simd.splat_f32s(0.0); 2]; R];
        for r in 0..R {
            // SAFETY: `whole` groups lie in a row, and the rows in the weight.
            w[r] = unsafe { L::load(simd, w_at[r].add(g * group * L::BYTES)) };
        }
        for half in 0..2 {
            for c in 0..C {
                // SAFETY: a row of `x` holds at least `whole` groups.
                let value = unsafe { x_at[c].add(g * group + half * S::F32_LANES).cast::<S::f32s>().read_unaligned() };
                for r in 0..R {
                    sums[r][c] = simd.mul_add_e_f32s(w[r][half], value, sums[r][c]);
                }
            }
        }
    }
    if whole * group < w.inputs {
        let left = (w.inputs - whole * group) * L::BYTES;
        for r in 0..R {
            // The widest group: two vectors of sixteen floats.
            let mut last = [0u8; 128];
            let from = (row + r) * row_bytes + whole * group * L::BYTES;
            last[..left].copy_from_slice(&w.bytes[from..from + left]);
            // SAFETY: the buffer holds a whole group of the widest vectors.
            let w = unsafe { L::load(simd, last.as_ptr()) };
            for half in 0..2 {
                for c in 0..C {
                    let from = whole * group + half * S::F32_LANES;
                    // SAFETY: rows of `x` are filled up to whole groups.
                    let value = unsafe { x_at[c].add(from).cast::<S::f32s>().read_unaligned() };
                    sums[r][c] = simd.mul_add_e_f32s(w[half], value, sums[r][c]);
                }
            }
        }
    }
    for r in 0..R {
        for c in 0..C {
            out.set(at + c, row + r, simd.reduce_sum_f32s(sums[r][c]) * scale);
        }
    }
}
