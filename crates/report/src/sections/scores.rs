//! Every model that was measured, with every score and its interval.

use lopper_record::study::Point;
use lopper_record::{Result, Retention, Score, StudyRecord};

use crate::format::{NONE, count, percent, percent_interval, short_with_interval};
use crate::heat;
use crate::html::Column::{Left, Right};
use crate::html::{TABLE_END, Text, table_start};
use crate::order::{groups, points, strategy_title, tasks_by_group};
use crate::sections::task_head;

/// The table of retentions and the table of scores, or nothing before the first result.
pub fn html(record: &StudyRecord) -> Result<String> {
    if record.base.is_none() && record.points.is_empty() {
        return Ok(String::new());
    }
    let mut out = String::from("<section id=\"scores\">\n<h2>Every cut that was measured</h2>\n");
    out.push_str(&retentions(record));
    out.push_str(&scores(record));
    out.push_str("</section>\n");
    Ok(out)
}

/// A body of rows per strategy.
fn by_strategy(record: &StudyRecord, columns: usize, row: impl Fn(&Point) -> String) -> String {
    let mut out = String::new();
    for strategy in record.strategies() {
        out.push_str("<tbody>\n");
        out.push_str(&part(&strategy_title(strategy), columns));
        for point in points(record, strategy) {
            out.push_str(&row(point));
        }
        out.push_str("</tbody>\n");
    }
    out
}

/// A row that names those below it.
fn part(title: &str, columns: usize) -> String {
    format!("<tr class=\"part\"><th colspan=\"{columns}\" scope=\"rowgroup\">{}</th></tr>\n", Text(title))
}

/// The cells that say which model a row is.
fn identity(point: &Point) -> String {
    let healed = point.healed.as_ref().map_or(NONE.to_owned(), |heal| Text(&heal.method).to_string());
    format!("<th scope=\"row\">{}</th><td>{healed}</td>", point.removed)
}

fn retentions(record: &StudyRecord) -> String {
    if record.points.is_empty() {
        return String::new();
    }
    let groups = groups(record);
    let perplexity = record.points.iter().any(|point| point.perplexity.is_some());
    let parameters = record.points.iter().any(|point| point.parameters.is_some());
    let mut columns = vec![Right("removed"), Right("healed")];
    columns.extend(groups.iter().map(|group| Right(group)));
    if perplexity {
        columns.push(Right("perplexity"));
    }
    if parameters {
        columns.push(Right("parameters"));
    }
    columns.push(Left("layers dropped"));
    let mut out = String::from("<h3>Score kept, % of the uncut model’s [95 % interval]</h3>\n");
    out.push_str(&table_start(&columns));
    out.push_str(&by_strategy(record, columns.len(), |point| {
        let mut row = format!("<tr>{}", identity(point));
        for group in &groups {
            row.push_str(&retention_cell(point.group(group).and_then(|result| result.retention.as_ref())));
        }
        if perplexity {
            row.push_str(&format!("<td>{}</td>", short_with_interval(point.perplexity, point.perplexity_ci95)));
        }
        if parameters {
            row.push_str(&format!("<td>{}</td>", point.parameters.map_or(NONE.into(), count)));
        }
        row.push_str(&format!("<td class=\"left\">{}</td></tr>\n", point.dropped));
        row
    }));
    out.push_str(TABLE_END);
    if let Some(base) = record.base.as_ref().filter(|base| base.perplexity.is_some()) {
        let perplexity = short_with_interval(base.perplexity, base.perplexity_ci95);
        out.push_str(&format!("<p class=\"small\">The uncut model’s perplexity is {perplexity}.</p>\n"));
    }
    out
}

fn retention_cell(retention: Option<&Retention>) -> String {
    match retention {
        None => format!("<td>{NONE}</td>"),
        Some(r) => {
            format!("<td>{} <span class=\"ci\">[{}]</span></td>", percent(r.value, 0), percent_interval(r.ci95))
        }
    }
}

fn scores(record: &StudyRecord) -> String {
    if record.tasks.is_empty() {
        return String::new();
    }
    let tasks = tasks_by_group(record);
    let row = |point: &Point| {
        let mut row = format!("<tr>{}", identity(point));
        for task in &tasks {
            let result = point.task(&task.name);
            row.push_str(&score_cell(result.map(|r| &r.score), result.and_then(|r| r.retention)));
        }
        row.push_str("</tr>\n");
        row
    };
    let columns = tasks.len() + 2;
    let mut out = String::from("<h3>Scores by task, % [95 % interval]</h3>\n<div class=\"scroll\">\n");
    out.push_str("<table class=\"dense\">\n");
    out.push_str(&task_head(&tasks, &["removed", "healed"], &[]));
    if let Some(base) = &record.base {
        out.push_str("<tbody>\n");
        out.push_str(&part("uncut model", columns));
        out.push_str(&row(base));
        out.push_str("</tbody>\n");
    }
    out.push_str(&by_strategy(record, columns, row));
    out.push_str(TABLE_END);
    out.push_str("<p class=\"small\">The stronger the colour, the more of the score is lost.</p>\n");
    out
}

fn score_cell(score: Option<&Score>, retention: Option<Retention>) -> String {
    match score {
        None => format!("<td>{NONE}</td>"),
        Some(s) => {
            let class = retention.map_or(String::new(), |r| format!(" class=\"{}\"", heat::class(r.value)));
            let (value, interval) = (percent(s.value, 0), percent_interval(s.ci95));
            format!("<td{class}>{value} <span class=\"ci\">[{interval}]</span></td>")
        }
    }
}
