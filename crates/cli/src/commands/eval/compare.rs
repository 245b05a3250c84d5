//! `--compare`: the cut model and the whole one on the same items.

use lopper_measure::{Comparison, Comparisons, GroupComparison};
use lopper_record::Retention;
use lopper_tasks::TaskOutcome;

use super::{interval, p_value, percent};
use crate::table;

const COLUMNS: usize = 8;
const HEADER: [&str; COLUMNS] = ["", "metric", "uncut", "cut", "retention", "95 % interval", "p", "n"];

/// A block for each group of tasks, with the group's mean where there are several; and for each task whose difference
/// may be chance, a line about the differences that so many items can show.
pub fn human(found: &Comparisons) -> String {
    let mut rows: Vec<[String; COLUMNS]> = Vec::new();
    let line = |first: &str| std::array::from_fn(|at| if at == 0 { first.to_owned() } else { String::new() });
    for (at, group) in found.groups.iter().enumerate() {
        if at > 0 {
            rows.push(line(""));
        }
        rows.push(line(&group.cut.group));
        rows.extend(found.of_group(group).map(task_row));
        if group.tasks.len() > 1 {
            rows.push(group_row(group));
        }
    }
    if let (true, Some(value)) = (found.groups.len() > 1, found.group_mean_retention) {
        let mut row = line("mean of the groups");
        row[4] = percent(value);
        row[5] = found.group_mean_retention_ci95.map_or_else(|| "-".to_owned(), interval);
        rows.extend([line(""), row]);
    }
    let mut text = table::render(HEADER, &rows);
    text += "\n\np: exact paired tests, each by itself, not corrected for their number";
    for task in found.tasks.iter().filter(|task| !task.is_significant()) {
        text += &format!("\n{}: {}", task.task, task.power.line(task.n));
    }
    text
}

fn task_row(task: &Comparison) -> [String; COLUMNS] {
    let [retention, bounds] = kept(task.retention.as_ref());
    [
        format!("  {}", task.task),
        task.metric.clone(),
        percent(task.base),
        percent(task.cut),
        retention,
        bounds,
        p_value(task.p_value),
        table::count(task.n as u64),
    ]
}

fn group_row(group: &GroupComparison) -> [String; COLUMNS] {
    let [retention, bounds] = kept(group.cut.retention.as_ref());
    [
        "  mean".to_owned(),
        format!("{} tasks", group.tasks.len()),
        percent(group.base.value),
        percent(group.cut.score.value),
        retention,
        bounds,
        p_value(group.p_value),
        table::count(group.base.n as u64),
    ]
}

fn kept(retention: Option<&Retention>) -> [String; 2] {
    match retention {
        Some(retention) => [percent(retention.value), interval(retention.ci95)],
        None => ["-".to_owned(), "-".to_owned()],
    }
}

/// Says so where scores are too close to chance for a ratio to mean what it seems to mean.
pub fn caution(outcomes: &[TaskOutcome]) -> Vec<String> {
    let near = |outcome: &&TaskOutcome| {
        let score = outcome.primary_score();
        outcome.chance.is_some_and(|chance| score.ci95[0] <= chance)
    };
    outcomes
        .iter()
        .filter(near)
        .map(|outcome| {
            let chance = outcome.chance.unwrap_or_default();
            format!(
                "{}: the uncut model does not score above chance ({}), so retention says little",
                outcome.task,
                percent(chance)
            )
        })
        .collect()
}
