//! The layer map: what each single layer is needed for, next to the scores that the criteria give it.

use lopper_record::study::{AblatedLayer, Criterion, TaskResult};
use lopper_record::{Result, StudyRecord};

use crate::chart::{Size, bars};
use crate::format::{NONE, percent, percent_interval, short};
use crate::heat;
use crate::html::{TABLE_END, Text, figure, multiples, scroll_start, titled_table};
use crate::order::tasks_by_group;
use crate::sections::task_head;

const SIZE: Size = Size { width: 420, height: 240 };

/// Map and criteria, or nothing before either was measured.
pub fn html(record: &StudyRecord) -> Result<String> {
    if record.ablation.is_empty() && record.criteria.is_empty() {
        return Ok(String::new());
    }
    let mut out = String::from("<section id=\"layers\">\n<h2>Which layer matters for what</h2>\n");
    if !record.ablation.is_empty() {
        out.push_str(&map(record));
    }
    let charts: String = record.criteria.iter().map(criterion).collect::<Result<_>>()?;
    out.push_str(&multiples("Layer scores", &charts));
    out.push_str("</section>\n");
    Ok(out)
}

fn criterion(criterion: &Criterion) -> Result<String> {
    let title = if criterion.title.is_empty() { &criterion.name } else { &criterion.title };
    let values: Vec<String> =
        criterion.values.iter().enumerate().map(|(layer, value)| format!("{layer}: {}", short(*value))).collect();
    let label = format!("{title} by layer. {}.", values.join(", "));
    let Some(chart) =
        bars(&criterion.values, SIZE.drawing("small", &label).named(&format!("criterion-{}", criterion.name)))?
    else {
        return Ok(String::new());
    };
    let note = if criterion.note.is_empty() {
        String::new()
    } else {
        format!("<p class=\"small\">{}</p>\n", Text(&criterion.note))
    };
    Ok(figure(title, &format!("{chart}{note}")))
}

/// A row per layer, a column per task, and a column per criterion.
fn map(record: &StudyRecord) -> String {
    let mut tasks = tasks_by_group(record);
    tasks.retain(|task| record.ablation.iter().any(|row| find(row, &task.name).is_some()));
    let mut criteria: Vec<&Criterion> = record.criteria.iter().collect();
    criteria.retain(|criterion| criterion.values.iter().any(|value| value.is_finite()));
    let names: Vec<&str> = criteria.iter().map(|criterion| criterion.name.as_str()).collect();
    let title = "Score kept when one layer is removed, % of the uncut model’s";
    let mut out = scroll_start(title);
    out.push_str("<table class=\"map\">\n");
    out.push_str(&task_head(&tasks, &["layer"], &names));
    out.push_str("<tbody>\n");
    let mut rows: Vec<&AblatedLayer> = record.ablation.iter().collect();
    rows.sort_by_key(|row| row.layer);
    for row in rows {
        out.push_str(&format!("<tr><th scope=\"row\">{}</th>", row.layer));
        for task in &tasks {
            out.push_str(&cell(row, &task.name));
        }
        for criterion in &criteria {
            let value = criterion.values.get(row.layer).copied().unwrap_or(f64::NAN);
            out.push_str(&format!("<td>{}</td>", short(value)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n");
    out.push_str(TABLE_END);
    out.push_str(&reading_note(record));
    titled_table(title, record.ablation.len(), &out)
}

fn find<'a>(row: &'a AblatedLayer, task: &str) -> Option<&'a TaskResult> {
    row.tasks.iter().find(|result| result.task == task)
}

fn cell(row: &AblatedLayer, task: &str) -> String {
    let Some(result) = find(row, task) else { return format!("<td>{NONE}</td>") };
    match result.retention {
        Some(r) => {
            let (n, score, interval) = (result.score.n, percent(result.score.value, 1), percent_interval(r.ci95));
            let title = format!("{n} items, score {score} %, retention {} % [{interval}]", percent(r.value, 1));
            format!("<td class=\"{}\" title=\"{title}\">{}</td>", heat::class(r.value), percent(r.value, 0))
        }
        None => format!("<td title=\"no retention: the uncut model scores too little\">{NONE}</td>"),
    }
}

/// How uncertain a cell is, so that nobody reads noise as structure.
fn reading_note(record: &StudyRecord) -> String {
    let results = || record.ablation.iter().flat_map(|row| &row.tasks);
    let mut halves: Vec<f64> = results()
        .filter_map(|result| result.retention)
        .map(|r| (r.ci95[1] - r.ci95[0]) / 2.0)
        .filter(|half| half.is_finite())
        .collect();
    halves.sort_unstable_by(f64::total_cmp);
    let Some(&median) = halves.get(halves.len() / 2) else { return String::new() };
    let fewest = results().map(|result| result.score.n).min().unwrap_or(0);
    let most = results().map(|result| result.score.n).max().unwrap_or(0);
    let items = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
    format!(
        "<p class=\"small\">Each cell is the model without that one layer, measured on {items} items: the median 95 % \
         interval is ± {} points, and smaller differences mean nothing. The stronger the colour, the more is lost; \
         point at a cell to see its interval.</p>\n",
        percent(median, 0)
    )
}
