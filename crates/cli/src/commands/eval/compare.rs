//! `--compare`: the cut model beside the whole one on the same items.

use anyhow::Result;
use lopper_measure::compare::{self, Comparison};
use lopper_record::Retention;
use lopper_tasks::TaskOutcome;
use serde::Serialize;

use super::percent;
use crate::table;

/// What the comparison of all tasks gives.
#[derive(Serialize)]
pub struct Comparisons {
    tasks: Vec<Comparison>,
    /// All tasks together, each weighing the same; none where one has no retention.
    overall: Option<Retention>,
}

/// Compares task by task.
pub fn all(base: &[TaskOutcome], cut: &[TaskOutcome], seed: u64) -> Result<Comparisons> {
    let tasks = base.iter().zip(cut).map(|(base, cut)| compare::compare(base, cut, seed)).collect::<Result<_>>()?;
    Ok(Comparisons { tasks, overall: compare::overall(base, cut, seed)? })
}

impl Comparisons {
    /// A table, and a line for each task about what so many items can tell.
    pub fn human(&self) -> String {
        let mut rows: Vec<[String; 8]> = self.tasks.iter().map(row).collect();
        if let (true, Some(overall)) = (self.tasks.len() > 1, &self.overall) {
            let none = String::new;
            rows.push([
                format!("mean of {}", self.tasks.len()),
                none(),
                none(),
                none(),
                percent(overall.value),
                interval(overall),
                none(),
                table::count(overall.n as u64),
            ]);
        }
        let header = ["task", "metric", "whole", "cut", "retention", "95 % interval", "p", "n"];
        let power: Vec<String> =
            self.tasks.iter().map(|task| format!("{}: {}", task.task, task.power.line(task.n))).collect();
        format!("{}\n\n{}", table::render(header, &rows), power.join("\n"))
    }
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
                "{}: the whole model is not above chance ({}), so its retention says little",
                outcome.task,
                percent(chance)
            )
        })
        .collect()
}
