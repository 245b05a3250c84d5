//! `--compare`: the cut model and the whole one on the same items.

use lopper_measure::{Comparison, Comparisons};
use lopper_record::Retention;
use lopper_tasks::TaskOutcome;

use super::percent;
use crate::table;

/// A table, and a line for each task about the differences that so many items can show.
pub fn human(found: &Comparisons) -> String {
    let mut rows: Vec<[String; 8]> = found.tasks.iter().map(row).collect();
    let mean = |name: &str, retention: String, interval: String, n: String| {
        let none = String::new;
        [name.to_owned(), none(), none(), none(), retention, interval, none(), n]
    };
    if found.tasks.len() > 1 {
        for (name, retention) in found.groups.iter().filter_map(|group| Some((&group.group, group.retention.as_ref()?)))
        {
            rows.push(mean(name, percent(retention.value), interval(retention), table::count(retention.n as u64)));
        }
    }
    if let (true, Some(value)) = (found.groups.len() > 1, found.group_mean_retention) {
        rows.push(mean("mean of the groups", percent(value), String::new(), String::new()));
    }
    let header = ["task", "metric", "uncut", "cut", "retention", "95 % interval", "p", "n"];
    let power: Vec<String> =
        found.tasks.iter().map(|task| format!("{}: {}", task.task, task.power.line(task.n))).collect();
    format!("{}\n\n{}", table::render(header, &rows), power.join("\n"))
}

fn row(task: &Comparison) -> [String; 8] {
    let (retention, bounds) = match &task.retention {
        Some(retention) => (percent(retention.value), interval(retention)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    [
        task.task.clone(),
        task.metric.clone(),
        percent(task.base),
        percent(task.cut),
        retention,
        bounds,
        format!("{:.3}", task.p_value),
        table::count(task.n as u64),
    ]
}

fn interval(retention: &Retention) -> String {
    format!("{} to {}", percent(retention.ci95[0]), percent(retention.ci95[1]))
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
