//! Retention: how much of the uncut model's score a cut model keeps on the same items, for one task and averaged over
//! the tasks of a group, with bounds.
//!
//! A task's bounds are those of `confidence`. A group's retention is the mean of its tasks' retentions, each counted as
//! at most 1, so that a task on which the cut happens to be better pays for no other; its bounds are those of `group`.
//! Every bound is a function of the items alone, and never rises when an item is lost.
//!
//! A task on which the uncut model does no better than guessing has no retention, and is left out of its group.

use lopper_record::{Error, Retention};

use crate::confidence::{Confidence, Further};
use crate::group::Group;

/// The uncut model must score at least so many items above chance: with fewer, 0 is within reach of sampling.
const FEWEST: f64 = 3.0;
/// What the one-sided bounds leave out.
pub(crate) const ONE_SIDED: f64 = 0.05;
/// What each end of the two-sided interval leaves out.
const TWO_SIDED: f64 = 0.025;

/// The scores of one task's items by both models, in the same order.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pair<'a> {
    /// The uncut model's scores.
    pub base: &'a [f64],
    /// The cut model's scores.
    pub cut: &'a [f64],
    /// The expected score of guessing, by item, for retention above chance; empty where that is 0 or does not matter.
    pub chance: &'a [f64],
}

impl<'a> Pair<'a> {
    /// Scores compared as they are, with no chance level.
    pub fn new(base: &'a [f64], cut: &'a [f64]) -> Self {
        Self { base, cut, chance: &[] }
    }
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
    /// The list of chance levels has another length.
    #[error("{items} items have {chances} chance levels")]
    Chances {
        /// Items of both models.
        items: usize,
        /// Chance levels.
        chances: usize,
    },
    /// A score is negative or not finite.
    #[error("an item's score is negative or not a number")]
    NotAScore,
}

impl From<ScoresError> for Error {
    fn from(error: ScoresError) -> Self {
        Self::Other(error.into())
    }
}

/// A task's retention, s / b or above chance (s − c) / (b − c), with its bounds; `None` where the uncut model does too
/// little better than guessing for a ratio to mean anything.
///
/// # Errors
/// When the lists differ in length or hold a number that is negative or not finite.
pub fn retention(task: &Pair<'_>) -> Result<Option<Retention>, ScoresError> {
    Ok(judged(task)?.map(|task| {
        let lower = |alpha: f64| task.quantile(alpha, Further::Lost);
        let upper = |alpha: f64| task.quantile(1.0 - alpha, Further::Gained);
        Retention {
            value: task.value(),
            ci95: [lower(TWO_SIDED), upper(TWO_SIDED)],
            lower95: lower(ONE_SIDED),
            upper95: upper(ONE_SIDED),
            n: task.items(),
        }
    }))
}

/// The mean of the tasks' retentions, each at most 1, with its bounds. Tasks that [`retention`] gives none for are left
/// out; `None` when no other is left.
///
/// # Errors
/// As [`retention`].
pub fn group_retention(tasks: &[Pair<'_>]) -> Result<Option<Retention>, ScoresError> {
    Ok(judged_group(tasks)?.map(|group| {
        let value = group.value();
        let (below, above) = (group.evidence(Further::Lost), group.evidence(Further::Gained));
        // Ratios above 1 count as 1 also where they are drawn, which can leave the value seen outside.
        let lower = |alpha: f64| below.quantile(alpha).min(value);
        let upper = |alpha: f64| above.quantile(1.0 - alpha).max(value);
        Retention {
            value,
            ci95: [lower(TWO_SIDED), upper(TWO_SIDED)],
            lower95: lower(ONE_SIDED),
            upper95: upper(ONE_SIDED),
            n: group.items(),
        }
    }))
}

/// The retention of the task that keeps least and its index, with bounds on the least of the tasks' true retentions.
/// Tasks that [`retention`] gives none for are left out; `None` when no other is left.
///
/// The lower bound is the least of the tasks' lower bounds: were it above the truth, so would be the bound of the very
/// task that keeps least, so 5 % for one task is 5 % for all (an intersection-union test, Berger 1982). The upper bound
/// is the least of the upper bounds at 5 % over the number of tasks, since any of them may be the one that is wrong.
///
/// # Errors
/// As [`retention`].
pub fn worst_retention(tasks: &[Pair<'_>]) -> Result<Option<(usize, Retention)>, ScoresError> {
    let mut of_tasks = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        of_tasks.extend(judged(task)?.map(|task| (index, task)));
    }
    let count = of_tasks.len() as f64;
    let least =
        |of: &dyn Fn(&Confidence) -> f64| of_tasks.iter().map(|(_, task)| of(task)).fold(f64::INFINITY, f64::min);
    let lower = |alpha: f64| least(&|task| task.quantile(alpha, Further::Lost));
    let upper = |alpha: f64| least(&|task| task.quantile(1.0 - alpha / count, Further::Gained));
    let worst = of_tasks.iter().min_by(|(_, a), (_, b)| a.value().total_cmp(&b.value()));
    Ok(worst.map(|(index, task)| {
        let retention = Retention {
            value: task.value(),
            ci95: [lower(TWO_SIDED), upper(TWO_SIDED)],
            lower95: lower(ONE_SIDED),
            upper95: upper(ONE_SIDED),
            n: of_tasks.iter().map(|(_, task)| task.items()).sum(),
        };
        (*index, retention)
    }))
}

/// The tasks that can be judged, as a group; none where there is no such task.
pub(crate) fn judged_group(tasks: &[Pair<'_>]) -> Result<Option<Group>, ScoresError> {
    let tasks = tasks.iter().map(judged).collect::<Result<Vec<_>, _>>()?;
    Ok(Group::new(tasks.into_iter().flatten().collect()))
}

/// The task's confidence distributions; none where the uncut model is too weak.
pub(crate) fn judged(task: &Pair<'_>) -> Result<Option<Confidence>, ScoresError> {
    let (base, cut, chances) = (task.base.len(), task.cut.len(), task.chance.len());
    if base != cut {
        return Err(ScoresError::Lengths { base, cut });
    }
    if chances != 0 && chances != base {
        return Err(ScoresError::Chances { items: base, chances });
    }
    if !task.base.iter().chain(task.cut).chain(task.chance).all(|score| score.is_finite() && *score >= 0.0) {
        return Err(ScoresError::NotAScore);
    }
    let confidence = Confidence::new(task);
    Ok(Some(confidence)
        .filter(|task| task.base_above_chance() >= FEWEST * task.whole() && task.base_is_chance() < ONE_SIDED))
}
