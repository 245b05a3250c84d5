//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// Linear warm-up, a constant middle, and an optional linear decay to a fraction of the peak.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Learning rate after the warm-up.
    pub peak: f64,
    /// Steps of linear warm-up from zero.
    pub warmup: usize,
    /// Steps in all.
    pub steps: usize,
    /// Fraction of the steps, at the end, over which the rate falls (0: constant, as in the paper).
    pub decay: f64,
    /// Final rate, as a fraction of the peak.
    pub floor: f64,
}

impl Schedule {
    /// Warm-up, then constant: the recipe of the paper.
    pub fn constant(peak: f64, warmup: usize, steps: usize) -> Self {
        Self { peak, warmup, steps, decay: 0.0, floor: 0.0 }
    }

    /// Learning rate of step `step` (0-based).
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let decay_steps = self.decay * self.steps as f64;
        let left = self.steps.saturating_sub(step) as f64;
        if left >= decay_steps {
            return self.peak;
        }
        self.peak * (self.floor + (1.0 - self.floor) * left / decay_steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_holds_and_decays() {
        let s = Schedule { peak: 1.0, warmup: 4, steps: 100, decay: 0.5, floor: 0.1 };
        assert_eq!(s.rate(0), 0.25);
        assert_eq!(s.rate(3), 1.0);
        assert_eq!(s.rate(50), 1.0);
        assert!((s.rate(75) - 0.55).abs() < 1e-12);
        assert!((s.rate(100) - 0.1).abs() < 1e-12);
        assert_eq!(Schedule::constant(2.0, 2, 10).rate(9), 2.0);
    }
}
