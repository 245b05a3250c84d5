//! Retention: a cut model's score divided by the uncut model's on the same items, for one task and averaged over the
//! tasks of a group, with a paired bootstrap.
//!
//! Items are resampled together with both models' scores; a group's tasks are resampled independently of each other and
//! each task has the same weight. Two cases need more than the plain percentile bootstrap:
//!
//! * It has no width when no item changed, as if that were certain. For right-or-wrong items of which none was lost (or
//!   none gained) that side gets at least the exact binomial bound on a rate seen 0 times in n, 1 − α^(1/n), which is
//!   the "rule of three". In a group such a task's extra width is added in quadrature.
//! * The ratio is undefined where a resample's uncut score is 0. When that happens in more than 5 % of the resamples,
//!   the uncut model is too weak for a ratio to mean anything, and none is given.

use lopper_record::{Error, Retention};

use crate::bootstrap::{quantile, resample};
use crate::summary::{is_binary, mean};

/// The ratio must be defined in at least this fraction of the resamples.
const DEFINED: f64 = 0.95;

/// The scores of one task's items by both models, in the same order.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The uncut model's scores.
    pub base: &'a [f64],
    /// The cut model's scores.
    pub cut: &'a [f64],
}

/// Why two lists of scores cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScoresError {
    /// The lists differ in length.
    #[error("paired items differ in number: {base} of the uncut model, {cut} of the cut one")]
    Lengths {
        /// Items of the uncut model.
        base: usize,
        /// Items of the cut model.
        cut: usize,
    },
    /// There are 2^32 items or more.
    #[error("too many items for a bootstrap")]
    TooMany,
    /// A score is negative or not finite.
    #[error("an item's score is negative or not a number")]
    NotAScore,
}

impl From<ScoresError> for Error {
    fn from(error: ScoresError) -> Self {
        Self::Other(error.into())
    }
}

/// A task's retention; `None` when the uncut model scores 0, or so little that the ratio is undefined too often.
///
/// # Errors
/// When the two lists differ in length or hold a number that is negative or not finite.
pub fn retention(base: &[f64], cut: &[f64], resamples: usize, seed: u64) -> Result<Option<Retention>, ScoresError> {
    group_retention(&[Pair { base, cut }], resamples, seed)
}

/// The mean of the tasks' retentions. Tasks on which the uncut model scores 0 are left out; `None` when no other is
/// left or a ratio is undefined too often.
///
/// # Errors
/// As [`retention`].
pub fn group_retention(tasks: &[Pair<'_>], resamples: usize, seed: u64) -> Result<Option<Retention>, ScoresError> {
    let mut parts = Vec::new();
    for (stream, task) in tasks.iter().enumerate() {
        check(task)?;
        if mean(task.base) > 0.0 {
            parts.push(TaskResamples::new(task, resamples, seed, stream as u64));
        }
    }
    let count = parts.len() as f64;
    let mut ratios: Vec<f64> = (0..if parts.is_empty() { 0 } else { resamples })
        .map(|r| parts.iter().map(|part| part.ratios[r]).sum::<f64>() / count)
        .filter(|ratio| ratio.is_finite())
        .collect();
    if ratios.is_empty() || (ratios.len() as f64) < DEFINED * resamples as f64 {
        return Ok(None);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let value = parts.iter().map(|part| part.value).sum::<f64>() / count;
    let lower = |alpha: f64| {
        let extra: f64 = parts.iter().map(|part| part.extra_below(alpha)).sum();
        let half = ((value - quantile(&ratios, alpha)).max(0.0).powi(2) + extra / (count * count)).sqrt();
        (value - half).max(0.0)
    };
    let upper = |alpha: f64| {
        let extra: f64 = parts.iter().map(|part| part.extra_above(alpha)).sum();
        let half = ((quantile(&ratios, 1.0 - alpha) - value).max(0.0).powi(2) + extra / (count * count)).sqrt();
        value + half
    };
    Ok(Some(Retention {
        value,
        ci95: [lower(0.025), upper(0.025)],
        lower95: lower(0.05),
        n: parts.iter().map(|part| part.n).sum(),
    }))
}

fn check(task: &Pair<'_>) -> Result<(), ScoresError> {
    let (base, cut) = (task.base.len(), task.cut.len());
    if base != cut {
        return Err(ScoresError::Lengths { base, cut });
    }
    if u32::try_from(base).is_err() {
        return Err(ScoresError::TooMany);
    }
    let all = task.base.iter().chain(task.cut).all(|score| score.is_finite() && *score >= 0.0);
    if all { Ok(()) } else { Err(ScoresError::NotAScore) }
}

/// One task of a group.
struct TaskResamples {
    n: usize,
    base_mean: f64,
    value: f64,
    /// The ratio in every resample, NaN where it is undefined.
    ratios: Vec<f64>,
    sorted: Vec<f64>,
    no_losses: bool,
    no_gains: bool,
}

impl TaskResamples {
    fn new(task: &Pair<'_>, resamples: usize, seed: u64, stream: u64) -> Self {
        let n = task.base.len();
        let mut ratios = Vec::with_capacity(resamples);
        resample(n, resamples, seed, stream, |indices| {
            let (mut base, mut cut) = (0.0, 0.0);
            for &i in indices {
                base += task.base[i as usize];
                cut += task.cut[i as usize];
            }
            ratios.push(if base > 0.0 { cut / base } else { f64::NAN });
        });
        let mut sorted: Vec<f64> = ratios.iter().copied().filter(|x| x.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let binary = is_binary(task.base) && is_binary(task.cut);
        let base_mean = mean(task.base);
        Self {
            n,
            base_mean,
            value: mean(task.cut) / base_mean,
            ratios,
            sorted,
            no_losses: binary && task.base.iter().zip(task.cut).all(|(base, cut)| cut >= base),
            no_gains: binary && task.base.iter().zip(task.cut).all(|(base, cut)| cut <= base),
        }
    }

    /// How much the squared half-width of the lower side falls short of the exact bound.
    fn extra_below(&self, alpha: f64) -> f64 {
        if !self.no_losses {
            return 0.0;
        }
        let seen = self.value - quantile(&self.sorted, alpha);
        (self.unseen(alpha).powi(2) - seen.powi(2)).max(0.0)
    }

    /// The same of the upper side, where a score above 1 per item is impossible.
    fn extra_above(&self, alpha: f64) -> f64 {
        if !self.no_gains {
            return 0.0;
        }
        let seen = quantile(&self.sorted, 1.0 - alpha) - self.value;
        let room = 1.0 / self.base_mean - self.value;
        (self.unseen(alpha).min(room).powi(2) - seen.powi(2)).max(0.0)
    }

    /// The largest rate of a change that is seen 0 times in n items with probability `alpha`, in units of retention.
    fn unseen(&self, alpha: f64) -> f64 {
        (1.0 - alpha.powf(1.0 / self.n as f64)) / self.base_mean
    }
}
