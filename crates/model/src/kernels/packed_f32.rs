//! Products with a weight that is used again and again for few rows: the weight is repacked once
//! into panels as wide as the registers allow, which a general product would do at every call.
//!
//! Each element is one chain of multiply-adds over the inputs in order, whatever other rows are
//! in the batch, so a row's result does not depend on the batch. The tiling is that of Goto & van de Geijn's
//! inner kernel (ACM TOMS 34, 2008), 6 rows by two vectors, or 12 where there are 32 registers.

// The loops over rows are written with indices: they must unroll completely so that the sums stay
// in registers.
#![allow(clippy::needless_range_loop, reason = "one index runs over several arrays")]

use pulp::{Simd, WithSimd};
use std::ops::Range;

/// A matrix `[outputs, inputs]` as panels of two vectors' width: `[panel][input][lane]`.
#[derive(Debug, Clone)]
pub struct PackedF32Weight {
    data: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

/// Width of a panel on this machine.
fn panel_width() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            2 * S::F32_LANES
        }
    }
    pulp::Arch::new().dispatch(Lanes)
}

impl PackedF32Weight {
    /// Packs `w[outputs, inputs]`, row-major.
    pub fn new(w: &[f32], inputs: usize, outputs: usize) -> Self {
        assert_eq!(w.len(), inputs * outputs, "packed: shapes disagree");
        let width = panel_width();
        let mut data = vec![0f32; outputs.div_ceil(width) * width * inputs];
        for (panel, rows) in data.chunks_exact_mut(width * inputs).zip(w.chunks(width * inputs)) {
            for (lane, row) in rows.chunks_exact(inputs).enumerate() {
                for (value, target) in row.iter().zip(panel.chunks_exact_mut(width)) {
                    target[lane] = *value;
                }
            }
        }
        Self { data, inputs, outputs }
    }

    /// Input width.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Output width.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `y[n, outputs] = x[n, inputs]·Wᵀ`, on the calling thread.
    pub fn matmul(&self, x: &[f32], y: &mut Vec<f32>) {
        y.resize(x.len() / self.inputs * self.outputs, 0.0);
        self.columns(x, 0..self.outputs, y);
    }

    /// As [`PackedF32Weight::matmul`], outputs `columns` alone: `y[n, columns.len()]`. They begin at a whole
    /// panel.
    pub fn columns(&self, x: &[f32], columns: Range<usize>, y: &mut [f32]) {
        let n = x.len() / self.inputs;
        assert!(n * self.inputs == x.len() && n * columns.len() == y.len(), "packed product: shapes disagree");
        assert!(columns.end <= self.outputs && columns.start.is_multiple_of(panel_width()), "columns of no panel");
        pulp::Arch::new().dispatch(Matmul { packed: self, columns, x, y });
    }
}

struct Matmul<'a> {
    packed: &'a PackedF32Weight,
    columns: Range<usize>,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Matmul<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let PackedF32Weight { data, inputs, outputs } = self.packed;
        let (inputs, width) = (*inputs, 2 * S::F32_LANES);
        assert_eq!(data.len(), outputs.div_ceil(width) * width * inputs, "packed for another vector width");
        let outputs = self.columns.len();
        let panels = data.chunks_exact(width * inputs).skip(self.columns.start / width).take(outputs.div_ceil(width));
        for (p, panel) in panels.enumerate() {
            let (panel, _) = S::as_simd_f32s(panel);
            let columns = p * width..((p + 1) * width).min(outputs);
            let (mut x, mut y) = (self.x, &mut *self.y);
            while !x.is_empty() {
                let left = x.len() / inputs;
                // Two vectors a row: six rows fill sixteen registers, twelve fill thirty-two.
                let rows = match left {
                    12.. if S::F32_LANES == 16 => 12,
                    6.. => 6,
                    4.. => 4,
                    2.. => 2,
                    _ => 1,
                };
                let (x_tile, x_rest) = x.split_at(rows * inputs);
                let (y_tile, y_rest) = y.split_at_mut(rows * outputs);
                match rows {
                    12 => tile::<S, 12>(simd, x_tile, inputs, panel, y_tile, outputs, columns.clone()),
                    6 => tile::<S, 6>(simd, x_tile, inputs, panel, y_tile, outputs, columns.clone()),
                    4 => tile::<S, 4>(simd, x_tile, inputs, panel, y_tile, outputs, columns.clone()),
                    2 => tile::<S, 2>(simd, x_tile, inputs, panel, y_tile, outputs, columns.clone()),
                    _ => tile::<S, 1>(simd, x_tile, inputs, panel, y_tile, outputs, columns.clone()),
                }
                (x, y) = (x_rest, y_rest);
            }
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const ROWS: usize>(
    simd: S,
    x: &[f32],
    inputs: usize,
    panel: &[S::f32s],
    y: &mut [f32],
    outputs: usize,
    columns: Range<usize>,
) {
    assert!(x.len() == ROWS * inputs && panel.len() == 2 * inputs && y.len() == ROWS * outputs);
    let mut sums = [[simd.splat_f32s(0.0); 2]; ROWS];
    let (pairs, _) = panel.as_chunks::<2>();
    for (k, [left, right]) in pairs.iter().enumerate() {
        for row in 0..ROWS {
            // SAFETY: k < inputs and row < ROWS, and x has ROWS·inputs values.
            let value = simd.splat_f32s(unsafe { *x.get_unchecked(row.wrapping_mul(inputs).wrapping_add(k)) });
            sums[row][0] = simd.mul_add_e_f32s(value, *left, sums[row][0]);
            sums[row][1] = simd.mul_add_e_f32s(value, *right, sums[row][1]);
        }
    }
    for (y, sum) in y.chunks_exact_mut(outputs).zip(&sums) {
        let y = &mut y[columns.clone()];
        if y.len() == 2 * S::F32_LANES {
            S::as_mut_simd_f32s(y).0.copy_from_slice(sum);
        } else {
            let (left, right) = y.split_at_mut(y.len().min(S::F32_LANES));
            simd.partial_store_f32s(left, sum[0]);
            simd.partial_store_f32s(right, sum[1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_plain_sum_and_ignores_the_batch() {
        for (n, inputs, outputs) in [(1, 5, 3), (7, 128, 352), (64, 24, 37), (6, 40, 16), (13, 1, 1), (2, 33, 65)] {
            let x: Vec<f32> = (0..n * inputs).map(|i| (i as f32 * 0.7).sin()).collect();
            let w: Vec<f32> = (0..outputs * inputs).map(|i| (i as f32 * 0.3).cos()).collect();
            let packed = PackedF32Weight::new(&w, inputs, outputs);
            let mut y = Vec::new();
            packed.matmul(&x, &mut y);
            let mut alone = Vec::new();
            for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact(outputs)) {
                for (w, y) in w.chunks_exact(inputs).zip(y) {
                    let expected: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                    assert!((f64::from(*y) - expected).abs() < 1e-4, "{n}×{inputs}×{outputs}: {y} for {expected}");
                }
                packed.matmul(x, &mut alone);
                assert_eq!(alone, y);
            }
        }
    }
}
