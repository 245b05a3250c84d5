//! How well a layer is approximated by a linear map: R² of the best linear map from its input to its
//! output, by ridge regression on half of an even sample of tokens and measured on the other half
//! (compare Razzhigaev et al., arXiv 2405.12250). The most linear layers go.
//!
//! The regression is solved in the space of the sampled tokens, so that its cost and memory do not
//! grow with the square of the model's width.

use lopper_infer::LayerActivations;
use lopper_model::kernels::vectorised;
use rayon::prelude::*;

use super::{By, Criterion};
use crate::least_squares::{add, cholesky, dot, solve};

pub(super) const CRITERION: Criterion = Criterion::new(
    "linear",
    "the layers that a linear map from hidden state in to hidden state out fits best (R²)",
    By::Layer(|scores| Some(scores.linear_r2.as_ref()?.iter().map(|r2| 1.0 - r2).collect())),
);

/// Most tokens that maps are fitted to; R² is measured on as many others.
const TOKENS: usize = 512;
/// The ridge, as a share of the mean squared length of the inputs.
const RIDGE: f64 = 1e-4;

/// Hidden states of an even sample of tokens at every boundary.
pub(super) struct Sample {
    width: usize,
    every: usize,
    /// `boundaries[b]`: by chunk, rows of the tokens taken.
    boundaries: Vec<Vec<(usize, Vec<f32>)>>,
}

impl Sample {
    pub fn new(layers: usize, width: usize, tokens: usize) -> Self {
        Self { width, every: tokens.div_ceil(2 * TOKENS).max(1), boundaries: vec![vec![]; layers + 1] }
    }

    pub fn take(&mut self, step: &LayerActivations<'_>) {
        let rows = |hidden: &[f32]| -> Vec<f32> {
            hidden.chunks_exact(self.width).step_by(self.every).flatten().copied().collect()
        };
        if step.layer.0 == 0 {
            let before = rows(step.input);
            self.boundaries[0].push((step.batch_index, before));
        }
        let after = rows(step.output);
        self.boundaries[step.layer.0 + 1].push((step.batch_index, after));
    }

    /// The rows of a boundary in the order of the text, centred column by column.
    fn rows(&self, boundary: usize) -> Vec<f64> {
        let mut chunks: Vec<_> = self.boundaries[boundary].iter().collect();
        chunks.sort_by_key(|(chunk, _)| *chunk);
        chunks.into_iter().flat_map(|(_, rows)| rows.iter().map(|v| f64::from(*v))).collect()
    }
}

/// R² of every layer.
pub(super) fn fits(sample: &Sample) -> Vec<f64> {
    let layers = sample.boundaries.len() - 1;
    (0..layers)
        .into_par_iter()
        .map(|layer| vectorised(|| fit(&sample.rows(layer), &sample.rows(layer + 1), sample.width)))
        .collect()
}

/// R² of the map from `x` to `y`, `[tokens, width]`: fitted to even rows, measured on odd ones. Below
/// two tokens of each there is nothing to measure, and the map explains nothing.
fn fit(x: &[f64], y: &[f64], width: usize) -> f64 {
    let half = |all: &[f64], odd: usize| -> Vec<f64> {
        all.chunks_exact(width).skip(odd).step_by(2).take(TOKENS).flatten().copied().collect()
    };
    let (mut x, mut y, mut x_test, mut y_test) = (half(x, 0), half(y, 0), half(x, 1), half(y, 1));
    let (n, tests) = (x.len() / width, x_test.len() / width);
    if n < 2 || tests < 2 {
        return 0.0;
    }
    for (train, test) in [(&mut x, &mut x_test), (&mut y, &mut y_test)] {
        let mut means = vec![0.0; width];
        train.chunks_exact(width).for_each(|row| add(&mut means, 1.0 / n as f64, row));
        for row in train.chunks_exact_mut(width).chain(test.chunks_exact_mut(width)) {
            add(row, -1.0, &means);
        }
    }
    let mut gram: Vec<f64> = (0..n * n).map(|at| dot(row(&x, at / n, width), row(&x, at % n, width))).collect();
    let mean = (0..n).map(|i| gram[i * n + i]).sum::<f64>() / n as f64;
    (0..n).for_each(|i| gram[i * n + i] += RIDGE * mean + f64::MIN_POSITIVE);
    // α = (X·Xᵀ + λ)⁻¹·Y; what a new token gives is x·Xᵀ·α.
    cholesky(&mut gram, n);
    solve(&gram, n, &mut y, width);
    let (mut left, mut all) = (0.0, 0.0);
    for test in 0..tests {
        let mut predicted = vec![0.0; width];
        for i in 0..n {
            add(&mut predicted, dot(row(&x_test, test, width), row(&x, i, width)), row(&y, i, width));
        }
        for (predicted, real) in predicted.iter().zip(row(&y_test, test, width)) {
            left += (real - predicted).powi(2);
            all += real.powi(2);
        }
    }
    if all > 0.0 { 1.0 - left / all } else { 1.0 }
}

fn row(all: &[f64], at: usize, width: usize) -> &[f64] {
    &all[at * width..(at + 1) * width]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize, f: f64) -> Vec<f64> {
        (0..n).map(|i| (i as f64 * f).sin() + 0.3 * (i as f64 * f * 1.7).cos()).collect()
    }

    #[test]
    fn a_linear_map_is_found_and_a_square_is_not() {
        let (tokens, width) = (400, 6);
        let x: Vec<f64> = (0..tokens * width).map(|i| ((i * i * 7919 + i * 31) % 1009) as f64 / 504.5 - 1.0).collect();
        let map = wave(width * width, 0.9);
        let linear: Vec<f64> = x
            .chunks_exact(width)
            .flat_map(|row| (0..width).map(|o| 2.0 + dot(row, &map[o * width..][..width])).collect::<Vec<_>>())
            .collect();
        assert!(fit(&x, &linear, width) > 0.9999);
        let square: Vec<f64> = x.iter().map(|v| v * v).collect();
        assert!(fit(&x, &square, width) < 0.1, "{}", fit(&x, &square, width));
        assert_eq!(fit(&x[..width], &square[..width], width), 0.0);
    }
}
