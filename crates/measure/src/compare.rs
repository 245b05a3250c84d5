//! A cut model against the uncut one on the same items of a task: retention, a paired test, and how many items it would
//! take to see a difference.

use lopper_record::study::GroupResult;
use lopper_record::{Fault, Result, Retention, Score};
use lopper_stats::{self as stats, Pair, RESAMPLES};
use lopper_tasks::TaskOutcome;
use serde::Serialize;

use crate::removal::{LEVEL, group_mean_retention_ci95, paired_p_value};
use crate::{group_mean_retention, retention};

/// The difference of accuracy that a reader usually asks about.
pub const DIFFERENCE: f64 = 0.05;

/// One task, both models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The task.
    pub task: String,
    /// The metric compared.
    pub metric: String,
    /// Items that both answered.
    pub n: usize,
    /// The uncut model's score.
    pub base: f64,
    /// The cut model's score.
    pub cut: f64,
    /// Cut ÷ uncut; none where the uncut model scores too little.
    pub retention: Option<Retention>,
    /// Cut minus uncut.
    pub difference: f64,
    /// Its 95 % interval: a bootstrap of the items' differences.
    pub difference_ci95: [f64; 2],
    /// Items that only the uncut model got right, and only the cut one; where answers are graded, those
    /// that got worse and better.
    pub discordant: [usize; 2],
    /// The chance of so uneven a split if neither model were better: McNemar's exact test, which is the
    /// sign test where answers are graded.
    pub p_value: f64,
    /// Whether as many items tell a difference of 5 points apart from none (80 % power at 5 %).
    pub power: Power,
}

impl Comparison {
    /// Whether the difference is more than chance, by this task's test alone.
    pub fn is_significant(&self) -> bool {
        self.p_value <= LEVEL
    }
}

/// What so many items can tell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Power {
    /// Share of items on which the models differ, as seen; at least the difference looked for.
    pub discordant: f64,
    /// Items that would tell [`DIFFERENCE`] apart.
    pub needed: usize,
    /// Whether there are as many.
    pub enough: bool,
}

impl Power {
    /// A line for people.
    pub fn line(&self, n: usize) -> String {
        let points = DIFFERENCE * 100.0;
        match self.enough {
            true => format!("n = {n} tells {points:.0} points apart ({} would do)", self.needed),
            false => format!("n = {n} cannot tell {points:.0} points apart; {} items would", self.needed),
        }
    }
}

/// Refuses outcomes that are not of the same items.
pub(crate) fn check_same_items(base: &TaskOutcome, cut: &TaskOutcome) -> Result<()> {
    let same = base.items.len() == cut.items.len() && base.items.iter().zip(&cut.items).all(|(a, b)| a.id == b.id);
    if !same || base.task != cut.task || base.primary != cut.primary {
        return Err(Fault::new(format!("{} and {} were not evaluated on the same items", base.task, cut.task))
            .expected("the same task and items for both models")
            .got(format!("{} and {} items", base.items.len(), cut.items.len()))
            .into());
    }
    Ok(())
}

/// Compares two outcomes of one task on the same items.
///
/// # Errors
/// A [`Fault`] where the items are not the same.
pub fn compare(base: &TaskOutcome, cut: &TaskOutcome, seed: u64) -> Result<Comparison> {
    check_same_items(base, cut)?;
    let (of_base, of_cut) = (base.scores(), cut.scores());
    let pairs = || of_base.iter().zip(&of_cut);
    let (worse, better) = (pairs().filter(|(b, c)| b > c).count(), pairs().filter(|(b, c)| b < c).count());
    let differences: Vec<f64> = pairs().map(|(base, cut)| cut - base).collect();
    let n = of_base.len();
    let seen = (worse + better) as f64 / n.max(1) as f64;
    // With fewer differing items than the difference itself, the difference could not exist.
    let discordant = seen.clamp(DIFFERENCE, 1.0);
    let needed = stats::items_needed_paired(discordant, DIFFERENCE).unwrap_or(usize::MAX);
    Ok(Comparison {
        task: base.task.clone(),
        metric: base.primary.clone(),
        n,
        base: stats::mean(&of_base),
        cut: stats::mean(&of_cut),
        retention: stats::retention(&Pair::new(&of_base, &of_cut))?,
        difference: stats::mean(&differences),
        difference_ci95: stats::bootstrap_mean_ci95(&differences, RESAMPLES, seed),
        discordant: [worse, better],
        p_value: stats::mcnemar_exact(worse, better),
        power: Power { discordant, needed, enough: n >= needed },
    })
}

/// A cut against the uncut model on one group of tasks, each task weighing the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupComparison {
    /// The cut model's score, and its retention.
    #[serde(flatten)]
    pub cut: GroupResult,
    /// Names of the tasks.
    pub tasks: Vec<String>,
    /// The uncut model's score.
    pub base: Score,
    /// The chance of so large a difference if neither model were better: the exact sign-flip test, in which an item
    /// counts as much as in the mean of the retentions.
    pub p_value: f64,
}

/// A cut against the uncut model on all tasks of a suite.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparisons {
    /// Task by task.
    pub tasks: Vec<Comparison>,
    /// Group by group of tasks.
    pub groups: Vec<GroupComparison>,
    /// The objective that layers are chosen by; none where the uncut model scores 0 on every task.
    pub group_mean_retention: Option<f64>,
    /// Its 95 % interval; none where a task that counts has too few right items for one.
    pub group_mean_retention_ci95: Option<[f64; 2]>,
}

impl Comparisons {
    /// The comparisons of the tasks of a group, in order.
    pub fn of_group(&self, group: &GroupComparison) -> impl Iterator<Item = &Comparison> {
        self.tasks.iter().filter(|task| group.tasks.contains(&task.task))
    }
}

/// Compares two models' outcomes task by task, which have the same order, and by group.
///
/// # Errors
/// A [`Fault`] where the items are not the same.
pub fn compare_all(base: &[TaskOutcome], cut: &[TaskOutcome], seed: u64) -> Result<Comparisons> {
    let pairs: Vec<(&TaskOutcome, &TaskOutcome)> = base.iter().zip(cut).collect();
    let tasks = pairs.iter().map(|(base, cut)| compare(base, cut, seed)).collect::<Result<_>>()?;
    let (_, groups) = retention(&pairs)?;
    let group = |cut: GroupResult| {
        let own: Vec<_> = pairs.iter().copied().filter(|(base, _)| base.group.name() == cut.group).collect();
        let scores: Vec<Score> = own.iter().map(|(base, _)| *base.primary_score()).collect();
        let tasks = own.iter().map(|(base, _)| base.task.clone()).collect();
        GroupComparison { cut, tasks, base: stats::group_score(&scores), p_value: paired_p_value(&own) }
    };
    Ok(Comparisons {
        tasks,
        groups: groups.into_iter().map(group).collect(),
        group_mean_retention_ci95: group_mean_retention_ci95(&pairs)?,
        group_mean_retention: group_mean_retention(pairs),
    })
}
