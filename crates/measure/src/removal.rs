//! Removals of layers against none on the same items: the group mean retention of each with its interval, and which
//! differ from none.
//!
//! The test is an exact sign-flip test: where a removal changes nothing, each item could as well have had its two
//! scores the other way round. An item counts in proportion to its part of the group mean retention; the scores that it
//! is divided by are the mean of both models', which does not change with the order of the two. With one task of
//! right-or-wrong items this is McNemar's exact test. There are as many tests as removals, so p-values are corrected by
//! Holm's method.

use lopper_record::{Result, Retention};
use lopper_stats::{self as stats, Pair, holm, sign_flip_exact, sum_interval};
use lopper_tasks::{Group, TaskOutcome};
use serde::Serialize;

use crate::compare::check_same_items;
use crate::group_mean_retention;

/// The family-wise error at which removals are marked.
pub const LEVEL: f64 = 0.05;

/// How removals are tested.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RemovalTest {
    /// The test of each removal.
    pub test: &'static str,
    /// How p-values are corrected for the number of removals.
    pub correction: &'static str,
    /// The chance of marking any removal that changes nothing, at most.
    pub level: f64,
    /// How many removals are tested together.
    pub removals: usize,
    /// How many of them differ from none.
    pub differ: usize,
    /// The corrected p-value of a removal that loses every item: above the level no removal could differ.
    pub least_p_corrected: f64,
}

/// One removal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RemovalEffect {
    /// The objective that layers are chosen by; none where the uncut model scores 0 on every task.
    pub group_mean_retention: Option<f64>,
    /// Its 95 % interval, of this removal alone; none where a task that counts has too few right items for one.
    pub group_mean_retention_ci95: Option<[f64; 2]>,
    /// The chance of so large a difference if the removal changed nothing.
    pub p_value: f64,
    /// The same, corrected for the number of removals.
    pub p_corrected: f64,
    /// Whether it differs from none at [`LEVEL`].
    pub differs: bool,
}

impl RemovalTest {
    /// Whether there are items enough for any removal to differ.
    pub fn possible(&self) -> bool {
        self.least_p_corrected <= self.level
    }

    /// What was tested, and what it found, in sentences.
    pub fn sentences(&self) -> String {
        let Self { test, correction, level, removals, differ, least_p_corrected } = self;
        let found = match (self.possible(), differ) {
            (false, _) => format!(
                "so few items cannot show a difference, since a removal that lost every item would have p = \
                 {least_p_corrected:.2} (raise --limit)"
            ),
            (true, 0) => "none differs".to_owned(),
            (true, 1) => "1 differs".to_owned(),
            (true, n) => format!("{n} differ"),
        };
        let unmarked = match differ < removals {
            true => "A removal that does not differ may still cost what its interval allows; each",
            false => "Each",
        };
        format!(
            "{removals} removals were compared with none ({test}, p corrected for their number by {correction}, level \
             {:.0} %): {found}. {unmarked} interval is of one removal by itself.",
            100.0 * level
        )
    }
}

/// Compares removals, each with the uncut model's outcomes on the same tasks in the same order.
///
/// # Errors
/// A [`Fault`](lopper_record::Fault) where the items are not the same.
pub fn compare_removals(
    base: &[TaskOutcome],
    removals: &[Vec<TaskOutcome>],
) -> Result<(RemovalTest, Vec<RemovalEffect>)> {
    let mut p_values = Vec::with_capacity(removals.len());
    for removal in removals {
        base.iter().zip(removal).try_for_each(|(base, cut)| check_same_items(base, cut))?;
        let pairs: Vec<_> = base.iter().zip(removal).collect();
        p_values.push(paired_p_value(&pairs));
    }
    let effects: Vec<RemovalEffect> = removals
        .iter()
        .zip(p_values.iter().zip(holm(&p_values)))
        .map(|(removal, (p_value, p_corrected))| {
            let pairs: Vec<_> = base.iter().zip(removal).collect();
            Ok(RemovalEffect {
                group_mean_retention: group_mean_retention(pairs.iter().copied()),
                group_mean_retention_ci95: group_mean_retention_ci95(&pairs)?,
                p_value: *p_value,
                p_corrected,
                differs: p_corrected <= LEVEL,
            })
        })
        .collect::<Result<_>>()?;
    let scored = base.iter().flat_map(|outcome| outcome.scores()).filter(|score| *score > 0.0);
    let least = sign_flip_exact(&scored.collect::<Vec<_>>());
    let test = RemovalTest {
        test: "exact paired sign-flip test",
        correction: "Holm's method",
        level: LEVEL,
        removals: removals.len(),
        differ: effects.iter().filter(|effect| effect.differs).count(),
        least_p_corrected: (least * removals.len() as f64).min(1.0),
    };
    Ok((test, effects))
}

/// The weight of each task in the group mean retention, by the tasks that count: of those of a group the same, and of
/// groups the same.
fn weights(pairs: &[(&TaskOutcome, &TaskOutcome)]) -> Vec<f64> {
    let counts = |(base, _): &&(&TaskOutcome, &TaskOutcome)| base.primary_score().value > 0.0;
    let in_group = |group: Group| pairs.iter().filter(counts).filter(|(base, _)| base.group == group).count();
    let groups = [Group::Classification, Group::Generative].into_iter().filter(|group| in_group(*group) > 0).count();
    let weight = |pair: &(&TaskOutcome, &TaskOutcome)| match counts(&pair) {
        true => 1.0 / (groups * in_group(pair.0.group)) as f64,
        false => 0.0,
    };
    pairs.iter().map(weight).collect()
}

/// The p-value of the sign-flip test of a cut against the uncut model, over tasks that weigh as in the group mean
/// retention.
pub(crate) fn paired_p_value(pairs: &[(&TaskOutcome, &TaskOutcome)]) -> f64 {
    let mut differences = Vec::new();
    for ((base, cut), weight) in pairs.iter().zip(weights(pairs)).filter(|(_, weight)| *weight > 0.0) {
        let (base, cut) = (base.scores(), cut.scores());
        let both = base.iter().chain(&cut).sum::<f64>() / 2.0;
        differences.extend(base.iter().zip(&cut).map(|(base, cut)| (cut - base) * (weight / both)));
    }
    sign_flip_exact(&differences)
}

/// The interval of the group mean retention, from the tasks' own; none where one of those that count has none.
pub(crate) fn group_mean_retention_ci95(pairs: &[(&TaskOutcome, &TaskOutcome)]) -> Result<Option<[f64; 2]>> {
    let mut parts = Vec::new();
    for ((base, cut), weight) in pairs.iter().zip(weights(pairs)).filter(|(_, weight)| *weight > 0.0) {
        let Some(Retention { value, ci95, .. }) = stats::retention(&Pair::new(&base.scores(), &cut.scores()))? else {
            return Ok(None);
        };
        parts.push((weight, value, ci95));
    }
    let value = group_mean_retention(pairs.iter().copied());
    Ok(value.map(|value| sum_interval(value, &parts)))
}

#[cfg(test)]
mod tests;
