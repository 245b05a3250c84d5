//! The objective that cuts are compared by: the **group mean retention**.
//!
//! The score of each task is divided by the uncut model's on the same task; these ratios are averaged over the tasks
//! of each group (classification, generative), and the groups' averages are averaged. So four classification tasks
//! weigh no more than one generative task: a search that reads classification only keeps layers that generation does
//! not need, and loses those that it needs. Tasks on which the uncut model scores 0 are left out.
//!
//! `lopper ablate`, `lopper search` and a study's layer map and choice of strategy all use this one figure, so they
//! rank the same cuts on the same items alike, to the last bit and whatever the order of the tasks.

use lopper_stats::mean;
use lopper_tasks::{Group, TaskOutcome};

/// Scores of items by task: `scores[task][item]`.
pub type ItemScores = Vec<Vec<f64>>;

/// The group mean retention of a cut: pairs of the uncut model's outcome and the cut's, one for each task. None where
/// the uncut model scores 0 on every task.
pub fn group_mean_retention<'a>(pairs: impl IntoIterator<Item = (&'a TaskOutcome, &'a TaskOutcome)>) -> Option<f64> {
    let ratio = |(base, cut): (&TaskOutcome, &TaskOutcome)| {
        let (base_score, cut) = (base.primary_score().value, cut.primary_score().value);
        (base_score > 0.0).then(|| (base.group, cut / base_score))
    };
    mean_of_groups(pairs.into_iter().filter_map(ratio))
}

/// The same objective over bare item scores, which may be a part of the items, and the paired comparison of two cuts in
/// it: what a search needs.
#[derive(Debug, Clone)]
pub struct Objective {
    tasks: Vec<UncutTask>,
}

/// What the uncut model does on a task.
#[derive(Debug, Clone, Copy)]
struct UncutTask {
    group: Group,
    /// Its mean score.
    score: f64,
    /// What counts as one item: its score on an item picked in proportion to that score, which is 1 where items are
    /// right or wrong.
    item: f64,
}

impl Objective {
    /// For tasks of these groups on which the uncut model scored `base`.
    pub fn new(groups: &[Group], base: &ItemScores) -> Self {
        let task = |(group, scores): (&Group, &Vec<f64>)| {
            let (sum, squares) = (scores.iter().sum::<f64>(), scores.iter().map(|score| score * score).sum::<f64>());
            let item = if sum > 0.0 { squares / sum } else { 0.0 };
            UncutTask { group: *group, score: mean(scores), item }
        };
        Self { tasks: groups.iter().zip(base).map(task).collect() }
    }

    /// Whether the uncut model scores on any task; without it no cut can be compared.
    pub fn is_defined(&self) -> bool {
        self.tasks.iter().any(|task| task.score > 0.0)
    }

    /// The tasks that count: those on which the uncut model scores and which have `items` of their own.
    fn counted<'a, T>(&'a self, items: &'a [T], has: impl Fn(&T) -> bool) -> impl Iterator<Item = (UncutTask, &'a T)> {
        let tasks = self.tasks.iter().copied().zip(items);
        tasks.filter(move |(task, items)| task.score > 0.0 && has(items))
    }

    /// The group mean retention of `scores`; 0 where no task counts.
    pub fn value(&self, scores: &ItemScores) -> f64 {
        let counted = self.counted(scores, |scores| !scores.is_empty());
        mean_of_groups(counted.map(|(task, scores)| (task.group, mean(scores) / task.score))).unwrap_or(0.0)
    }

    /// How far `a` is ahead of `b` in the objective over the items that both have, and the standard error of that:
    /// differences are paired item by item within each task.
    pub fn difference(&self, a: &ItemScores, b: &ItemScores) -> (f64, f64) {
        let pairs: Vec<(&Vec<f64>, &Vec<f64>)> = a.iter().zip(b).collect();
        let (mut centers, mut variances) = (Vec::new(), Vec::new());
        for (task, (a, b)) in self.counted(&pairs, |(a, b)| !a.is_empty() && !b.is_empty()) {
            let UncutTask { group, score, item } = task;
            let differences: Vec<f64> = a.iter().zip(*b).map(|(a, b)| (a - b) / score).collect();
            let (n, center) = (differences.len() as f64, mean(&differences));
            // A sample in which nothing differs does not prove that nothing ever does: one item that one of the two
            // has and the other has not is added to every sample, as a part of the uncut score like the others.
            let added = (item / score).powi(2);
            let squares: f64 = differences.iter().map(|x| (x - center).powi(2)).sum::<f64>() + added;
            centers.push((group, center));
            variances.push((group, squares / n / (n + 1.0)));
        }
        // The variance of a mean of n independent values is their mean variance divided by n.
        let of_groups: Vec<f64> =
            by_group(variances.into_iter()).map(|values| mean(&values) / values.len() as f64).collect();
        let variance = if of_groups.is_empty() { 0.0 } else { mean(&of_groups) / of_groups.len() as f64 };
        (mean_of_groups(centers.into_iter()).unwrap_or(0.0), variance.sqrt())
    }
}

/// The mean over groups of the mean over each group's values; none without any value.
fn mean_of_groups(values: impl Iterator<Item = (Group, f64)>) -> Option<f64> {
    let means: Vec<f64> = by_group(values).map(|values| mean(&values)).collect();
    (!means.is_empty()).then(|| mean(&means))
}

/// The values of each group that has any, in ascending order: sums then do not depend on the order of the tasks.
fn by_group(values: impl Iterator<Item = (Group, f64)>) -> impl Iterator<Item = Vec<f64>> {
    let (mut classification, mut generative) = (Vec::new(), Vec::new());
    for (group, value) in values {
        match group {
            Group::Classification => classification.push(value),
            Group::Generative => generative.push(value),
        }
    }
    [classification, generative].into_iter().filter(|values| !values.is_empty()).map(|mut values| {
        values.sort_by(f64::total_cmp);
        values
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Group::{Classification, Generative};

    #[test]
    fn groups_weigh_the_same_whatever_their_size_and_order() {
        let base = vec![vec![1.0, 1.0], vec![1.0, 0.0], vec![0.0, 0.0], vec![1.0, 1.0]];
        let groups = [Classification, Classification, Generative, Generative];
        let objective = Objective::new(&groups, &base);
        // Classification keeps 1 and 0.5 / 0.5; generation a half of the one task that counts.
        let cut = vec![vec![1.0, 1.0], vec![0.0, 1.0], vec![1.0, 1.0], vec![1.0, 0.0]];
        assert_eq!(objective.value(&cut), 0.75);
        assert_eq!(objective.value(&base), 1.0);
        let turn = |scores: &ItemScores| scores.iter().rev().cloned().collect::<ItemScores>();
        let turned = Objective::new(&[Generative, Generative, Classification, Classification], &turn(&base));
        assert_eq!(turned.value(&turn(&cut)).to_bits(), objective.value(&cut).to_bits());
        // A task without items of its own does not count.
        assert_eq!(objective.value(&vec![vec![1.0], vec![], vec![], vec![0.0]]), 0.5);
        assert_eq!(objective.value(&vec![vec![]; 4]), 0.0);
        assert!(objective.is_defined() && !Objective::new(&groups, &vec![vec![0.0]; 4]).is_defined());
    }

    #[test]
    fn the_difference_is_that_of_the_values_and_its_error_follows_the_weights() {
        let base = vec![vec![1.0; 4], vec![1.0; 4], vec![1.0; 4]];
        let groups = [Classification, Classification, Generative];
        let objective = Objective::new(&groups, &base);
        let a = vec![vec![1.0, 1.0, 1.0, 0.0], vec![1.0, 0.0, 1.0, 1.0], vec![1.0, 1.0, 0.0, 1.0]];
        let b = vec![vec![1.0, 0.0, 1.0, 0.0], vec![1.0, 0.0, 1.0, 0.0], vec![0.0, 1.0, 0.0, 1.0]];
        let (difference, error) = objective.difference(&a, &b);
        assert!((difference - (objective.value(&a) - objective.value(&b))).abs() < 1e-12);
        // Each task has one item of four that differs: a variance of (0.75 + 1) / 4 / 5, with the weights ¼, ¼ and ½.
        let variance = 1.75 / 20.0 * (2.0 / 16.0 + 1.0 / 4.0);
        assert!((error - f64::sqrt(variance)).abs() < 1e-12, "{error}");
        assert_eq!(objective.difference(&a, &vec![vec![]; 3]), (0.0, 0.0));
    }

    #[test]
    fn the_added_item_has_the_scale_of_retention() {
        // The uncut model has one item of ten right, so an item is worth ten points of retention in a hundred.
        let base = vec![[vec![1.0; 2], vec![0.0; 18]].concat()];
        let objective = Objective::new(&[Generative], &base);
        let (nothing, one) = (vec![vec![0.0; 4]], vec![vec![0.0, 0.0, 1.0, 0.0]]);
        // Nothing differs: the added item alone, 1 / 0.1², in a variance over 4 · 5.
        let (difference, error) = objective.difference(&nothing, &nothing);
        assert!(difference == 0.0 && (error - f64::sqrt(100.0 / 20.0)).abs() < 1e-12, "{error}");
        // One item of four differs: 0.75 · 10² and the added 10².
        let (difference, error) = objective.difference(&one, &nothing);
        assert!((difference - 2.5).abs() < 1e-12 && (error - f64::sqrt(175.0 / 20.0)).abs() < 1e-12, "{error}");
        // Relative to the difference the same as for a model that has every item right.
        let (whole, all) = (Objective::new(&[Generative], &vec![vec![1.0; 20]]), 0.25);
        let (difference_of_whole, error_of_whole) = whole.difference(&one, &nothing);
        assert_eq!(difference_of_whole, all);
        assert!((difference / error - difference_of_whole / error_of_whole).abs() < 1e-12);
        // Of graded items the added one is like those that the uncut model has: (0.2² + 0.4²) ÷ (0.2 + 0.4) of 0.3.
        let graded = Objective::new(&[Generative], &vec![vec![0.2, 0.4]]);
        let (_, error) = graded.difference(&vec![vec![0.1; 4]], &vec![vec![0.1; 4]]);
        assert!((error - f64::sqrt((1.0f64 / 3.0 / 0.3).powi(2) / 20.0)).abs() < 1e-12, "{error}");
    }
}
