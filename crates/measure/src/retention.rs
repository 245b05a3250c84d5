//! Retention by task and by group, with intervals.

use std::collections::BTreeMap;

use lopper_record::study::{GroupResult, TaskResult};
use lopper_record::{Result, Retention, Score};
use lopper_stats::{self as stats, Pair};
use lopper_tasks::{Group, TaskOutcome};

/// Outcomes of one model by task.
pub type Outcomes = BTreeMap<String, TaskOutcome>;

/// The outcomes of two models on each of `tasks` that both have.
pub fn paired<'a>(
    base: &'a Outcomes,
    cut: &'a Outcomes,
    tasks: impl IntoIterator<Item = &'a String>,
) -> Vec<(&'a TaskOutcome, &'a TaskOutcome)> {
    tasks.into_iter().filter_map(|name| Some((base.get(name)?, cut.get(name)?))).collect()
}

/// A task's items by both models: all that retention and a depth budget are computed from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskItems {
    /// The task.
    pub task: String,
    /// The uncut model's scores.
    pub base: Vec<f64>,
    /// The cut model's scores on the same items.
    pub cut: Vec<f64>,
    /// The score of guessing, by item; empty where a guess scores nothing.
    pub chance: Vec<f64>,
}

impl TaskItems {
    /// The items of two outcomes of one task.
    pub fn of(base: &TaskOutcome, cut: &TaskOutcome) -> Self {
        Self { task: cut.task.clone(), base: base.scores(), cut: cut.scores(), chance: base.chance_levels() }
    }

    /// Their scores, for retention above chance.
    pub fn above_chance(&self) -> Pair<'_> {
        Pair { base: &self.base, cut: &self.cut, chance: &self.chance }
    }

    /// Their scores, for the ratio cut ÷ uncut.
    pub fn plain(&self) -> Pair<'_> {
        Pair::new(&self.base, &self.cut)
    }
}

/// Results of a cut by task, and by group of tasks, each task weighing the same; `pairs` are the uncut model's outcome
/// and the cut's, on the same items; ratios above 1 count as 1 in a group. Classification comes first,
/// and within a group the order of `pairs`. Both retentions are given: cut ÷ uncut, and above chance.
///
/// # Errors
/// Where the two have different numbers of items.
pub fn retention(pairs: &[(&TaskOutcome, &TaskOutcome)]) -> Result<(Vec<TaskResult>, Vec<GroupResult>)> {
    let (mut tasks, mut groups) = (Vec::new(), Vec::new());
    for group in [Group::Classification, Group::Generative] {
        let (mut items, mut scores) = (Vec::new(), Vec::new());
        for (base, cut) in pairs.iter().filter(|(base, _)| base.group == group) {
            let score = *cut.primary_score();
            let of_task = TaskItems::of(base, cut);
            let (plain, above) = (of_task.plain(), of_task.above_chance());
            tasks.push(TaskResult {
                task: cut.task.clone(),
                score,
                chance: (!above.chance.is_empty()).then(|| stats::mean(above.chance)),
                retention: stats::retention(&plain)?,
                corrected: stats::retention(&above)?,
            });
            scores.push(score);
            items.push(of_task);
        }
        if !items.is_empty() {
            let plain: Vec<Pair<'_>> = items.iter().map(TaskItems::plain).collect();
            let above: Vec<Pair<'_>> = items.iter().map(TaskItems::above_chance).collect();
            let retention = stats::group_retention(&plain)?;
            // Where no task has a chance level the two are the same, and computed once.
            let corrected = if plain == above { retention } else { stats::group_retention(&above)? };
            let score = stats::group_score(&scores);
            groups.push(GroupResult { group: group.name().to_owned(), score, retention, corrected });
        }
    }
    Ok((tasks, groups))
}

/// The uncut model's results in the same form: no retention of a task, and all of a group's, unless the model scores
/// too little on its tasks for a ratio to mean anything.
///
/// # Errors
/// As [`retention`].
pub fn uncut_results(outcomes: &[&TaskOutcome]) -> Result<(Vec<TaskResult>, Vec<GroupResult>)> {
    let pairs: Vec<_> = outcomes.iter().map(|outcome| (*outcome, *outcome)).collect();
    let (mut tasks, mut groups) = retention(&pairs)?;
    for task in &mut tasks {
        (task.retention, task.corrected) = (None, None);
    }
    for group in &mut groups {
        let all = |retention: Option<Retention>| retention.map(|_| Retention::uncut(group.score.n));
        (group.retention, group.corrected) = (all(group.retention), all(group.corrected));
    }
    Ok((tasks, groups))
}

/// The mean of the primary scores of each group's tasks, every task weighing the same, and the number of these tasks.
pub fn group_scores(outcomes: &[TaskOutcome]) -> Vec<(Group, usize, Score)> {
    let of = |group: Group| {
        let tasks = outcomes.iter().filter(|outcome| outcome.group == group);
        let scores: Vec<Score> = tasks.map(|outcome| *outcome.primary_score()).collect();
        (!scores.is_empty()).then(|| (group, scores.len(), stats::group_score(&scores)))
    };
    [Group::Classification, Group::Generative].into_iter().filter_map(of).collect()
}
