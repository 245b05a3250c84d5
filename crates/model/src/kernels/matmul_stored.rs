//! Products of activations with a weight as it is stored: `y = x·Wᵀ` with `W[out, in]` row-major in
//! `f32`, `bf16` or `f16`, straight from the checkpoint's bytes, for running forward.
//!
//! Each element is a chain of multiply-adds along its own two rows in a fixed order, then a sum of
//! the lanes: what a row gives depends neither on the other rows, nor on how the work is split,
//! nor on the number of threads. So one candidate alone and hundreds together give the same bits.
//!
//! A register tile is a few rows of `W` by a few rows of `x`; `x` is read in blocks that stay in the
//! second-level cache while `W` streams by once for each (after Goto & van de Geijn, ACM TOMS 34,
//! 2008, without their packing: dot products read both operands along their rows).
//!
//! Weights in `bf16` become `f32` in registers, exactly. Under [`MatmulPrecision::Bf16`] activations are
//! rounded to bf16 too and the processor's bf16 dot product is used where it has one ([`bf16_dot`]).

mod bf16_dot;
mod f32_lanes;

use super::weight::{Format, Weight};
use super::{MatmulPrecision, SharedMut, Threads};

/// How [`ActivationTile`] are laid out: what a format of weights is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// As they are.
    Plain,
    /// Of each two vectors' worth of values, first those at even places, then those at odd ones: the
    /// order in which a vector of bf16 pairs comes apart.
    Split,
    /// bf16 pairs.
    Half,
}

/// Activations laid out for products with weights of one format; made once for all weights that
/// read them. Buffers are kept from one call to the next.
#[derive(Debug, Clone)]
pub struct ActivationTile {
    layout: Layout,
    count: usize,
    inputs: usize,
    /// 32-bit lanes of a row, filled up with zeros.
    stride: usize,
    lanes: Vec<f32>,
}

impl Default for ActivationTile {
    fn default() -> Self {
        Self { layout: Layout::Plain, count: 0, inputs: 1, stride: 0, lanes: vec![] }
    }
}

impl ActivationTile {
    /// Lays out `x[n, inputs]` for weights of `format`.
    pub fn fill(&mut self, x: &[f32], inputs: usize, format: Format, precision: MatmulPrecision) {
        self.layout = match (format, precision) {
            (Format::Bf16, MatmulPrecision::Bf16) if bf16_dot::available() => Layout::Half,
            (Format::Bf16, _) => Layout::Split,
            _ => Layout::Plain,
        };
        self.count = x.len() / inputs;
        self.inputs = inputs;
        assert_eq!(self.count * inputs, x.len(), "rows: shapes disagree");
        match self.layout {
            Layout::Half => bf16_dot::fill(x, inputs, &mut self.stride, &mut self.lanes),
            layout => {
                let round = precision == MatmulPrecision::Bf16 && format == Format::Bf16;
                f32_lanes::fill(x, inputs, layout == Layout::Split, round, &mut self.stride, &mut self.lanes);
            }
        }
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.count
    }

    fn fits(&self, format: Format) -> bool {
        match self.layout {
            Layout::Plain => format != Format::Bf16,
            Layout::Split | Layout::Half => format == Format::Bf16,
        }
    }
}

/// Bytes of `x` that should stay in the second-level cache.
pub(super) const X_BLOCK: usize = 384 << 10;
/// ActivationTile of `W` in a piece of work.
const PIECE: usize = 64;
/// Multiply-adds below which sharing the work out costs more than it gains.
pub(super) const PARALLEL_FROM: usize = 1 << 18;

/// Columns `first..` of `y[n, outputs] = scale·x·Wᵀ`, given those rows of `W`.
pub fn matmul_stored(
    threads: Threads,
    x: &ActivationTile,
    w: Weight<'_>,
    first: usize,
    outputs: usize,
    y: &mut [f32],
    scale: f32,
) {
    assert!(x.fits(w.format) && x.inputs == w.inputs, "rows were laid out for another weight");
    assert!(first + w.rows() <= outputs && x.count * outputs == y.len(), "rows: shapes disagree");
    if x.count == 0 || w.bytes.is_empty() {
        return;
    }
    let total = y.len();
    let target = SharedMut(y.as_mut_ptr());
    let piece = |rows: std::ops::Range<usize>| {
        let at = first + rows.start;
        let w = w.slice(rows);
        let out = Columns { base: target.at(0), total, stride: outputs, first: at };
        match (x.layout, w.format) {
            (Layout::Half, _) => bf16_dot::matmul(x, w, out, scale),
            (_, Format::F16) => {
                let values: Vec<f32> =
                    w.bytes.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect();
                f32_lanes::matmul(x, Weight::of_f32(&values, w.inputs), out, scale);
            }
            _ => f32_lanes::matmul(x, w, out, scale),
        }
    };
    let rows = w.rows();
    if threads.count() > 1 && x.count * w.inputs * rows >= PARALLEL_FROM && rows > 1 {
        // Several pieces a thread even out what other programs take.
        let size = rows.div_ceil(threads.count() * 4).clamp(8, PIECE).next_multiple_of(8);
        threads.for_each(rows.div_ceil(size), |i| piece(i * size..((i + 1) * size).min(rows)));
    } else {
        for start in (0..rows).step_by(PIECE) {
            piece(start..(start + PIECE).min(rows));
        }
    }
}

/// Columns of the result that one piece of work writes: no two pieces share any.
#[derive(Clone, Copy)]
struct Columns {
    base: SharedMut,
    total: usize,
    stride: usize,
    first: usize,
}

impl Columns {
    /// Writes the element of row `row` and of the column `column` of the piece.
    #[inline(always)]
    fn set(self, row: usize, column: usize, value: f32) {
        let at = row * self.stride + self.first + column;
        debug_assert!(at < self.total);
        // SAFETY: `matmul_stored` checked that rows and columns lie in the result, and pieces are disjoint.
        unsafe { *self.base.at(at).0 = value };
    }
}

/// ActivationTile of `x` in a block.
fn block_rows(x: &ActivationTile) -> usize {
    (X_BLOCK / (x.stride.max(1) * 4)).max(12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    fn values(n: usize, salt: usize) -> Vec<f32> {
        (0..n).map(|i| (((i * 7919 + salt * 104_729) % 1000) as f32 - 499.5) / 500.0).collect()
    }

    fn stored(values: &[f32], format: Format) -> (Vec<u8>, Vec<f32>) {
        let bytes = values.iter().flat_map(|v| match format {
            Format::F32 => v.to_le_bytes().to_vec(),
            Format::Bf16 => bf16::from_f32(*v).to_le_bytes().to_vec(),
            Format::F16 => f16::from_f32(*v).to_le_bytes().to_vec(),
        });
        let rounded = values.iter().map(|v| match format {
            Format::F32 => *v,
            Format::Bf16 => bf16::from_f32(*v).to_f32(),
            Format::F16 => f16::from_f32(*v).to_f32(),
        });
        (bytes.collect(), rounded.collect())
    }

    const SHAPES: [(usize, usize, usize); 8] =
        [(1, 5, 3), (7, 128, 352), (64, 24, 37), (6, 40, 16), (13, 1, 1), (2, 33, 65), (11, 100, 9), (3, 1030, 130)];

    #[test]
    fn equals_the_plain_sum_whatever_stands_beside() {
        for format in [Format::F32, Format::Bf16, Format::F16] {
            for (n, inputs, outputs) in SHAPES {
                let x = values(n * inputs, 1);
                let (bytes, w) = stored(&values(outputs * inputs, 2), format);
                // An odd address, as a file may have.
                let shifted: Vec<u8> = std::iter::once(0).chain(bytes).collect();
                let weight = Weight { bytes: &shifted[1..], format, inputs };
                let (mut rows, mut y) = (ActivationTile::default(), vec![f32::NAN; n * outputs]);
                rows.fill(&x, inputs, format, MatmulPrecision::F32);
                matmul_stored(Threads::Pool, &rows, weight, 0, outputs, &mut y, 0.5);
                for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact(outputs)) {
                    for (w, y) in w.chunks_exact(inputs).zip(y) {
                        let exact: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                        assert!((f64::from(*y) - 0.5 * exact).abs() < 1e-4, "{n}×{inputs}×{outputs}: {y} for {exact}");
                    }
                    let mut alone = vec![f32::NAN; outputs];
                    rows.fill(x, inputs, format, MatmulPrecision::F32);
                    for at in 0..outputs {
                        matmul_stored(Threads::One, &rows, weight.slice(at..at + 1), at, outputs, &mut alone, 0.5);
                    }
                    assert_eq!(alone, y);
                }
            }
        }
    }

    #[test]
    fn bf16_activations_cost_their_rounding_only_whatever_stands_beside() {
        for (n, inputs, outputs) in SHAPES {
            let x = values(n * inputs, 3);
            let (bytes, w) = stored(&values(outputs * inputs, 4), Format::Bf16);
            let weight = Weight { bytes: &bytes, format: Format::Bf16, inputs };
            let (mut rows, mut y) = (ActivationTile::default(), vec![f32::NAN; n * outputs]);
            rows.fill(&x, inputs, Format::Bf16, MatmulPrecision::Bf16);
            matmul_stored(Threads::One, &rows, weight, 0, outputs, &mut y, 1.0);
            for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact(outputs)) {
                for (w, y) in w.chunks_exact(inputs).zip(y) {
                    let terms = x.iter().zip(w).map(|(x, w)| f64::from(bf16::from_f32(*x).to_f32()) * f64::from(*w));
                    let exact: f64 = terms.sum();
                    assert!((f64::from(*y) - exact).abs() < 2e-4, "{n}×{inputs}×{outputs}: {y} for {exact}");
                }
                let mut alone = vec![f32::NAN; outputs];
                rows.fill(x, inputs, Format::Bf16, MatmulPrecision::Bf16);
                matmul_stored(Threads::Pool, &rows, weight, 0, outputs, &mut alone, 1.0);
                assert_eq!(alone, y);
            }
        }
    }
}
