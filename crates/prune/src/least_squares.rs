//! Least squares by normal equations in f64: sums of products over rows that come batch by batch, and the Cholesky
//! factor that solves them.

use lopper_model::kernels::vectorised;
use lopper_record::{Fault, Result};
use rayon::prelude::*;

/// Rows that are in f64 at a time: few enough that they stay in the second-level cache.
const ROWS: usize = 32;
/// Columns of the right side that a thread solves at a time.
const PANEL: usize = 64;

/// Sums for the map D of least Σ weight·‖x·D − y‖² over rows x, y of `width` values.
pub(crate) struct NormalEquations {
    width: usize,
    /// Σ xᵀx, the lower triangle.
    gram: Vec<f64>,
    /// Σ xᵀy.
    right: Vec<f64>,
}

impl NormalEquations {
    pub fn new(width: usize) -> Self {
        Self { width, gram: vec![0.0; width * width], right: vec![0.0; width * width] }
    }

    /// Adds rows `x[n, width]` and `y[n, width]`, each pair with its weight.
    pub fn add(&mut self, x: &[f64], y: &[f64], weights: &[f64]) {
        let width = self.width;
        let blocks = x.chunks(ROWS * width).zip(y.chunks(ROWS * width)).zip(weights.chunks(ROWS));
        for ((x, y), weights) in blocks {
            // Rows of four, the last ones filled up with zeros.
            let rows = weights.len().next_multiple_of(4);
            let fill = |from: &[f64]| {
                let mut to = from.to_vec();
                to.resize(rows * width, 0.0);
                to
            };
            let (x, y) = (fill(x), fill(y));
            let weight = |row: usize| weights.get(row).copied().unwrap_or(0.0);
            let sums = self.gram.par_chunks_mut(width).zip(self.right.par_chunks_mut(width));
            sums.enumerate().for_each(|(i, (gram, right))| {
                vectorised(
                    #[inline(always)]
                    || {
                        for at in (0..rows).step_by(4) {
                            let factors: [f64; 4] = std::array::from_fn(|k| weight(at + k) * x[(at + k) * width + i]);
                            add_four(&mut gram[..=i], factors, &x[at * width..], width);
                            add_four(right, factors, &y[at * width..], width);
                        }
                    },
                );
            });
        }
    }

    /// The map D, `[width, width]`, with `ridge` times its own diagonal added to Σ xᵀx, so that the result does not
    /// depend on the units of a channel. A channel that is always 0 gets no weight.
    ///
    /// # Errors
    /// A [`Fault`] where the sums are not finite.
    pub fn solve(mut self, ridge: f64) -> Result<Vec<f64>> {
        let n = self.width;
        if !self.gram.iter().chain(&self.right).all(|v| v.is_finite()) {
            return Err(not_finite().into());
        }
        for i in 0..n {
            let own = &mut self.gram[i * n + i];
            *own = if *own > 0.0 { *own * (1.0 + ridge) } else { 1.0 };
        }
        // Channels of very different size would lose digits against each other.
        let scale: Vec<f64> = (0..n).map(|i| 1.0 / self.gram[i * n + i].sqrt()).collect();
        for i in 0..n {
            self.gram[i * n..=i * n + i].iter_mut().zip(&scale).for_each(|(v, s)| *v *= scale[i] * s);
            self.right[i * n..(i + 1) * n].iter_mut().for_each(|v| *v *= scale[i]);
        }
        cholesky(&mut self.gram, n);
        solve(&self.gram, n, &mut self.right, n);
        self.right.chunks_exact_mut(n).zip(&scale).for_each(|(row, s)| row.iter_mut().for_each(|v| *v *= s));
        if !self.right.iter().all(|v| v.is_finite()) {
            return Err(not_finite().into());
        }
        Ok(self.right)
    }
}

/// The fault of hidden states that no fit can be made to.
pub(crate) fn not_finite() -> Fault {
    Fault::new("the hidden states are not finite")
        .expected("finite weights and hidden states")
        .got("infinity or not-a-number in a forward pass")
        .hint("the checkpoint is damaged, or its training diverged")
}

/// Adds Dᵀ·`w` to `w[width, columns]`: the linear map `w` followed by D, added to it.
pub(crate) fn follow(map: &[f64], w: &[f64], width: usize) -> Vec<f64> {
    let columns = w.len() / width;
    let mut out = w.to_vec();
    out.par_chunks_mut(columns).enumerate().for_each(|(o, out)| {
        vectorised(
            #[inline(always)]
            || {
                let fours = width / 4 * 4;
                for at in (0..fours).step_by(4) {
                    let factors = std::array::from_fn(|k| map[(at + k) * width + o]);
                    add_four(out, factors, &w[at * columns..], columns);
                }
                for at in fours..width {
                    add(out, map[at * width + o], &w[at * columns..][..columns]);
                }
            },
        );
    });
    out
}

/// Adds four rows of `width` values, each times its factor.
#[inline(always)]
fn add_four(out: &mut [f64], factors: [f64; 4], rows: &[f64], width: usize) {
    let n = out.len();
    let (a, b) = (&rows[..n], &rows[width..][..n]);
    let (c, d) = (&rows[2 * width..][..n], &rows[3 * width..][..n]);
    for i in 0..n {
        out[i] += factors[0] * a[i] + factors[1] * b[i] + factors[2] * c[i] + factors[3] * d[i];
    }
}

/// Dot product in eight partial sums that the compiler can vectorise.
#[inline(always)]
pub(crate) fn dot<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
    let mut lanes = [0f64; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        (0..8).for_each(|i| lanes[i] += a[i].into() * b[i].into());
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| (*a).into() * (*b).into()).sum();
    lanes.iter().sum::<f64>() + rest
}

#[inline(always)]
pub(crate) fn add(y: &mut [f64], factor: f64, x: &[f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += factor * x);
}

/// Replaces the lower triangle of a positive definite matrix by its Cholesky factor.
pub(crate) fn cholesky(a: &mut [f64], n: usize) {
    vectorised(
        #[inline(always)]
        || {
            for i in 0..n {
                for j in 0..=i {
                    let sum = a[i * n + j] - dot(&a[i * n..i * n + j], &a[j * n..j * n + j]);
                    a[i * n + j] = if i == j { sum.max(f64::MIN_POSITIVE).sqrt() } else { sum / a[j * n + j] };
                }
            }
        },
    );
}

/// Solves L·Lᵀ·x = b for every column of `b[n, width]`, in place.
pub(crate) fn solve(l: &[f64], n: usize, b: &mut [f64], width: usize) {
    let panels: Vec<usize> = (0..width).step_by(PANEL).collect();
    let solved: Vec<Vec<f64>> = panels
        .par_iter()
        .map(|&from| {
            let to = (from + PANEL).min(width);
            let mut panel: Vec<f64> = b.chunks_exact(width).flat_map(|row| &row[from..to]).copied().collect();
            vectorised(|| solve_panel(l, n, &mut panel, to - from));
            panel
        })
        .collect();
    for (&from, panel) in panels.iter().zip(&solved) {
        let columns = panel.len() / n;
        for (row, solved) in b.chunks_exact_mut(width).zip(panel.chunks_exact(columns)) {
            row[from..from + columns].copy_from_slice(solved);
        }
    }
}

#[inline(always)]
fn solve_panel(l: &[f64], n: usize, b: &mut [f64], width: usize) {
    for i in 0..n {
        let (done, rest) = b.split_at_mut(i * width);
        let row = &mut rest[..width];
        done.chunks_exact(width).enumerate().for_each(|(j, earlier)| add(row, -l[i * n + j], earlier));
        row.iter_mut().for_each(|v| *v /= l[i * n + i]);
    }
    for i in (0..n).rev() {
        let (head, done) = b.split_at_mut((i + 1) * width);
        let row = &mut head[i * width..];
        done.chunks_exact(width).enumerate().for_each(|(j, later)| add(row, -l[(i + 1 + j) * n + i], later));
        row.iter_mut().for_each(|v| *v /= l[i * n + i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize, f: f64) -> Vec<f64> {
        (0..n).map(|i| (i as f64 * f).sin() + 0.3 * (i as f64 * f * 1.7).cos()).collect()
    }

    #[test]
    fn the_factor_solves_its_system() {
        // More columns than a panel holds.
        let (n, width) = (7, PANEL + 3);
        let x = wave(n * n, 0.37);
        let row = |i: usize| &x[i * n..(i + 1) * n];
        let mut gram: Vec<f64> = (0..n * n).map(|at| dot(row(at / n), row(at % n))).collect();
        (0..n).for_each(|i| gram[i * n + i] += 0.1);
        let (whole, right) = (gram.clone(), wave(n * width, 1.3));
        cholesky(&mut gram, n);
        let mut solved = right.clone();
        solve(&gram, n, &mut solved, width);
        for i in 0..n {
            for c in 0..width {
                let back: f64 = (0..n).map(|j| whole[i * n + j] * solved[j * width + c]).sum();
                assert!((back - right[i * width + c]).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn the_map_of_exact_rows_is_found_and_weights_count() {
        let (rows, width) = (ROWS + 21, 5);
        // Two frequencies alone would give rows of rank four.
        let x: Vec<f64> = wave(rows * width, 0.71).iter().zip(wave(rows * width, 2.3)).map(|(a, b)| a + b).collect();
        let map = wave(width * width, 1.9);
        let mut y: Vec<f64> = x
            .chunks_exact(width)
            .flat_map(|x| (0..width).map(|o| (0..width).map(|i| x[i] * map[i * width + o]).sum()).collect::<Vec<f64>>())
            .collect();
        // A row of nonsense that has no weight, in a second batch.
        y[40 * width..41 * width].fill(1e6);
        let mut weights = vec![1.0; rows];
        weights[40] = 0.0;
        let mut equations = NormalEquations::new(width);
        let split = 37;
        equations.add(&x[..split * width], &y[..split * width], &weights[..split]);
        equations.add(&x[split * width..], &y[split * width..], &weights[split..]);
        let found = equations.solve(0.0).unwrap();
        found.iter().zip(&map).for_each(|(found, map)| assert!((found - map).abs() < 1e-9, "{found} {map}"));
    }

    #[test]
    fn a_channel_without_values_gets_no_weight_and_nan_is_a_fault() {
        let mut equations = NormalEquations::new(2);
        equations.add(&[1.0, 0.0, 2.0, 0.0], &[3.0, 1.0, 6.0, 2.0], &[1.0; 2]);
        let found = equations.solve(0.0).unwrap();
        found.iter().zip([3.0, 1.0, 0.0, 0.0]).for_each(|(a, b)| assert!((a - b).abs() < 1e-12, "{found:?}"));
        for bad in [f64::NAN, f64::INFINITY] {
            let mut equations = NormalEquations::new(1);
            equations.add(&[1.0], &[bad], &[1.0]);
            assert!(equations.solve(0.0).unwrap_err().fault().is_some());
        }
    }

    #[test]
    fn a_map_follows_another() {
        let (width, columns) = (6, 3);
        let (map, w) = (wave(width * width, 0.5), wave(width * columns, 0.9));
        let got = follow(&map, &w, width);
        for o in 0..width {
            for c in 0..columns {
                let more: f64 = (0..width).map(|i| map[i * width + o] * w[i * columns + c]).sum();
                assert!((got[o * columns + c] - w[o * columns + c] - more).abs() < 1e-12);
            }
        }
    }
}
