//! A linear map prepared for running forward.

use crate::kernels::gemm::each_block;
use crate::kernels::matmul_stored::{ActivationTile, matmul_stored};
use crate::kernels::packed_bf16::{PackedBf16Activations, PackedBf16Weight};
use crate::kernels::packed_f32::PackedF32Weight;
use crate::kernels::weight::{Format, Operand, Weight};
use crate::kernels::{MatmulPrecision, Threads, add_assign};
use crate::linear::{Linear, Lora, multiply_columns};
use crate::param::Param;
use crate::projections::Projections;
use std::ops::Range;

/// `y = x·Wᵀ + b`.
#[derive(Debug)]
pub(super) enum PreparedLinear {
    /// Repacked, adapter folded in.
    Packed { weight: PackedF32Weight, bias: Option<Vec<f32>> },
    /// Repacked in bf16, adapter folded in.
    Half { weight: PackedBf16Weight, bias: Option<Vec<f32>> },
    /// Some rows of a matrix as it is stored, or in NF4, which becomes `f32` a block of rows at a time.
    Stored { weight: Box<Param>, rows: Range<usize>, bias: Option<Vec<f32>>, lora: Option<Box<StoredLora>> },
}

/// An adapter that is applied apart from the weight.
#[derive(Debug)]
pub(super) struct StoredLora {
    lora: Lora,
    /// What DoRA multiplies the outputs by.
    factors: Option<Vec<f32>>,
}

impl PreparedLinear {
    pub fn new(linear: &Linear, pack: Pack) -> Self {
        Self::of_rows(linear, 0..linear.outputs(), pack)
    }

    /// A matrix without bias.
    pub fn of_matrix(matrix: &Param, pack: Pack) -> Self {
        Self::new(&Linear::new(matrix.clone()), pack)
    }

    pub fn of_projections<const N: usize>(all: &Projections<N>, sizes: [usize; N], pack: Pack) -> Vec<Self> {
        match all {
            Projections::Separate(linears) => linears.iter().map(|linear| Self::new(linear, pack)).collect(),
            Projections::Fused(linear) => {
                let mut from = 0;
                sizes
                    .iter()
                    .map(|size| {
                        from += size;
                        Self::of_rows(linear, from - size..from, pack)
                    })
                    .collect()
            }
        }
    }

    fn of_rows(linear: &Linear, rows: Range<usize>, pack: Pack) -> Self {
        let bias = linear.bias.as_ref().map(|bias| bias.data[rows.clone()].to_vec());
        let stored = || {
            let factors = linear.output_factors(Threads::Pool).map(|factors| factors[rows.clone()].to_vec());
            let lora = linear.lora.clone().map(|lora| Box::new(StoredLora { lora, factors }));
            Self::Stored { weight: Box::new(linear.weight.clone()), rows: rows.clone(), bias: bias.clone(), lora }
        };
        // A copy in bf16 would be four times a quantised weight.
        if pack == Pack::No || pack == Pack::Bf16 && linear.weight.nf4.is_some() {
            return stored();
        }
        let inputs = linear.inputs();
        let mut merged = linear.clone();
        if merged.lora.is_some() {
            merged.merge();
        }
        if pack == Pack::Bf16 {
            return match PackedBf16Weight::new(merged.weight.weight().slice(rows.clone())) {
                Some(weight) => Self::Half { weight, bias },
                None => stored(),
            };
        }
        let values = merged.weight.values();
        let weight = PackedF32Weight::new(&values[rows.start * inputs..rows.end * inputs], inputs, rows.len());
        Self::Packed { weight, bias }
    }

    pub fn outputs(&self) -> usize {
        match self {
            Self::Packed { weight, .. } => weight.outputs(),
            Self::Half { weight, .. } => weight.outputs(),
            Self::Stored { rows, .. } => rows.len(),
        }
    }

    /// How rows must be laid out for this map; none if as they are.
    fn format(&self) -> Option<Format> {
        match self {
            Self::Packed { .. } | Self::Half { .. } => None,
            Self::Stored { weight, .. } => Some(format_of(weight)),
        }
    }

    pub fn release(&self) {
        if let Self::Stored { weight, .. } = self {
            weight.release();
        }
    }

    /// Outputs `columns` alone, without bias: `y[n, columns.len()]`.
    pub fn columns(&self, threads: Threads, x: &Prepared<'_>, columns: Range<usize>, scale: f32, y: &mut [f32]) {
        match self {
            Self::Packed { weight, .. } => {
                weight.columns(x.values, columns, y);
                if scale != 1.0 {
                    y.iter_mut().for_each(|y| *y *= scale);
                }
            }
            Self::Half { weight, .. } => weight.columns(threads, x.half, columns, y, scale),
            Self::Stored { weight, rows, .. } => {
                in_blocks(threads, x.rows, weight, rows.start + columns.start..rows.start + columns.end, y, scale);
            }
        }
    }

    /// Lays out `x` for this map alone.
    pub fn prepare<'a>(
        &self,
        x: &'a [f32],
        inputs: usize,
        precision: MatmulPrecision,
        layout: &'a mut Layouts,
    ) -> Prepared<'a> {
        match self.format() {
            Some(format) => layout.rows.fill(x, inputs, format, precision),
            None if matches!(self, Self::Half { .. }) => layout.half.fill(x, inputs),
            None => {}
        }
        Prepared { values: x, rows: &layout.rows, half: &layout.half }
    }
}

/// Activations as they are, and as a stored weight's format wants them.
pub(super) struct Prepared<'a> {
    values: &'a [f32],
    rows: &'a ActivationTile,
    half: &'a PackedBf16Activations,
}

/// Buffers of activations laid out for products.
#[derive(Debug, Clone, Default)]
pub(super) struct Layouts {
    rows: ActivationTile,
    half: PackedBf16Activations,
}

/// Whether and how weights are repacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pack {
    /// They are used as they are stored.
    No,
    /// In `f32`, for small models.
    F32,
    /// In bf16, where the processor has instructions for it; else as [`Pack::No`].
    Bf16,
}

/// Several maps of the same input `x[n, inputs]`.
pub(super) fn apply(
    maps: &[PreparedLinear],
    x: &[f32],
    outs: &mut [&mut Vec<f32>],
    threads: Threads,
    precision: MatmulPrecision,
    layouts: &mut Layouts,
) {
    let Layouts { rows, half } = layouts;
    let (mut laid_out, mut halved) = (None, false);
    for (map, out) in maps.iter().zip(outs) {
        let outputs = map.outputs();
        let (bias, inputs) = match map {
            PreparedLinear::Packed { weight, bias } => {
                weight.matmul(x, out);
                (bias, weight.inputs())
            }
            PreparedLinear::Half { weight, bias } => {
                let inputs = weight.inputs();
                if !std::mem::replace(&mut halved, true) {
                    half.fill(x, inputs);
                }
                out.resize(x.len() / inputs * outputs, 0.0);
                weight.columns(threads, half, 0..outputs, out, 1.0);
                (bias, inputs)
            }
            PreparedLinear::Stored { weight, rows: range, bias, lora } => {
                let (inputs, format) = (weight.cols, format_of(weight));
                if laid_out != Some(format) {
                    rows.fill(x, inputs, format, precision);
                    laid_out = Some(format);
                }
                out.resize(x.len() / inputs * outputs, 0.0);
                in_blocks(threads, rows, weight, range.clone(), out, 1.0);
                if let Some(adapter) = lora {
                    add_lora(threads, &adapter.lora, x, range.clone(), out);
                    if let Some(factors) = &adapter.factors {
                        multiply_columns(out, factors);
                    }
                }
                (bias, inputs)
            }
        };
        debug_assert_eq!(x.len() / inputs * outputs, out.len());
        if let Some(bias) = bias {
            out.chunks_exact_mut(outputs).for_each(|row| add_assign(row, bias));
        }
    }
}

/// The format that products with `matrix` read.
fn format_of(matrix: &Param) -> Format {
    match matrix.operand() {
        Operand::Stored(weight) => weight.format,
        Operand::Nf4(_) => Format::F32,
    }
}

/// The product with the rows `range` of a matrix, whose pages are given back block by block where the
/// model says so.
fn in_blocks(threads: Threads, x: &ActivationTile, matrix: &Param, range: Range<usize>, y: &mut [f32], scale: f32) {
    let outputs = range.len();
    let weight = match matrix.operand() {
        Operand::Stored(weight) => weight,
        quantised => {
            return each_block(threads, quantised.slice(range), |first, values| {
                matmul_stored(threads, x, Weight::of_f32(values, matrix.cols), first, outputs, y, scale);
            });
        }
    };
    let Some((mapped, step)) = matrix.mapped.as_ref().and_then(|mapped| Some((mapped, mapped.block_rows()?))) else {
        return matmul_stored(threads, x, weight.slice(range), 0, outputs, y, scale);
    };
    for from in range.clone().step_by(step) {
        let block = from..(from + step).min(range.end);
        matmul_stored(threads, x, weight.slice(block.clone()), from - range.start, outputs, y, scale);
        mapped.release_rows(block);
    }
}

/// Adds the adapter's part of the outputs `range`.
fn add_lora(threads: Threads, lora: &Lora, x: &[f32], range: Range<usize>, out: &mut [f32]) {
    let (inputs, rank) = (lora.a.cols, lora.a.rows);
    let mut rows = ActivationTile::default();
    rows.fill(x, inputs, Format::F32, MatmulPrecision::F32);
    let mut low = vec![0f32; rows.count() * rank];
    matmul_stored(threads, &rows, lora.a.weight(), 0, rank, &mut low, 1.0);
    rows.fill(&low, rank, Format::F32, MatmulPrecision::F32);
    let mut update = vec![0f32; out.len()];
    let outputs = range.len();
    matmul_stored(threads, &rows, lora.b.weight().slice(range), 0, outputs, &mut update, lora.scale);
    add_assign(out, &update);
}
