//! Rotary position embedding in the half-split layout that Hugging Face checkpoints use: value `i`
//! of a head is rotated with value `i + head_dim/2`. Su et al., arXiv 2104.09864.

use super::vectorised;

/// Cosines and sines for positions `0..len`, `[len, head_dim/2]` each.
#[derive(Debug, Clone)]
pub struct RopeTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// Tables for heads of `head_dim` values and `len` positions.
    pub fn new(theta: f64, head_dim: usize, len: usize) -> Self {
        let half = head_dim / 2;
        // Frequencies and angles in f32, as transformers computes them, so that long positions agree.
        let frequencies: Vec<f32> =
            (0..half).map(|i| (1.0 / theta.powf(2.0 * i as f64 / head_dim as f64)) as f32).collect();
        let angles = (0..len).flat_map(|p| frequencies.iter().map(move |f| p as f32 * f));
        let (cos, sin) = angles.map(|a| (f64::from(a).cos() as f32, f64::from(a).sin() as f32)).unzip();
        Self { half, cos, sin }
    }

    /// Positions the table covers.
    pub fn len(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }

    /// Whether the table covers no position.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cosines and sines of the given positions, `[positions.len(), head_dim/2]` each.
    pub fn rows(&self, positions: &[u32]) -> (Vec<f32>, Vec<f32>) {
        let gather = |table: &[f32]| {
            positions.iter().flat_map(|p| &table[*p as usize * self.half..][..self.half]).copied().collect()
        };
        (gather(&self.cos), gather(&self.sin))
    }

    /// Rotates every head of every row of `x` (`[positions.len(), heads·head_dim]`) in place;
    /// `inverse` rotates back, which is also the gradient.
    pub fn apply(&self, x: &mut [f32], positions: &[u32], inverse: bool) {
        if positions.is_empty() {
            return;
        }
        let half = self.half;
        let row = x.len() / positions.len();
        assert!(row * positions.len() == x.len() && row.is_multiple_of(2 * half), "rope: shapes disagree");
        let sign = if inverse { -1.0 } else { 1.0 };
        vectorised(
            #[inline(always)]
            || {
                for (row, &position) in x.chunks_exact_mut(row).zip(positions) {
                    let at = position as usize * half;
                    let (cos, sin) = (&self.cos[at..at + half], &self.sin[at..at + half]);
                    for head in row.chunks_exact_mut(2 * half) {
                        let (low, high) = head.split_at_mut(half);
                        for i in 0..half {
                            let (a, b, s) = (low[i], high[i], sin[i] * sign);
                            low[i] = a * cos[i] - b * s;
                            high[i] = b * cos[i] + a * s;
                        }
                    }
                }
            },
        );
    }
}
