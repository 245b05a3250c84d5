//! DoRA (Liu et al., arXiv 2402.09353): every row of the adapted weight V = W + scale·B·A has a trained norm.
//!
//! y = m ∘ (V·x) with m = magnitude / ‖V‖, row by row. The norm is a constant to the gradient (section 4.3 of the
//! paper, and PEFT). Where values of the adapter's input are dropped, x', PEFT keeps the base's output of the whole
//! input and adds what the adapter changes, of the other: y = W·x + (m − 1) ∘ (W·x') + m ∘ (scale·B·A·x'). Both need a
//! second product with W, as does the gradient of the magnitudes.

use super::{Dropout, Linear, Lora};
use crate::kernels::{MatmulOptions, Threads, add_assign, dot, gemm, vectorised};
use crate::param::{Gradients, Param};

impl Linear {
    /// The norms of the rows of the weight, with the adapter if there is one, `[out]`: what magnitudes are at first.
    pub fn row_norms(&self, threads: Threads) -> Vec<f32> {
        let inputs = self.inputs();
        let (mut norms, mut adapted) = (Vec::with_capacity(self.outputs()), Vec::new());
        gemm::each_block(threads, self.weight.operand(), |first, values| {
            let Some(lora) = &self.lora else { return norms.extend(values.chunks_exact(inputs).map(norm)) };
            let rank = lora.a.rows;
            adapted.clear();
            adapted.extend_from_slice(values);
            let b = &lora.b.data[first * rank..][..values.len() / inputs * rank];
            gemm::linear_input_grad(threads.into(), b, lora.a.weight(), &mut adapted, true, lora.scale);
            norms.extend(adapted.chunks_exact(inputs).map(norm));
        });
        norms
    }

    /// The adapter and its magnitudes, if it is one of DoRA.
    pub(super) fn dora(&self) -> Option<(&Lora, &Param)> {
        let lora = self.lora.as_ref()?;
        Some((lora, lora.magnitude.as_ref()?))
    }

    /// What DoRA multiplies the outputs of the adapted weight by, `[out]`; none for a plain adapter.
    pub(crate) fn output_factors(&self, threads: Threads) -> Option<Vec<f32>> {
        let (_, magnitude) = self.dora()?;
        Some(factors(magnitude, &self.row_norms(threads)))
    }

    /// Writes the outputs but for the bias.
    pub(super) fn forward_dora(
        &self,
        (lora, magnitude): (&Lora, &Param),
        matmul: MatmulOptions,
        x: &[f32],
        y: &mut [f32],
        dropout: Option<Dropout>,
    ) {
        let factors = factors(magnitude, &self.row_norms(matmul.threads));
        let (dropped, low) = lora.low(matmul, x, self.inputs(), dropout);
        gemm::linear(matmul, x, self.weight.operand(), y, false, 1.0);
        let Some(dropped) = dropped else {
            gemm::linear(matmul, &low, lora.b.weight(), y, true, lora.scale);
            return multiply_columns(y, &factors);
        };
        let mut part = vec![0f32; y.len()];
        gemm::linear(matmul, &dropped, self.weight.operand(), &mut part, false, 1.0);
        multiply_columns(&mut part, &factors.iter().map(|m| m - 1.0).collect::<Vec<_>>());
        add_assign(y, &part);
        gemm::linear(matmul, &low, lora.b.weight(), &mut part, false, lora.scale);
        multiply_columns(&mut part, &factors);
        add_assign(y, &part);
    }

    /// As [`Linear::backward`], but for the bias.
    #[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
    pub(super) fn backward_dora(
        &self,
        (lora, magnitude): (&Lora, &Param),
        matmul: MatmulOptions,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        accumulate: bool,
        grads: &mut Gradients,
        dropout: Option<Dropout>,
    ) {
        let (inputs, outputs, rank) = (self.inputs(), self.outputs(), lora.a.rows);
        let norms = self.row_norms(matmul.threads);
        let (dropped, low) = lora.low(matmul, x, inputs, dropout);
        let seen = dropped.as_deref().unwrap_or(x);
        // The gradient of V·x.
        let mut dz = dy.to_vec();
        if let Some(dmagnitude) = grads.of(magnitude) {
            let mut z = vec![0f32; dy.len()];
            gemm::linear(matmul, seen, self.weight.operand(), &mut z, false, 1.0);
            gemm::linear(matmul, &low, lora.b.weight(), &mut z, true, lora.scale);
            for (dy, z) in dy.chunks_exact(outputs).zip(z.chunks_exact(outputs)) {
                for (((d, dy), z), norm) in dmagnitude.iter_mut().zip(dy).zip(z).zip(&norms) {
                    *d += dy * ratio(*z, *norm);
                }
            }
        }
        multiply_columns(&mut dz, &factors(magnitude, &norms));
        if let Some(db) = grads.of(&lora.b) {
            gemm::linear_weight_grad(matmul, &dz, &low, rank, outputs, db, lora.scale);
        }
        let mut dlow = low;
        gemm::linear_input_grad(matmul, &dz, lora.b.weight(), &mut dlow, false, lora.scale);
        if let Some(da) = grads.of(&lora.a) {
            gemm::linear_weight_grad(matmul, &dlow, seen, inputs, rank, da, 1.0);
        }
        let Some(mask) = lora.mask(dropout) else {
            gemm::linear_input_grad(matmul, &dz, self.weight.operand(), dx, accumulate, 1.0);
            gemm::linear_input_grad(matmul, &dlow, lora.a.weight(), dx, true, 1.0);
            if let Some(dw) = grads.of(&self.weight) {
                gemm::linear_weight_grad(matmul, &dz, x, inputs, outputs, dw, 1.0);
            }
            return;
        };
        gemm::linear_input_grad(matmul, dy, self.weight.operand(), dx, accumulate, 1.0);
        // Of (m − 1) ∘ (W·x').
        let mut rest = dz;
        rest.iter_mut().zip(dy).for_each(|(rest, dy)| *rest -= dy);
        let mut through = vec![0f32; x.len()];
        gemm::linear_input_grad(matmul, &rest, self.weight.operand(), &mut through, false, 1.0);
        gemm::linear_input_grad(matmul, &dlow, lora.a.weight(), &mut through, true, 1.0);
        mask.apply(&mut through);
        add_assign(dx, &through);
        if let Some(dw) = grads.of(&self.weight) {
            gemm::linear_weight_grad(matmul, dy, x, inputs, outputs, dw, 1.0);
            gemm::linear_weight_grad(matmul, &rest, seen, inputs, outputs, dw, 1.0);
        }
    }
}

/// Gives the rows of a merged weight `[out, in]` the norms in `magnitude`.
pub(super) fn set_norms(weight: &mut [f32], inputs: usize, magnitude: &Param) {
    for (row, magnitude) in weight.chunks_exact_mut(inputs).zip(magnitude.data.iter()) {
        let factor = ratio(*magnitude, norm(row));
        row.iter_mut().for_each(|w| *w *= factor);
    }
}

fn factors(magnitude: &Param, norms: &[f32]) -> Vec<f32> {
    magnitude.data.iter().zip(norms).map(|(magnitude, norm)| ratio(*magnitude, *norm)).collect()
}

/// A row of zeros gives zeros, whatever its magnitude; in PEFT it gives no number.
fn ratio(value: f32, norm: f32) -> f32 {
    if norm == 0.0 { 0.0 } else { value / norm }
}

fn norm(row: &[f32]) -> f32 {
    vectorised(
        #[inline(always)]
        || dot(row, row),
    )
    .sqrt()
}

/// Multiplies the columns of `y[n, factors.len()]`.
pub(crate) fn multiply_columns(y: &mut [f32], factors: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for row in y.chunks_exact_mut(factors.len()) {
                row.iter_mut().zip(factors).for_each(|(y, factor)| *y *= factor);
            }
        },
    );
}
