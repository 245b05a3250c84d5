//! A linear layer `y = x·Wᵀ + b`, with an optional low-rank adapter (LoRA, Hu et al., arXiv
//! 2106.09685): `+ scale·dropout(x)·Aᵀ·Bᵀ`, and where that is DoRA, a trained norm for each row of the adapted weight
//! ([`Lora::magnitude`]).

mod dora;

pub(crate) use dora::multiply_columns;

use crate::kernels::{MatmulOptions, Threads, add_assign, gemm, vectorised};
use crate::param::{Gradients, Param};

/// Low-rank update of a linear layer, as PEFT stores it.
#[derive(Debug, Clone)]
pub struct Lora {
    /// `lora_A`: `[rank, in]`.
    pub a: Param,
    /// `lora_B`: `[out, rank]`.
    pub b: Param,
    /// alpha / rank (or alpha / √rank).
    pub scale: f32,
    /// Probability that an input value is dropped on the way into `A` while training.
    pub dropout: f32,
    /// DoRA's norm of each row of `W + scale·B·A`: `[out]`.
    pub magnitude: Option<Param>,
}

/// Weights of one projection.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Param,
    /// `[out]`.
    pub bias: Option<Param>,
    /// The adapter, if one is attached.
    pub lora: Option<Lora>,
}

/// Seed of the dropout masks of one training step; the same seed gives the same masks, so that a
/// recomputed forward pass and the backward pass agree.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// Changes with each step and each part of the batch.
    pub seed: u64,
}

impl Linear {
    /// A layer without bias or adapter.
    pub fn new(weight: Param) -> Self {
        Self { weight, bias: None, lora: None }
    }

    /// Input width.
    pub fn inputs(&self) -> usize {
        self.weight.cols
    }

    /// Output width.
    pub fn outputs(&self) -> usize {
        self.weight.rows
    }

    /// Writes `y[n, out]` for `x[n, in]`.
    pub fn forward(&self, matmul: MatmulOptions, x: &[f32], y: &mut Vec<f32>, dropout: Option<Dropout>) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        y.resize(x.len() / inputs * outputs, 0.0);
        let dora = self.dora();
        match dora {
            Some(dora) => self.forward_dora(dora, matmul, x, y, dropout),
            None => gemm::linear(matmul, x, self.weight.operand(), y, false, 1.0),
        }
        if let Some(bias) = &self.bias {
            for row in y.chunks_exact_mut(outputs) {
                add_assign(row, &bias.data);
            }
        }
        if let Some(lora) = self.lora.as_ref().filter(|_| dora.is_none()) {
            let (_, low) = lora.low(matmul, x, inputs, dropout);
            gemm::linear(matmul, &low, lora.b.weight(), y, true, lora.scale);
        }
    }

    /// Adds the parameters' gradients, and adds the input's to `dx` (`accumulate`) or writes it.
    #[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
    pub fn backward(
        &self,
        matmul: MatmulOptions,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        accumulate: bool,
        grads: &mut Gradients,
        dropout: Option<Dropout>,
    ) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        if let Some(db) = self.bias.as_ref().and_then(|b| grads.of(b)) {
            for row in dy.chunks_exact(outputs) {
                add_assign(db, row);
            }
        }
        if let Some(dora) = self.dora() {
            return self.backward_dora(dora, matmul, x, dy, dx, accumulate, grads, dropout);
        }
        gemm::linear_input_grad(matmul, dy, self.weight.operand(), dx, accumulate, 1.0);
        if let Some(dw) = grads.of(&self.weight) {
            gemm::linear_weight_grad(matmul, dy, x, inputs, outputs, dw, 1.0);
        }
        let Some(lora) = &self.lora else { return };
        let rank = lora.a.rows;
        let (dropped, low) = lora.low(matmul, x, inputs, dropout);
        if let Some(db) = grads.of(&lora.b) {
            gemm::linear_weight_grad(matmul, dy, &low, rank, outputs, db, lora.scale);
        }
        let mut dlow = low;
        gemm::linear_input_grad(matmul, dy, lora.b.weight(), &mut dlow, false, lora.scale);
        if let Some(da) = grads.of(&lora.a) {
            gemm::linear_weight_grad(matmul, &dlow, dropped.as_deref().unwrap_or(x), inputs, rank, da, 1.0);
        }
        match lora.mask(dropout) {
            None => gemm::linear_input_grad(matmul, &dlow, lora.a.weight(), dx, true, 1.0),
            Some(mask) => {
                let mut through = vec![0f32; x.len()];
                gemm::linear_input_grad(matmul, &dlow, lora.a.weight(), &mut through, false, 1.0);
                mask.apply(&mut through);
                add_assign(dx, &through);
            }
        }
    }

    /// Folds the adapter into the weight, `W + scale·B·A` with the norms of DoRA, in memory, and removes it.
    pub fn merge(&mut self) {
        let inputs = self.inputs();
        let Some(lora) = self.lora.take() else { return };
        self.weight.load();
        let weight = std::sync::Arc::make_mut(&mut self.weight.data);
        // B·A as `linear_input_grad`: dy = B[out, rank], W = A[rank, in].
        gemm::linear_input_grad(Threads::Pool.into(), &lora.b.data, lora.a.weight(), weight, true, lora.scale);
        if let Some(magnitude) = &lora.magnitude {
            dora::set_norms(weight, inputs, magnitude);
        }
    }
}

impl Lora {
    /// The dropped-out input (where there is dropout) and its product with `A`.
    fn low(
        &self,
        matmul: MatmulOptions,
        x: &[f32],
        inputs: usize,
        dropout: Option<Dropout>,
    ) -> (Option<Vec<f32>>, Vec<f32>) {
        let rank = self.a.rows;
        let dropped = self.mask(dropout).map(|mask| {
            let mut copy = x.to_vec();
            mask.apply(&mut copy);
            copy
        });
        let mut low = vec![0f32; x.len() / inputs * rank];
        gemm::linear(matmul, dropped.as_deref().unwrap_or(x), self.a.weight(), &mut low, false, 1.0);
        (dropped, low)
    }

    fn mask(&self, dropout: Option<Dropout>) -> Option<Mask> {
        let dropout = dropout.filter(|_| self.dropout > 0.0)?;
        let stream = self.a.slot.unwrap_or(usize::MAX) as u64;
        Some(Mask { seed: mix(dropout.seed ^ mix(stream)) as u32, probability: self.dropout })
    }
}

/// Inverted dropout whose mask is a hash of the element's number, so that it never has to be kept.
struct Mask {
    seed: u32,
    probability: f32,
}

impl Mask {
    fn apply(&self, x: &mut [f32]) {
        let threshold = (f64::from(self.probability) * f64::from(u32::MAX)) as u32;
        let keep = 1.0 / (1.0 - self.probability);
        let seed = self.seed;
        vectorised(
            #[inline(always)]
            || {
                for (i, v) in x.iter_mut().enumerate() {
                    // Wang-style integer hash of the element's number (murmur3's finaliser).
                    let mut h = (i as u32).wrapping_mul(0x9e37_79b9) ^ seed;
                    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
                    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
                    h ^= h >> 16;
                    *v *= if h < threshold { 0.0 } else { keep };
                }
            },
        );
    }
}

/// SplitMix64's finaliser.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
