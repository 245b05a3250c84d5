//! bf16 products with a weight that was repacked once, for the processor's instructions for bf16:
//! the register tile of [`super::bf16`] over whole rows. A third faster than reading the
//! weight as it is stored ([`super::matmul_stored`]), for a copy of it in bf16.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_variables, reason = "x86-64 only"))]

use super::bf16::{Destination, Instructions, Lines, NR};
use super::matmul_stored::{PARALLEL_FROM, X_BLOCK};
use super::weight::{Format, Weight, convert};
use super::{SharedMut, Threads};
use rayon::prelude::*;
use std::ops::Range;

/// A matrix `[outputs, inputs]` as panels of [`NR`] rows: `[panel][pair of inputs][row]`, rounded to
/// bf16 and filled up with zeros.
#[derive(Debug, Clone)]
pub struct PackedBf16Weight {
    instructions: Instructions,
    data: Vec<u32>,
    inputs: usize,
    outputs: usize,
}

/// Activations `[n, inputs]` as panels of rows in the order that the instructions read, likewise.
#[derive(Debug, Clone, Default)]
pub struct PackedBf16Activations {
    instructions: Option<Instructions>,
    data: Vec<u32>,
    count: usize,
    inputs: usize,
}

impl PackedBf16Weight {
    /// Packs `weight`; none where the processor lacks the instructions.
    pub fn new(weight: Weight<'_>) -> Option<Self> {
        Self::with(Instructions::best()?, weight)
    }

    /// Packs `weight` for these instructions, which must be available.
    fn with(instructions: Instructions, weight: Weight<'_>) -> Option<Self> {
        assert!(instructions.available(), "panels of bf16 without the instructions");
        let (inputs, outputs) = (weight.inputs, weight.rows());
        let pairs = inputs.div_ceil(2);
        let panel = NR * instructions.depth(pairs);
        let pack = |lines: Lines<'_>, count: usize, out: &mut Vec<u32>| {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instructions are there.
            unsafe {
                instructions.pack_columns(lines, (0, count), (0, pairs), inputs, out);
            }
        };
        let mut data = vec![0u32; outputs.div_ceil(NR) * panel];
        let buffers = || (Vec::new(), Vec::new());
        data.par_chunks_mut(panel).enumerate().for_each_init(buffers, |(values, packed), (at, panel)| {
            let rows = weight.slice(at * NR..((at + 1) * NR).min(outputs));
            let lines = Lines { bytes: rows.bytes, format: rows.format, line_stride: inputs, inner_stride: 1 };
            if rows.format == Format::F16 {
                values.clear();
                convert(rows.format, rows.bytes, values);
                pack(Lines::of_f32(values, inputs, 1), rows.rows(), packed);
            } else {
                pack(lines, rows.rows(), packed);
            }
            panel.copy_from_slice(packed);
        });
        Some(Self { instructions, data, inputs, outputs })
    }

    /// Input width.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Output width.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Outputs `columns` of `scale·x·Wᵀ`: `y[n, columns.len()]`. They begin at a whole panel.
    pub fn columns(
        &self,
        threads: Threads,
        x: &PackedBf16Activations,
        columns: Range<usize>,
        y: &mut [f32],
        scale: f32,
    ) {
        let width = columns.len();
        assert!(x.inputs == self.inputs && x.count * width == y.len(), "bf16 panels: shapes disagree");
        assert!(columns.start.is_multiple_of(NR) && columns.end <= self.outputs, "columns of no panel");
        if y.is_empty() {
            return;
        }
        let instructions = self.instructions;
        assert_eq!(x.instructions, Some(instructions), "bf16 panels: packed for other instructions");
        let (rows, depth) = (instructions.rows(), instructions.depth(self.inputs.div_ceil(2)));
        let size = NR * depth;
        let panels = &self.data[columns.start / NR * size..columns.end.div_ceil(NR) * size];
        let (target, total) = (SharedMut(y.as_mut_ptr()), y.len());
        let tile_size = rows * depth;
        let parallel = threads.count() > 1 && x.count * self.inputs * width >= PARALLEL_FROM;
        // Several pieces a thread even out what other programs take.
        let pieces = if parallel { 4 * threads.count() } else { 1 };
        let each = (panels.len() / size).div_ceil(pieces).clamp(1, if parallel { 16 } else { usize::MAX });
        let run = |group: usize| {
            let panels = &panels[group * each * size..panels.len().min((group + 1) * each * size)];
            #[cfg(target_arch = "x86_64")]
            let _configured = instructions.enter();
            // The rows in blocks that stay in the second-level cache while panels go by.
            let block = (X_BLOCK / (2 * self.inputs)).div_ceil(rows);
            for (first, tiles) in x.data.chunks(block * tile_size).enumerate() {
                for (at, panel) in (group * each..).zip(panels.chunks_exact(size)) {
                    let cols = NR.min(width - at * NR);
                    #[cfg(target_arch = "x86_64")]
                    for (tile, a) in (first * block..).zip(tiles.chunks_exact(tile_size)) {
                        let from = tile * rows * width + at * NR;
                        let rows = rows.min(x.count - tile * rows);
                        assert!(from + (rows - 1) * width + cols <= total, "bf16 panels: outside the result");
                        let result = Destination { at: target.at(from).0, stride: width, rows, cols };
                        // SAFETY: the tile's elements lie inside the result, which no two panels share,
                        // and the instructions are there, or nothing would have been packed.
                        unsafe { instructions.tile(a, panel, result, false, scale) };
                    }
                }
            }
        };
        let threads = if parallel { threads } else { Threads::One };
        threads.for_each((panels.len() / size).div_ceil(each), run);
    }
}

impl PackedBf16Activations {
    /// Rounds and lays out `x[n, inputs]`.
    pub fn fill(&mut self, x: &[f32], inputs: usize) {
        self.count = x.len() / inputs;
        self.inputs = inputs;
        assert_eq!(self.count * inputs, x.len(), "bf16 rows: shapes disagree");
        self.instructions = Instructions::best();
        self.pack(x);
    }

    fn pack(&mut self, x: &[f32]) {
        let instructions = self.instructions.expect("activations in bf16 where the instructions for it are");
        if self.count == 0 {
            return self.data.clear();
        }
        let (inputs, pairs) = (self.inputs, self.inputs.div_ceil(2));
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instructions are there.
        unsafe {
            let lines = Lines::of_f32(x, inputs, 1);
            instructions.pack_rows(lines, (0, self.count), (0, pairs), inputs, &mut self.data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16 as b16;
    use lopper_testkit::{Feature, skip_unless};

    #[test]
    fn equals_the_rounded_sum_whatever_stands_beside() {
        for (n, inputs, outputs) in [(1, 5, 3), (7, 128, 352), (64, 24, 37), (13, 1, 1), (11, 101, 65)] {
            let values = |count: usize, salt: usize| -> Vec<f32> {
                (0..count).map(|i| (((i * 7919 + salt * 104_729) % 1000) as f32 - 499.5) / 500.0).collect()
            };
            let (x, w) = (values(n * inputs, 1), values(outputs * inputs, 2));
            let packed = PackedBf16Weight::new(Weight::of_f32(&w, inputs));
            let Some(panels) = skip_unless(Feature::Bf16, packed) else { return };
            let round = |v: &f32| f64::from(b16::from_f32(*v).to_f32());
            let (mut rows, mut y) = (PackedBf16Activations::default(), vec![f32::NAN; n * outputs]);
            rows.fill(&x, inputs);
            panels.columns(Threads::Pool, &rows, 0..outputs, &mut y, 0.5);
            for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact(outputs)) {
                for (w, y) in w.chunks_exact(inputs).zip(y) {
                    let exact: f64 = x.iter().zip(w).map(|(x, w)| round(x) * round(w)).sum();
                    assert!((f64::from(*y) - 0.5 * exact).abs() < 1e-4, "{n}×{inputs}×{outputs}: {y} for {exact}");
                }
                let mut alone = vec![f32::NAN; outputs];
                rows.fill(x, inputs);
                panels.columns(Threads::One, &rows, 0..outputs, &mut alone, 0.5);
                assert_eq!(alone, y);
                for first in (0..outputs).step_by(NR) {
                    let columns = first..(first + NR).min(outputs);
                    let mut some = vec![f32::NAN; columns.len()];
                    panels.columns(Threads::One, &rows, columns.clone(), &mut some, 0.5);
                    assert_eq!(some, y[columns]);
                }
            }
        }
    }
}
