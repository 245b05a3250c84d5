//! The mean of several tasks' retentions, each at most 1: the distribution of it that their items leave.
//!
//! The tasks' confidence distributions are independent, so the sum's is their convolution, computed on a grid. One
//! further item joins the whole group, not each task: for a sum of rates that is enough, as in Fay and Feuer's (1997)
//! interval for weighted sums of Poisson rates, where the further event gets the largest weight. Which task it hurts
//! most depends on the level, so it is tried in each and the worst is taken.

use crate::confidence::{Confidence, Further};

/// Intervals that a task's distribution is divided into.
const INTERVALS: usize = 64;
/// Equal parts that an interval's probability is divided into.
const PARTS: u32 = 2;
/// Cells of the grid that a sum is computed on.
const CELLS: usize = 512;
/// Probability left out at either end of a task's distribution.
const TAIL: f64 = 1e-5;

/// The judged tasks of a group, at least one.
pub(crate) struct Group {
    tasks: Vec<Confidence>,
}

/// A distribution as values with their probabilities.
type Atoms = Vec<[f64; 2]>;

impl Group {
    pub fn new(tasks: Vec<Confidence>) -> Option<Self> {
        (!tasks.is_empty()).then_some(Self { tasks })
    }

    /// The retention seen.
    pub fn value(&self) -> f64 {
        self.tasks.iter().map(|task| task.value().min(1.0)).sum::<f64>() / self.tasks.len() as f64
    }

    pub fn items(&self) -> usize {
        self.tasks.iter().map(Confidence::items).sum()
    }

    /// The same with every task's items multiplied.
    pub fn scaled(&self, factor: f64) -> Self {
        Self { tasks: self.tasks.iter().map(|task| task.scaled(factor)).collect() }
    }

    /// The distribution of the mean that gives bounds of one side.
    pub fn evidence(&self, further: Further) -> Evidence<'_> {
        if let [task] = self.tasks.as_slice() {
            return Evidence::One(task, further);
        }
        let plain: Vec<Atoms> = self.tasks.iter().map(|task| atoms(task, Further::Elsewhere)).collect();
        let with: Vec<Atoms> = self.tasks.iter().map(|task| atoms(task, further)).collect();
        let range: f64 = plain.iter().zip(&with).map(|(plain, with)| range(plain).max(range(with))).sum();
        // One cell less for each task, whose last value may be shared between two cells.
        let width = (range / (CELLS.saturating_sub(2 * self.tasks.len()).max(2) as f64)).max(1e-12);
        let grids = |of: &[Atoms]| of.iter().map(|atoms| Distribution::on_grid(atoms, width)).collect::<Vec<_>>();
        let (plain, with) = (grids(&plain), grids(&with));
        let of_mean = |index: usize| {
            let parts = (0..plain.len()).map(|i| if i == index { &with[i] } else { &plain[i] });
            Distribution::of_mean(parts)
        };
        Evidence::Several((0..plain.len()).map(of_mean).collect(), further)
    }
}

/// What a group's items say of its retention.
pub(crate) enum Evidence<'a> {
    /// A single task, exactly.
    One(&'a Confidence, Further),
    /// The distributions of the mean with the further item in each of the tasks.
    Several(Vec<Distribution>, Further),
}

impl Evidence<'_> {
    /// The `p` quantile: of several distributions the worst, which is the lowest for lower bounds.
    pub fn quantile(&self, p: f64) -> f64 {
        let quantile = match self {
            Self::One(task, further) => task.quantile(p, *further),
            Self::Several(of, Further::Gained) => of.iter().map(|of| of.quantile(p)).fold(f64::NEG_INFINITY, f64::max),
            Self::Several(of, _) => of.iter().map(|of| of.quantile(p)).fold(f64::INFINITY, f64::min),
        };
        quantile.min(1.0)
    }

    /// The probability that the mean is at most `retention`, which is below 1: the highest for lower bounds.
    pub fn at_most(&self, retention: f64) -> f64 {
        match self {
            Self::One(task, further) => task.at_most(retention, *further),
            Self::Several(of, Further::Gained) => of.iter().map(|of| of.at_most(retention)).fold(1.0, f64::min),
            Self::Several(of, _) => of.iter().map(|of| of.at_most(retention)).fold(0.0, f64::max),
        }
    }
}

fn range(atoms: &Atoms) -> f64 {
    atoms[atoms.len() - 1][0] - atoms[0][0]
}

/// A task's distribution, values above 1 counted as 1.
fn atoms(task: &Confidence, further: Further) -> Atoms {
    let edge = |p: f64| task.quantile_within(p, further, 1e-3);
    let (low, high) = (edge(TAIL), (edge(1.0 - TAIL) + 1e-3).min(1.0));
    if high - low < 1e-9 {
        return vec![[high.min(1.0), 1.0]];
    }
    let step = (high - low) / INTERVALS as f64;
    let mut atoms = Vec::with_capacity(INTERVALS * PARTS as usize + 1);
    let mut below = 0.0;
    for i in 0..INTERVALS {
        let upto = task.at_most(low + step * (i + 1) as f64, further).max(below);
        for part in 0..PARTS {
            let middle = i as f64 + (f64::from(part) + 0.5) / f64::from(PARTS);
            atoms.push([low + step * middle, (upto - below) / f64::from(PARTS)]);
        }
        below = upto;
    }
    atoms.push([high, 1.0 - below]);
    atoms
}

/// A distribution on an even grid.
pub(crate) struct Distribution {
    start: f64,
    width: f64,
    cells: Vec<f64>,
}

impl Distribution {
    /// Values' probabilities, each shared by the two cells around it so that the mean stays.
    fn on_grid(atoms: &Atoms, width: f64) -> Self {
        let start = atoms[0][0];
        let mut cells = vec![0.0; (range(atoms) / width).floor() as usize + 2];
        for [value, probability] in atoms {
            let place = (value - start) / width;
            let cell = (place.floor() as usize).min(cells.len() - 2);
            let rest = place - cell as f64;
            cells[cell] += probability * (1.0 - rest);
            cells[cell + 1] += probability * rest;
        }
        Self { start, width, cells }
    }

    fn of_mean<'a>(parts: impl ExactSizeIterator<Item = &'a Self>) -> Self {
        let count = parts.len() as f64;
        let (mut start, mut width, mut cells) = (0.0, 0.0, vec![1.0]);
        for part in parts {
            let mut sum = vec![0.0; cells.len() + part.cells.len() - 1];
            for (i, probability) in part.cells.iter().enumerate() {
                sum[i..i + cells.len()].iter_mut().zip(&cells).for_each(|(sum, from)| *sum += probability * from);
            }
            cells = sum;
            start += part.start / count;
            width = part.width / count;
        }
        Self { start, width, cells }
    }

    /// The probability of at most `value`, linear within a cell.
    fn at_most(&self, value: f64) -> f64 {
        let place = ((value - self.start) / self.width + 0.5).max(0.0);
        let whole = (place.floor() as usize).min(self.cells.len());
        let within = self.cells.get(whole).map_or(0.0, |probability| probability * place.fract());
        self.cells[..whole].iter().sum::<f64>() + within
    }

    /// The `p` quantile, linear within a cell.
    fn quantile(&self, p: f64) -> f64 {
        let mut below = 0.0;
        for (i, probability) in self.cells.iter().enumerate() {
            if below + probability >= p && *probability > 0.0 {
                let within = (p - below) / probability - 0.5;
                return self.start + self.width * (i as f64 + within);
            }
            below += probability;
        }
        self.start + self.width * (self.cells.len() - 1) as f64
    }
}
