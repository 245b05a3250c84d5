//! Several linear maps of one input: query, key and value; gate and up. Most checkpoints hold them
//! apart, Phi-3's one below the other in one matrix. Parameters and adapters follow the checkpoint,
//! so that what is trained is what others load.

use crate::kernels::MatmulOptions;
use crate::linear::{Dropout, Linear};
use crate::param::Gradients;

/// `N` linear maps of the same input.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "`N` is 2 or 3, which the lint does not know")]
pub enum Projections<const N: usize> {
    /// A matrix each.
    Separate([Linear; N]),
    /// The rows of all of them, one after another, in one matrix.
    Fused(Linear),
}

impl<const N: usize> Projections<N> {
    /// Writes each output `[n, sizes[i]]` for `x[n, in]`. `spare` holds a fused result meanwhile.
    pub fn forward(
        &self,
        matmul: MatmulOptions,
        x: &[f32],
        sizes: [usize; N],
        outs: [&mut Vec<f32>; N],
        spare: &mut Vec<f32>,
        dropout: Option<Dropout>,
    ) {
        match self {
            Self::Separate(linears) => {
                for (linear, out) in linears.iter().zip(outs) {
                    linear.forward(matmul, x, out, dropout);
                }
            }
            Self::Fused(linear) => {
                linear.forward(matmul, x, spare, dropout);
                let (total, rows) = (linear.outputs(), x.len() / linear.inputs());
                let mut from = 0;
                for (out, size) in outs.into_iter().zip(sizes) {
                    out.resize(rows * size, 0.0);
                    for (out, row) in out.chunks_exact_mut(size).zip(spare.chunks_exact(total)) {
                        out.copy_from_slice(&row[from..from + size]);
                    }
                    from += size;
                }
            }
        }
    }

    /// Adds the parameters' gradients and writes the input's into `dx`. `dys` are the gradients of
    /// the outputs.
    #[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
    pub fn backward(
        &self,
        matmul: MatmulOptions,
        x: &[f32],
        sizes: [usize; N],
        dys: [&[f32]; N],
        dx: &mut [f32],
        grads: &mut Gradients,
        spare: &mut Vec<f32>,
        dropout: Option<Dropout>,
    ) {
        match self {
            Self::Separate(linears) => {
                for (i, (linear, dy)) in linears.iter().zip(dys).enumerate() {
                    linear.backward(matmul, x, dy, dx, i > 0, grads, dropout);
                }
            }
            Self::Fused(linear) => {
                let total = linear.outputs();
                spare.resize(x.len() / linear.inputs() * total, 0.0);
                let mut from = 0;
                for (dy, size) in dys.into_iter().zip(sizes) {
                    for (row, dy) in spare.chunks_exact_mut(total).zip(dy.chunks_exact(size)) {
                        row[from..from + size].copy_from_slice(dy);
                    }
                    from += size;
                }
                linear.backward(matmul, x, spare, dx, false, grads, dropout);
            }
        }
    }

    /// The linear maps, or the one that holds them all.
    pub fn linears(&self) -> &[Linear] {
        match self {
            Self::Separate(linears) => linears,
            Self::Fused(linear) => std::slice::from_ref(linear),
        }
    }

    /// As [`Projections::linears`].
    pub fn linears_mut(&mut self) -> &mut [Linear] {
        match self {
            Self::Separate(linears) => linears,
            Self::Fused(linear) => std::slice::from_mut(linear),
        }
    }
}
