//! The tables of a report as data: each as CSV, and as JSON with an object for each row. `docs/report.md` describes
//! their columns; a test compares the two.

use lopper_record::study::{Point, TaskResult, Verdict};
use lopper_record::{Context, Result, Retention, Score, StudyRecord};
use serde_json::{Map, Value, json};

use crate::order::{judged, judged_mean};

mod budget;
mod models;

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Name of its files.
    pub name: &'static str,
    /// Names of its columns.
    pub columns: Vec<&'static str>,
    /// Its rows; a cell is a text, a number, a truth value or null.
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    /// As CSV (RFC 4180, UTF-8) with a row of names; null is an empty cell.
    pub fn csv(&self) -> Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.columns).context("a table cannot be written as CSV")?;
        for row in &self.rows {
            let cells = row.iter().map(|cell| match cell {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                value => value.to_string(),
            });
            writer.write_record(cells).context("a table cannot be written as CSV")?;
        }
        writer.into_inner().map_err(|error| error.into_error()).context("a table cannot be written as CSV")
    }

    /// As a JSON list of objects.
    pub fn json(&self) -> Result<Vec<u8>> {
        let object = |row: &Vec<Value>| {
            let entries = self.columns.iter().zip(row).map(|(name, cell)| ((*name).to_owned(), cell.clone()));
            Value::Object(entries.collect::<Map<_, _>>())
        };
        let rows: Vec<Value> = self.rows.iter().map(object).collect();
        serde_json::to_vec_pretty(&rows).context("a table cannot be written as JSON")
    }
}

/// All tables that have a row.
pub fn tables(record: &StudyRecord) -> Vec<Table> {
    let all = [
        models::models(record),
        scores(record),
        groups(record),
        budget::budget(record),
        layers(record),
        criteria(record),
        tasks(record),
        timings(record),
    ];
    all.into_iter().filter(|table| !table.rows.is_empty()).collect()
}

/// Every model of the record, the uncut one first.
fn all_models(record: &StudyRecord) -> impl Iterator<Item = &Point> {
    record.base.iter().chain(&record.points)
}

/// The columns that say which model a row is about, and their cells.
const MODEL: [&str; 6] = ["strategy", "removed", "layers", "state", "role", "seed"];

fn model(point: &Point) -> Vec<Value> {
    let state = match (&point.healed, point.removed) {
        (Some(_), _) => "healed",
        (None, 0) => "uncut",
        _ => "cut",
    };
    let healed = point.healed.as_ref();
    vec![
        if state == "uncut" { Value::Null } else { json!(point.strategy) },
        json!(point.removed),
        json!(point.dropped.to_string()),
        json!(state),
        healed.map_or(Value::Null, |healed| json!(healed.role)),
        healed.map_or(Value::Null, |healed| json!(healed.seed)),
    ]
}

const SCORE: [&str; 5] = ["n", "score", "stderr", "score_low", "score_high"];

fn score(score: &Score) -> Vec<Value> {
    vec![json!(score.n), json!(score.value), json!(score.stderr), json!(score.ci95[0]), json!(score.ci95[1])]
}

/// Cut ÷ uncut, and what is judged.
const KEPT: [&str; 8] =
    ["ratio", "ratio_low", "ratio_high", "kept", "kept_low", "kept_high", "kept_lower95", "kept_upper95"];

fn kept(ratio: Option<Retention>, judged: Option<Retention>) -> Vec<Value> {
    let of = |retention: Option<Retention>, read: fn(&Retention) -> f64| json!(retention.as_ref().map(read));
    let ends = |retention| [of(retention, |r| r.value), of(retention, |r| r.ci95[0]), of(retention, |r| r.ci95[1])];
    [ends(ratio).to_vec(), ends(judged).to_vec(), vec![of(judged, |r| r.lower95), of(judged, |r| r.upper95)]].concat()
}

/// Names of columns, one after the other.
fn named(parts: &[&[&'static str]]) -> Vec<&'static str> {
    parts.concat()
}

fn task_cells(record: &StudyRecord, result: &TaskResult) -> Vec<Value> {
    let meta = record.tasks.iter().find(|task| task.name == result.task);
    vec![
        meta.map_or(Value::Null, |task| json!(task.group)),
        json!(result.task),
        meta.map_or(Value::Null, |task| json!(task.metric)),
    ]
}

fn scores(record: &StudyRecord) -> Table {
    let mut rows = Vec::new();
    for point in all_models(record) {
        for result in &point.tasks {
            let chance = vec![json!(result.chance), json!(result.chance.map(|_| result.is_at_chance()))];
            let cells =
                [task_cells(record, result), score(&result.score), chance, kept(result.retention, judged(result))];
            rows.push([model(point), cells.concat()].concat());
        }
    }
    let columns = named(&[&MODEL, &["group", "task", "metric"], &SCORE, &["chance", "at_chance"], &KEPT]);
    Table { name: "scores", columns, rows }
}

fn groups(record: &StudyRecord) -> Table {
    let mut rows = Vec::new();
    for point in all_models(record) {
        for result in &point.groups {
            let cells = [vec![json!(result.group)], score(&result.score), kept(result.retention, judged_mean(result))];
            rows.push([model(point), cells.concat()].concat());
        }
    }
    Table { name: "groups", columns: named(&[&MODEL, &["group"], &SCORE, &KEPT]), rows }
}

fn layers(record: &StudyRecord) -> Table {
    let mut rows = Vec::new();
    for row in &record.ablation {
        for result in &row.tasks {
            let cells = [task_cells(record, result), score(&result.score), kept(result.retention, judged(result))];
            rows.push([vec![json!(row.layer)], cells.concat()].concat());
        }
    }
    Table { name: "layers", columns: named(&[&["layer", "group", "task", "metric"], &SCORE, &KEPT]), rows }
}

fn criteria(record: &StudyRecord) -> Table {
    let rows = record.criteria.iter().flat_map(|criterion| {
        let values = criterion.values.iter().enumerate();
        values.map(|(layer, value)| vec![json!(criterion.name), json!(layer), json!(value)])
    });
    Table { name: "criteria", columns: vec!["criterion", "layer", "value"], rows: rows.collect() }
}

fn tasks(record: &StudyRecord) -> Table {
    let rows = record.tasks.iter().map(|task| {
        vec![
            json!(task.name),
            json!(task.group),
            json!(task.metric),
            json!(task.version),
            json!(task.n_report),
            json!(task.n_select),
            json!(task.chance),
        ]
    });
    let columns = vec!["task", "group", "metric", "version", "n_report", "n_select", "chance"];
    Table { name: "tasks", columns, rows: rows.collect() }
}

fn timings(record: &StudyRecord) -> Table {
    let rows = record
        .timings
        .iter()
        .map(|timing| vec![json!(timing.stage), json!(timing.seconds), json!(timing.cells), json!(timing.cached)]);
    Table { name: "timings", columns: vec!["stage", "seconds", "cells", "cached"], rows: rows.collect() }
}

/// A verdict as the record has it.
fn verdict(verdict: Verdict) -> Value {
    json!(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_and_undefined_numbers_empty() {
        let rows = vec![vec![json!("a,\"b\"\nc"), json!(f64::NAN), json!(0.5), json!(true)]];
        let table = Table { name: "t", columns: vec!["text", "none", "number", "truth"], rows };
        let csv = String::from_utf8(table.csv().unwrap()).unwrap();
        assert_eq!(csv, "text,none,number,truth\n\"a,\"\"b\"\"\nc\",,0.5,true\n");
        let json: Value = serde_json::from_slice(&table.json().unwrap()).unwrap();
        assert_eq!(json, json!([{"text": "a,\"b\"\nc", "none": null, "number": 0.5, "truth": true}]));
    }
}
