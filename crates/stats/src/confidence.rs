//! What one task's items say of its retention (s − c) / (b − c): s and b are the cut and the uncut model's expected
//! scores, c the score of guessing.
//!
//! For a floor r, retention is at least r exactly where the expected value of `cut − r·uncut − (1 − r)·chance` is at
//! least 0. That is a bound on the mean of a bounded variable, and the bound is Gaffke's (2005; Learned-Miller and
//! Thomas 2019): items get random weights that sum to 1, uniform over the simplex, as in the Bayesian bootstrap, and
//! one further item joins them that is as bad as an item can be: the uncut model right, the cut wrong, the chance the
//! largest. Where no item was gained and chance is 0 this is the exact bound of Clopper and Pearson. For upper bounds
//! the further item is as good as can be. Of graded items it is one with the score that the uncut model has on an item
//! picked in proportion to its score.
//!
//! The weights are gamma variables over their sum, so each probability is that of a weighted sum of gammas, and no
//! resampling is needed: a bound is a function of the items alone.

use crate::gamma_sum::at_most_zero;
use crate::retention::Pair;

/// Bounds on retention are kept within these.
const RANGE: [f64; 2] = [-4.0, 16.0];
/// Of a bound.
const TOLERANCE: f64 = 1e-10;

/// The further item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Further {
    /// As bad as can be, for lower bounds.
    Lost,
    /// As good as can be, for upper bounds.
    Gained,
    /// None: another task of the group has it.
    Elsewhere,
}

/// Items with the same scores.
#[derive(Debug, Clone, Copy)]
struct Cell {
    base: f64,
    cut: f64,
    chance: f64,
    count: f64,
}

/// One task's items, ready for bounds.
#[derive(Debug, Clone)]
pub(crate) struct Confidence {
    cells: Vec<Cell>,
    /// The uncut score of an item picked in proportion to it: 1 where items are right or wrong.
    whole: f64,
    /// The extremes of chance.
    chance: [f64; 2],
}

impl Confidence {
    /// Counts the items of a task, which has at least one.
    pub fn new(task: &Pair<'_>) -> Self {
        let mut items: Vec<[f64; 3]> = (0..task.base.len())
            .map(|i| [task.base[i], task.cut[i], task.chance.get(i).copied().unwrap_or(0.0)])
            .collect();
        items.sort_unstable_by(|a, b| {
            let by = |i: usize| a[i].total_cmp(&b[i]);
            by(0).then(by(1)).then(by(2))
        });
        let mut cells: Vec<Cell> = Vec::new();
        for [base, cut, chance] in items {
            match cells.last_mut() {
                Some(cell) if [cell.base, cell.cut, cell.chance] == [base, cut, chance] => cell.count += 1.0,
                _ => cells.push(Cell { base, cut, chance, count: 1.0 }),
            }
        }
        Self::of_cells(cells)
    }

    fn of_cells(cells: Vec<Cell>) -> Self {
        let sum = |of: fn(&Cell) -> f64| cells.iter().map(|cell| of(cell) * cell.count).sum::<f64>();
        let (base, squares) = (sum(|cell| cell.base), sum(|cell| cell.base * cell.base));
        let whole = if base > 0.0 { squares / base } else { 0.0 };
        let low = cells.iter().fold(f64::INFINITY, |low: f64, cell| low.min(cell.chance));
        let high = cells.iter().fold(0.0, |high: f64, cell| high.max(cell.chance));
        Self { cells, whole, chance: [low, high] }
    }

    /// The same with every count multiplied: what more items of this kind would say.
    pub fn scaled(&self, factor: f64) -> Self {
        let scaled = |cell: &Cell| Cell { count: cell.count * factor, ..*cell };
        Self { cells: self.cells.iter().map(scaled).collect(), ..*self }
    }

    /// The number of items.
    pub fn items(&self) -> usize {
        self.sum(|_| 1.0).round() as usize
    }

    /// What counts as one item.
    pub fn whole(&self) -> f64 {
        self.whole
    }

    fn sum(&self, of: impl Fn(&Cell) -> f64) -> f64 {
        self.cells.iter().map(|cell| of(cell) * cell.count).sum()
    }

    /// How many items' worth the uncut model scores above chance.
    pub fn base_above_chance(&self) -> f64 {
        self.sum(|cell| cell.base - cell.chance)
    }

    /// The retention seen.
    pub fn value(&self) -> f64 {
        self.sum(|cell| cell.cut - cell.chance) / self.base_above_chance()
    }

    /// The probability, by Gaffke's bound, that a model no better than guessing would score as the uncut one did.
    pub fn base_is_chance(&self) -> f64 {
        let mut terms: Vec<(f64, f64)> = self.cells.iter().map(|c| (c.base - c.chance, c.count)).collect();
        terms.push((-self.chance[1], 1.0));
        at_most_zero(&terms)
    }

    /// The probability that weighted items, with the further one, keep at most `retention`.
    pub fn at_most(&self, retention: f64, further: Further) -> f64 {
        let weight = |base: f64, cut: f64, chance: f64| cut - retention * base - (1.0 - retention) * chance;
        let mut terms: Vec<(f64, f64)> =
            self.cells.iter().map(|c| (weight(c.base, c.cut, c.chance), c.count)).collect();
        let [low, high] = self.chance;
        let (less, more) = if retention <= 1.0 { (low, high) } else { (high, low) };
        let joined = match further {
            Further::Lost => Some(weight(self.whole, 0.0, more)),
            Further::Gained => Some(weight(0.0, self.whole, less)),
            Further::Elsewhere => None,
        };
        if let Some(joined) = joined {
            match terms.iter_mut().find(|(weight, _)| *weight == joined) {
                Some((_, count)) => *count += 1.0,
                None => terms.push((joined, 1.0)),
            }
        }
        at_most_zero(&terms)
    }

    /// The retention that weighted items keep at most with probability `p`, within [`RANGE`].
    pub fn quantile(&self, p: f64, further: Further) -> f64 {
        let quantile = self.quantile_within(p, further, TOLERANCE);
        // Where nothing is kept, or nothing lost, the distribution has a step.
        let step = [0.0, 1.0].into_iter().find(|step| (quantile - step).abs() < 2.0 * TOLERANCE);
        step.unwrap_or(quantile)
    }

    /// The same to a tolerance, from below.
    pub fn quantile_within(&self, p: f64, further: Further, tolerance: f64) -> f64 {
        let [lowest, highest] = RANGE;
        let excess = |retention: f64| self.at_most(retention, further) - p;
        // Steps of a standard error that double, from the retention seen to beyond the quantile.
        let value = self.value();
        let variance = self.sum(|cell| (cell.cut - value * cell.base - (1.0 - value) * cell.chance).powi(2));
        let mut step = (variance.sqrt().max(self.whole) / self.base_above_chance()).clamp(1e-6, 1.0);
        let (mut low, mut high) = (value.clamp(lowest, highest), value.clamp(lowest, highest));
        let mut at = [excess(low); 2];
        while at[0] >= 0.0 {
            if low == lowest {
                return lowest;
            }
            (high, at[1]) = (low, at[0]);
            low = (low - step).max(lowest);
            at[0] = excess(low);
            step *= 2.0;
        }
        while at[1] < 0.0 {
            if high == highest {
                return highest;
            }
            (low, at[0]) = (high, at[1]);
            high = (high + step).min(highest);
            at[1] = excess(high);
            step *= 2.0;
        }
        // Regula falsi, halving the end that stays twice (Illinois); a bisection after a step that shrank the bracket
        // by less than half.
        let (mut bisect, mut stayed) = (false, 0i32);
        for _ in 0..100 {
            let width = high - low;
            if width < tolerance {
                break;
            }
            let middle = if bisect { low + width / 2.0 } else { low + width * at[0] / (at[0] - at[1]) };
            let there = excess(middle);
            if there < 0.0 {
                (low, at[0]) = (middle, there);
                stayed = stayed.max(0) + 1;
            } else {
                (high, at[1]) = (middle, there);
                stayed = stayed.min(0) - 1;
            }
            if stayed > 1 {
                at[1] /= 2.0;
            } else if stayed < -1 {
                at[0] /= 2.0;
            }
            bisect = !bisect && high - low > width / 2.0;
        }
        low
    }
}
