//! Means of values that come one by one, as records hold them: with an interval, without a list of the values.

use lopper_record::study::Mean;

use crate::Z_975;
use crate::summary::wilson95;

/// Mean and variance of values that come one by one (Welford 1962).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    n: usize,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Adds a value; one that is not finite is left out.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.n += 1;
        let before = value - self.mean;
        self.mean += before / self.n as f64;
        self.squares += before * (value - self.mean);
    }

    /// The mean so far with its normal 95 % interval, which needs two values; none of no values.
    pub fn mean(&self) -> Option<Mean> {
        let n = self.n as f64;
        let half = (self.n > 1).then(|| Z_975 * (self.squares / (n - 1.0) / n).sqrt());
        let ci95 = half.map(|half| [self.mean - half, self.mean + half]);
        (self.n > 0).then_some(Mean { value: self.mean, ci95, n: self.n })
    }
}

impl Extend<f64> for Moments {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.add(value));
    }
}

impl FromIterator<f64> for Moments {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut moments = Self::default();
        moments.extend(values);
        moments
    }
}

/// The proportion of `values` that are true, with Wilson's 95 % interval; none of no values.
pub fn proportion(values: impl IntoIterator<Item = bool>) -> Option<Mean> {
    let (mut right, mut n) = (0, 0);
    for value in values {
        right += usize::from(value);
        n += 1;
    }
    (n > 0).then(|| Mean { value: right as f64 / n as f64, ci95: Some(wilson95(right, n)), n })
}
