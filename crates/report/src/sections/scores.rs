//! Every model that was measured, with every score and its interval.

use anyhow::Result;
use lopper_record::study::{Point, TaskMeta};
use lopper_record::{Retention, Score, StudyRecord, format_layers};

use crate::format::{NONE, count, percent, percent_interval, short};
use crate::heat;
use crate::html::Text;
use crate::order::{groups, points, strategy_title};

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
        out.push_str(&format!(
            "<tbody>\n<tr class=\"part\"><th colspan=\"{columns}\" scope=\"rowgroup\">{}</th></tr>\n",
            Text(&strategy_title(strategy))
        ));
        for point in points(record, strategy) {
            out.push_str(&row(point));
        }
        out.push_str("</tbody>\n");
    }
    out
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
    let perplexity = record.points.iter().chain(&record.base).any(|point| point.perplexity.is_some());
    let parameters = record.points.iter().any(|point| point.parameters.is_some());
    let columns = 3 + groups.len() + usize::from(perplexity) + usize::from(parameters);
    let mut out = String::from(
        "<h3>Score kept, % of the uncut model’s [95 % interval]</h3>\n<div class=\"scroll\">\n<table>\n<thead><tr><th scope=\"col\">removed</th><th scope=\"col\">healed</th>",
    );
    for group in &groups {
        out.push_str(&format!("<th scope=\"col\">{}</th>", Text(group)));
    }
    if perplexity {
        out.push_str("<th scope=\"col\">perplexity</th>");
    }
    if parameters {
        out.push_str("<th scope=\"col\">parameters</th>");
    }
    out.push_str("<th scope=\"col\" class=\"left\">layers dropped</th></tr></thead>\n");
    out.push_str(&by_strategy(record, columns, |point| {
        let mut row = format!("<tr>{}", identity(point));
        for group in &groups {
            row.push_str(&retention_cell(point.group(group).and_then(|result| result.retention.as_ref())));
        }
        if perplexity {
            row.push_str(&format!("<td>{}</td>", point.perplexity.map_or(NONE.into(), short)));
        }
        if parameters {
            row.push_str(&format!("<td>{}</td>", point.parameters.map_or(NONE.into(), count)));
        }
        row.push_str(&format!("<td class=\"left\">{}</td></tr>\n", format_layers(&point.dropped)));
        row
    }));
    out.push_str("</table>\n</div>\n");
    out
}

fn retention_cell(retention: Option<&Retention>) -> String {
    match retention {
        None => format!("<td>{NONE}</td>"),
        Some(r) => format!("<td>{} <span class=\"ci\">[{}]</span></td>", percent(r.value, 0), percent_interval(r.ci95)),
    }
}

fn scores(record: &StudyRecord) -> String {
    let mut tasks: Vec<&TaskMeta> = record.tasks.iter().collect();
    if tasks.is_empty() {
        return String::new();
    }
    let groups = groups(record);
    let rank = |task: &TaskMeta| groups.iter().position(|group| *group == task.group);
    tasks.sort_by_key(|task| rank(task));
    let mut out = String::from(
        "<h3>Scores by task, % [95 % interval]</h3>\n<div class=\"scroll\">\n<table class=\"dense\">\n<thead>\n<tr><td colspan=\"2\"></td>",
    );
    for run in tasks.chunk_by(|a, b| a.group == b.group) {
        out.push_str(&format!(
            "<th colspan=\"{}\" scope=\"colgroup\" class=\"group\">{}</th>",
            run.len(),
            Text(&run[0].group)
        ));
    }
    out.push_str("</tr>\n<tr><th scope=\"col\">removed</th><th scope=\"col\">healed</th>");
    for task in &tasks {
        out.push_str(&format!("<th scope=\"col\">{}</th>", Text(&task.name.replace('_', " "))));
    }
    out.push_str("</tr>\n</thead>\n");
    let row = |point: &Point| {
        let mut row = format!("<tr>{}", identity(point));
        for task in &tasks {
            row.push_str(&score_cell(
                point.task(&task.name).map(|result| &result.score),
                point.task(&task.name).and_then(|result| result.retention),
            ));
        }
        row.push_str("</tr>\n");
        row
    };
    if let Some(base) = &record.base {
        out.push_str(&format!(
            "<tbody>\n<tr class=\"part\"><th colspan=\"{}\" scope=\"rowgroup\">uncut model</th></tr>\n{}</tbody>\n",
            tasks.len() + 2,
            row(base)
        ));
    }
    out.push_str(&by_strategy(record, tasks.len() + 2, row));
    out.push_str("</table>\n</div>\n<p class=\"small\">The shade is the score kept against the uncut model: the deeper, the more is lost.</p>\n");
    out
}

fn score_cell(score: Option<&Score>, retention: Option<Retention>) -> String {
    match score {
        None => format!("<td>{NONE}</td>"),
        Some(s) => {
            let class = retention.map_or(String::new(), |r| format!(" class=\"{}\"", heat::class(r.value)));
            format!("<td{class}>{} <span class=\"ci\">[{}]</span></td>", percent(s.value, 0), percent_interval(s.ci95))
        }
    }
}
