//! Muon: momentum whose update is orthogonalised by a Newton–Schulz iteration, for the hidden
//! matrices of a model trained from random weights (Jordan et al. 2024; the scale that makes its
//! steps as large as AdamW's is Liu et al.'s, arXiv 2502.16982). Only `lopper pocket train` uses
//! it; healing follows the paper's AdamW.

use lopper_model::Threads;
use lopper_model::kernels::gemm;
use lopper_model::kernels::weight::Weight;
use std::collections::BTreeMap;

/// Muon's parameters and constants.
#[derive(Debug, Clone)]
pub struct Muon {
    /// `(rows, cols)` of each slot that Muon updates.
    pub shapes: BTreeMap<usize, (usize, usize)>,
    /// Momentum (Nesterov).
    pub momentum: f32,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Muon {
    /// Updates the matrix of `slot`; `momentum` is its optimiser state.
    pub fn update(&self, slot: usize, data: &mut [f32], gradient: &[f32], momentum: &mut [f32], rate: f64) {
        let (rows, cols) = self.shapes[&slot];
        let mut update = vec![0f32; data.len()];
        for ((u, m), g) in update.iter_mut().zip(momentum.iter_mut()).zip(gradient) {
            *m = self.momentum * *m + g;
            *u = g + self.momentum * *m;
        }
        let update = orthogonalise(update, rows, cols);
        let scale = (0.2 * (rows.max(cols) as f64).sqrt() * rate) as f32;
        let decay = (1.0 - rate * self.weight_decay) as f32;
        for (p, u) in data.iter_mut().zip(&update) {
            *p = *p * decay - scale * u;
        }
    }
}

/// Five steps of the quintic Newton–Schulz iteration: approximately the nearest (semi-)orthogonal matrix.
fn orthogonalise(mut x: Vec<f32>, rows: usize, cols: usize) -> Vec<f32> {
    const STEPS: usize = 5;
    const A: f32 = 3.4445;
    const B: f32 = -4.7750;
    const C: f32 = 2.0315;
    let tall = rows > cols;
    if tall {
        x = transpose(&x, rows, cols);
    }
    let (n, k) = if tall { (cols, rows) } else { (rows, cols) };
    let norm = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
    x.iter_mut().for_each(|v| *v /= norm + 1e-7);
    let (mut gram, mut poly, mut next) = (vec![0f32; n * n], vec![0f32; n * n], vec![0f32; n * k]);
    for _ in 0..STEPS {
        gemm::linear(Threads::One.into(), &x, Weight::of_f32(&x, k), &mut gram, false, 1.0); // X·Xᵀ
        poly.iter_mut().zip(&gram).for_each(|(p, g)| *p = B * g);
        gemm::linear(Threads::One.into(), &gram, Weight::of_f32(&gram, n), &mut poly, true, C); // symmetric: G·Gᵀ = G²
        next.iter_mut().zip(&x).for_each(|(y, v)| *y = A * v);
        gemm::linear_input_grad(Threads::One.into(), &poly, Weight::of_f32(&x, k), &mut next, true, 1.0); // P·X
        std::mem::swap(&mut x, &mut next);
    }
    if tall { transpose(&x, cols, rows) } else { x }
}

fn transpose(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| x[r * cols + c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_values_come_near_one() {
        for (rows, cols) in [(6, 10), (10, 6)] {
            let x: Vec<f32> = (0..rows * cols).map(|i| ((i * 37 % 19) as f32 - 9.0) / 7.0).collect();
            let y = orthogonalise(x, rows, cols);
            let (y, n, k) = if rows > cols { (transpose(&y, rows, cols), cols, rows) } else { (y, rows, cols) };
            let mut gram = vec![0f32; n * n];
            gemm::linear(Threads::One.into(), &y, Weight::of_f32(&y, k), &mut gram, false, 1.0);
            for i in 0..n {
                assert!((0.4..1.6).contains(&gram[i * n + i]), "diagonal {}", gram[i * n + i]);
            }
            let trace: f32 = (0..n).map(|i| gram[i * n + i]).sum();
            assert!((trace / n as f32 - 0.85).abs() < 0.35, "mean squared singular value {}", trace / n as f32);
        }
    }
}
