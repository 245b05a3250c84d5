//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// Linear warm-up, a constant middle, and an optional fall to a fraction of the peak.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Learning rate after the warm-up.
    pub peak: f64,
    /// Steps of linear warm-up from zero.
    pub warmup: usize,
    /// Steps in all.
    pub steps: usize,
    /// Fraction of the steps, at the end, over which the rate falls (0: constant, as in the paper); at most from the
    /// end of the warm-up.
    pub decay: f64,
    /// How it falls.
    #[serde(default)]
    pub shape: DecayShape,
    /// Final rate, as a fraction of the peak.
    pub floor: f64,
}

/// How a learning rate falls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecayShape {
    /// In a straight line.
    #[default]
    Linear,
    /// In half a cosine wave.
    Cosine,
}

impl DecayShape {
    /// Whether it is the straight line.
    pub fn is_linear(&self) -> bool {
        *self == Self::Linear
    }
}

impl Schedule {
    /// Warm-up, then constant: the recipe of the paper.
    pub fn constant(peak: f64, warmup: usize, steps: usize) -> Self {
        Self { peak, warmup, steps, decay: 0.0, shape: DecayShape::Linear, floor: 0.0 }
    }

    /// Learning rate of step `step` (0-based).
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let after_warmup = self.steps.saturating_sub(self.warmup) as f64;
        let decay_steps = (self.decay * self.steps as f64).min(after_warmup);
        let left = self.steps.saturating_sub(step) as f64;
        if left >= decay_steps {
            return self.peak;
        }
        let part = match self.shape {
            DecayShape::Linear => left / decay_steps,
            DecayShape::Cosine => (1.0 - (std::f64::consts::PI * left / decay_steps).cos()) / 2.0,
        };
        self.peak * (self.floor + (1.0 - self.floor) * part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_holds_and_decays() {
        let s = Schedule { decay: 0.5, floor: 0.1, ..Schedule::constant(1.0, 4, 100) };
        assert_eq!(s.rate(0), 0.25);
        assert_eq!(s.rate(3), 1.0);
        assert_eq!(s.rate(50), 1.0);
        assert!((s.rate(75) - 0.55).abs() < 1e-12);
        assert!((s.rate(100) - 0.1).abs() < 1e-12);
        assert_eq!(Schedule::constant(2.0, 2, 10).rate(9), 2.0);
    }

    /// `get_linear_schedule_with_warmup(optimizer, 10, 50)` and `get_cosine_schedule_with_warmup` of transformers at
    /// steps 10, 20, 35 and 49, by their formulas: (50 − step) / 40 and (1 + cos(π (step − 10) / 40)) / 2.
    #[test]
    fn rates_after_the_warmup_are_those_of_transformers() {
        let of = |shape| Schedule { decay: 1.0, shape, ..Schedule::constant(1.0, 10, 50) };
        let rates = |shape| [10, 20, 35, 49].map(|step| of(shape).rate(step));
        let near = |rates: [f64; 4], wanted: [f64; 4]| {
            assert!(rates.iter().zip(wanted).all(|(rate, wanted)| (rate - wanted).abs() < 1e-6), "{rates:?}");
        };
        near(rates(DecayShape::Linear), [1.0, 0.75, 0.375, 0.025]);
        near(rates(DecayShape::Cosine), [1.0, 0.853_553, 0.308_658, 0.001_541]);
    }
}
