//! Retention by task and by group, with intervals.

use std::collections::BTreeMap;

use lopper_record::study::{GroupResult, TaskResult};
use lopper_record::{Result, Score};
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

/// Results of a cut by task, and by group of tasks, each task weighing the same; `pairs` are the uncut model's outcome
/// and the cut's, on the same items; ratios above 1 count as 1 in a group. Classification comes first,
/// and within a group the order of `pairs`.
///
/// # Errors
/// Where the two have different numbers of items.
pub fn retention(pairs: &[(&TaskOutcome, &TaskOutcome)]) -> Result<(Vec<TaskResult>, Vec<GroupResult>)> {
    let (mut tasks, mut groups) = (Vec::new(), Vec::new());
    for group in [Group::Classification, Group::Generative] {
        let (mut items, mut scores) = (Vec::new(), Vec::new());
        for (base, cut) in pairs.iter().filter(|(base, _)| base.group == group) {
            let (task, score) = (cut.task.clone(), *cut.primary_score());
            let (base, cut) = (base.scores(), cut.scores());
            tasks.push(TaskResult { task, score, retention: stats::retention(&Pair::new(&base, &cut))? });
            scores.push(score);
            items.push((base, cut));
        }
        if !items.is_empty() {
            let items: Vec<Pair<'_>> = items.iter().map(|(base, cut)| Pair::new(base, cut)).collect();
            let retention = stats::group_retention(&items)?;
            groups.push(GroupResult { group: group.name().to_owned(), score: stats::group_score(&scores), retention });
        }
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
