//! Means over tokens, such as the mean negative log-likelihood behind a perplexity, with intervals.
//!
//! The tokens of a text depend on each other, so sequences, not tokens, are what was drawn: the mean is a ratio of two
//! sums over sequences, and its standard error is that of the ratio, linearised (Cochran 1977, section 6.3). Texts are
//! often few, so the interval is Student's.

use lopper_record::study::Mean;

use crate::Z_975;

/// Sums of a quantity over the tokens of sequences that come one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TokenMean {
    sequences: usize,
    sum: f64,
    tokens: f64,
    squares: f64,
    products: f64,
    tokens_squared: f64,
}

impl TokenMean {
    /// Adds a sequence: the sum over its tokens, and their number. One without tokens, or whose sum is not finite, is
    /// left out.
    pub fn add(&mut self, sum: f64, tokens: usize) {
        if tokens == 0 || !sum.is_finite() {
            return;
        }
        let count = tokens as f64;
        self.sequences += 1;
        self.sum += sum;
        self.tokens += count;
        self.squares += sum * sum;
        self.products += sum * count;
        self.tokens_squared += count * count;
    }

    /// The mean over all tokens with its 95 % interval, which needs two sequences; none of no tokens. Its `n` is the
    /// number of sequences.
    pub fn mean(&self) -> Option<Mean> {
        if self.sequences == 0 {
            return None;
        }
        let (n, value) = (self.sequences as f64, self.sum / self.tokens);
        // Σ (sum − value · tokens)², the squares of what sequences are above the mean.
        let residuals = self.squares - 2.0 * value * self.products + value * value * self.tokens_squared;
        let ci95 = (self.sequences > 1).then(|| {
            let error = (residuals.max(0.0) * n / (n - 1.0)).sqrt() / self.tokens;
            let half = student_975(self.sequences - 1) * error;
            [value - half, value + half]
        });
        Some(Mean { value, ci95, n: self.sequences })
    }

    /// The exponential of the mean and of its interval: of negative log-likelihoods, the perplexity. None where it is
    /// too large for a number.
    pub fn exp(&self) -> Option<Mean> {
        let mean = self.mean()?;
        let ci95 = mean.ci95.map(|ends| ends.map(f64::exp)).filter(|ends| ends.iter().all(|end| end.is_finite()));
        Some(Mean { value: mean.value.exp(), ci95, n: mean.n }).filter(|mean| mean.value.is_finite())
    }
}

impl Extend<(f64, usize)> for TokenMean {
    fn extend<I: IntoIterator<Item = (f64, usize)>>(&mut self, sequences: I) {
        sequences.into_iter().for_each(|(sum, tokens)| self.add(sum, tokens));
    }
}

impl FromIterator<(f64, usize)> for TokenMean {
    fn from_iter<I: IntoIterator<Item = (f64, usize)>>(sequences: I) -> Self {
        let mut mean = Self::default();
        mean.extend(sequences);
        mean
    }
}

/// Degrees of freedom from which the quantile's expansion is exact to 1e-7.
const MANY: usize = 200;

/// The 0.975 quantile of Student's distribution.
pub(crate) fn student_975(degrees: usize) -> f64 {
    let (nu, z) = (degrees as f64, Z_975);
    if degrees > MANY {
        // Abramowitz and Stegun 26.7.5.
        let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
        return z + (z.powi(3) + z) / 4.0 / nu + second / (nu * nu);
    }
    let (mut low, mut high) = (0.0, std::f64::consts::FRAC_PI_2);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if within(middle, degrees) < 0.95 { low = middle } else { high = middle }
    }
    low.tan() * nu.sqrt()
}

/// P(|T| ≤ √ν tan θ), a finite sum for whole ν (Abramowitz and Stegun 26.7.3 and 26.7.4).
fn within(theta: f64, degrees: usize) -> f64 {
    let (sin, cos) = theta.sin_cos();
    let odd = degrees % 2 == 1;
    let mut term = if odd { cos } else { 1.0 };
    let mut sum = if degrees == 1 { 0.0 } else { term };
    let mut at = if odd { 3 } else { 2 };
    while at < degrees {
        term *= cos * cos * (at - 1) as f64 / at as f64;
        sum += term;
        at += 2;
    }
    if odd { (theta + sin * sum) * std::f64::consts::FRAC_2_PI } else { sin * sum }
}
