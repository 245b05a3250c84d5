//! The probability that a single task's bound reaches a floor that the truth only just has, summed over every outcome
//! instead of simulated.

use crate::simulate::{Items, Truth};

/// Items by what the two models answered: right in both, in the uncut model only, in the cut one only. Items that
/// neither answers have no influence on cut ÷ uncut, and are left out.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// Right in both.
    pub kept: usize,
    /// Right in the uncut model only.
    pub lost: usize,
    /// Right in the cut model only.
    pub gained: usize,
}

impl Counts {
    /// The items themselves.
    pub fn items(self) -> Items {
        let list = |both: f64, lost: f64, gained: f64| {
            [vec![both; self.kept], vec![lost; self.lost], vec![gained; self.gained]].concat()
        };
        Items { base: list(1.0, 1.0, 0.0), cut: list(1.0, 0.0, 1.0), chance: Vec::new() }
    }
}

/// How many lost items a rule still lets pass, by the number of items that either model answers and of those gained.
pub struct Boundary {
    /// Below this number of lost items the rule holds: `passing[answered][gained]`.
    passing: Vec<Vec<usize>>,
}

impl Boundary {
    /// Finds it for up to `n` items; `holds` is monotone in the items lost, and every gained item lets at most as many
    /// more pass as the search allows: it walks from the neighbouring boundary in either direction.
    pub fn new(n: usize, holds: impl Fn(Counts) -> bool) -> Self {
        let mut passing: Vec<Vec<usize>> = vec![vec![0]];
        for answered in 1..=n {
            let mut row: Vec<usize> = Vec::new();
            for gained in 0..=most_gained(answered) {
                let near = row.last().or(passing[answered - 1].first()).copied().unwrap_or(0);
                let most = answered.saturating_sub(gained);
                let passes = |lost: usize| lost <= most && holds(Counts { kept: most - lost, lost, gained });
                let mut lost = near.min(most + 1);
                while lost > 0 && !passes(lost - 1) {
                    lost -= 1;
                }
                while passes(lost) {
                    lost += 1;
                }
                row.push(lost);
            }
            passing.push(row);
        }
        Self { passing }
    }

    /// The probability that the rule holds for `n` items of these rates.
    pub fn probability(&self, n: usize, truth: &Truth) -> f64 {
        let lost = truth.base * (1.0 - truth.kept());
        let gained = (1.0 - truth.base) * truth.gain;
        let answered = truth.base + gained;
        let mut sum = 0.0;
        for (m, of_answered) in binomial(n, answered).enumerate() {
            if m == 0 || of_answered < NEGLIGIBLE {
                continue;
            }
            for (g, of_gained) in binomial(m, gained / answered).enumerate().take(most_gained(m) + 1) {
                if of_answered * of_gained < NEGLIGIBLE {
                    continue;
                }
                let few: f64 = binomial(m - g, lost / truth.base).take(self.passing[m][g]).sum();
                sum += of_answered * of_gained * few;
            }
        }
        sum
    }
}

/// Outcomes rarer than this are left out of the sum.
const NEGLIGIBLE: f64 = 1e-10;

/// Gained items beyond this are rarer still at the rates looked at, where at most a third of those answered are gained.
fn most_gained(answered: usize) -> usize {
    answered / 3 + 12.min(answered / 2)
}

/// The probabilities of 0..=n successes, by logarithms.
fn binomial(n: usize, p: f64) -> impl Iterator<Item = f64> {
    let sure = (p <= 0.0).then_some(0).or((p >= 1.0).then_some(n));
    let mut log = if sure.is_none() { n as f64 * (1.0 - p).ln() } else { 0.0 };
    (0..=n).map(move |k| {
        if let Some(sure) = sure {
            return f64::from(u8::from(k == sure));
        }
        let this = log.exp();
        log += ((n - k) as f64 / (k + 1) as f64).ln() + (p / (1.0 - p)).ln();
        this
    })
}
