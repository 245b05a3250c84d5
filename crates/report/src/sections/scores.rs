//! Every model that was measured: what it keeps, and every score with its interval.

use lopper_record::study::{Point, TaskResult};
use lopper_record::{Result, Retention, StudyRecord};

use crate::format::{NONE, count, percent, percent_interval, short_with_interval};
use crate::heat;
use crate::html::Column::{Left, Right};
use crate::html::{TABLE_END, Text, scroll_start, table_start, titled_table};
use crate::order::{groups, has_chance, judged, judged_mean, points, strategy_title, tasks_by_group};
use crate::sections::healing::role;
use crate::sections::task_head;

/// The tables, or nothing before the first result.
pub fn html(record: &StudyRecord) -> Result<String> {
    if record.base.is_none() && record.points.is_empty() {
        return Ok(String::new());
    }
    let mut out = String::from("<section id=\"scores\">\n<h2>Every cut that was measured</h2>\n");
    if has_chance(record) {
        out.push_str(
            "<p class=\"small\">“Above chance” is what is judged: (cut − guessing) ÷ (uncut − guessing). “Ratio” is cut \
             ÷ uncut score, as papers have it; a model that guesses keeps some of it. <span class=\"chance\">at \
             chance</span> marks a score whose 95 % interval includes that of guessing.</p>\n",
        );
    }
    out.push_str(&by_group(record));
    out.push_str(&by_task(record));
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
    let healed = point.healed.as_ref().map_or(NONE.to_owned(), |heal| {
        let role = if point.is_main_healing() { String::new() } else { format!(" ({})", role(heal)) };
        Text(&format!("{}{role}", heal.method)).to_string()
    });
    format!("<th scope=\"row\">{}</th><td>{healed}</td>", point.removed)
}

fn by_group(record: &StudyRecord) -> String {
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
    let title = "Kept by group, % [95 % interval]";
    let mut out = table_start(title, &columns);
    out.push_str(&by_strategy(record, columns.len(), |point| {
        let mut row = format!("<tr>{}", identity(point));
        for group in &groups {
            let result = point.group(group);
            row.push_str(&kept_cell(result.and_then(judged_mean), result.and_then(|result| result.retention), false));
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
    titled_table(title, record.points.len(), &out)
}

/// What is judged with its interval, and the plain ratio where it is another.
fn kept_cell(judged: Option<Retention>, ratio: Option<Retention>, at_chance: bool) -> String {
    let Some(kept) = judged else { return format!("<td>{NONE}</td>") };
    let ratio =
        ratio.filter(|ratio| (ratio.value - kept.value).abs() > 1e-9 || ratio.value.is_nan() != kept.value.is_nan());
    let ratio =
        ratio.map_or(String::new(), |ratio| format!(" <span class=\"ci\">ratio {}</span>", percent(ratio.value, 0)));
    let (class, interval) = (heat::class(kept.value), percent_interval(kept.ci95));
    let chance = if at_chance { CHANCE } else { "" };
    format!(
        "<td class=\"{class}\">{} <span class=\"ci\">[{interval}]</span>{ratio}{chance}</td>",
        percent(kept.value, 0)
    )
}

/// The mark of a score that may be that of guessing.
const CHANCE: &str = " <span class=\"chance\">at chance</span>";

fn by_task(record: &StudyRecord) -> String {
    let tasks = tasks_by_group(record);
    if tasks.is_empty() || record.points.is_empty() {
        return String::new();
    }
    let title = "Kept by task, % [95 % interval]";
    let mut out = scroll_start(title);
    out.push_str("<table class=\"dense\">\n");
    out.push_str(&task_head(&tasks, &["removed", "healed"], &[]));
    out.push_str(&by_strategy(record, tasks.len() + 2, |point| {
        let mut row = format!("<tr>{}", identity(point));
        for task in &tasks {
            let result = point.task(&task.name);
            let at_chance = result.is_some_and(TaskResult::is_at_chance);
            row.push_str(&kept_cell(result.and_then(judged), result.and_then(|result| result.retention), at_chance));
        }
        row.push_str("</tr>\n");
        row
    }));
    out.push_str(TABLE_END);
    titled_table(title, record.points.len(), &out)
}

fn scores(record: &StudyRecord) -> String {
    if record.tasks.is_empty() {
        return String::new();
    }
    let tasks = tasks_by_group(record);
    let row = |point: &Point| {
        let mut row = format!("<tr>{}", identity(point));
        for task in &tasks {
            row.push_str(&point.task(&task.name).map_or(format!("<td>{NONE}</td>"), score_cell));
        }
        row.push_str("</tr>\n");
        row
    };
    let columns = tasks.len() + 2;
    let title = "Scores by task, % [95 % interval]";
    let mut out = scroll_start(title);
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
    let guesses: Vec<String> = tasks
        .iter()
        .filter_map(|task| {
            let of_base = record.base.as_ref().and_then(|base| base.task(&task.name)?.chance);
            let chance = of_base.or(task.chance)?;
            Some(format!("{} {} %", task.name.replace('_', " "), percent(chance, 0)))
        })
        .collect();
    if !guesses.is_empty() {
        out.push_str(&format!("<p class=\"small\">Guessing scores: {}.</p>\n", Text(&guesses.join(", "))));
    }
    out.push_str("<p class=\"small\">The stronger the colour, the more of the score is lost.</p>\n");
    titled_table(title, record.points.len() + record.base.iter().len(), &out)
}

fn score_cell(result: &TaskResult) -> String {
    let class = judged(result).map_or(String::new(), |kept| format!(" class=\"{}\"", heat::class(kept.value)));
    let (value, interval) = (percent(result.score.value, 0), percent_interval(result.score.ci95));
    let chance = if result.is_at_chance() { CHANCE } else { "" };
    format!("<td{class}>{value} <span class=\"ci\">[{interval}]</span>{chance}</td>")
}
