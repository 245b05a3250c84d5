//! Everything needed to judge the numbers and to get them again: warnings, tasks with their item counts, splits, the
//! budget's decisions, healing, seeds, hashes, timings, the recipe, and the files of figures and data.

use std::fmt::Write as _;

use lopper_record::{Result, StudyRecord};

use crate::files::FILES;
use crate::format::{NONE, duration, percent};
use crate::html::Column::{Left, Right};
use crate::html::{TABLE_END, Text, row_head, table_start, titled_table};
use crate::sections::{decision, healing};

/// The section; never empty, since at least the versions are known.
pub fn html(record: &StudyRecord) -> Result<String> {
    let mut out = String::from("<section id=\"provenance\">\n<h2>How this was measured</h2>\n");
    if !record.warnings.is_empty() {
        out.push_str("<div class=\"note\">\n<h3>Warnings</h3>\n<ul>\n");
        for warning in &record.warnings {
            writeln!(out, "<li>{}</li>", Text(warning))?;
        }
        out.push_str("</ul>\n</div>\n");
    }
    if !record.command.is_empty() {
        writeln!(out, "<h3>Reproduce</h3>\n<pre>{}</pre>", Text(&record.command))?;
    }
    tasks(&mut out, record)?;
    out.push_str(&decision::html(record)?);
    out.push_str(&healing::html(record)?);
    timings(&mut out, record)?;
    identity(&mut out, record)?;
    writeln!(
        out,
        "<h3>Figures and data</h3>\n<p>Every figure of this page is an SVG file in <code>{FILES}/figures</code>, every \
         table a CSV and a JSON file in <code>{FILES}/data</code>, next to the page; <code>study.json</code> is the \
         whole record.</p>"
    )?;
    if !record.recipe.is_null() {
        let recipe = serde_json::to_string_pretty(&record.recipe)?;
        out.push_str("<details>\n<summary>The study file with every default filled in</summary>\n");
        writeln!(out, "<pre>{}</pre>\n</details>", Text(&recipe))?;
    }
    out.push_str("</section>\n");
    Ok(out)
}

fn tasks(out: &mut String, record: &StudyRecord) -> Result<()> {
    if record.tasks.is_empty() {
        return Ok(());
    }
    let mut table = table_start(
        "Tasks",
        &[
            Left("task"),
            Left("group"),
            Right("items reported"),
            Right("for choosing"),
            Right("chance"),
            Left("what is tested, and how it is scored"),
        ],
    );
    table.push_str("<tbody>\n");
    for task in &record.tasks {
        let guess = task.chance.map_or(NONE.into(), |chance| format!("{} %", percent(chance, 0)));
        let mut description = Text(&task.description).to_string();
        for (label, value) in [("score", &task.metric), ("version", &task.version)] {
            if !value.is_empty() {
                write!(description, " <span class=\"ci\">{label} {}</span>", Text(value))?;
            }
        }
        write!(table, "<tr>{}<td class=\"left\">{}</td>", row_head(&task.name), Text(&task.group))?;
        write!(table, "<td>{}</td><td>{}</td><td>{guess}</td>", task.n_report, task.n_select)?;
        writeln!(table, "<td class=\"left prose\">{description}</td></tr>")?;
    }
    table.push_str("</tbody>\n");
    table.push_str(TABLE_END);
    out.push_str(&titled_table("Tasks", record.tasks.len(), &table));
    if !record.splits.is_empty() {
        out.push_str("<ul>\n");
        for split in &record.splits {
            writeln!(out, "<li>{}</li>", Text(split))?;
        }
        out.push_str("</ul>\n");
    }
    Ok(())
}

fn timings(out: &mut String, record: &StudyRecord) -> Result<()> {
    if record.timings.is_empty() {
        return Ok(());
    }
    let total: f64 = record.timings.iter().map(|timing| timing.seconds).filter(|seconds| seconds.is_finite()).sum();
    let columns = [Left("stage"), Right("time"), Right("share"), Right("cells"), Right("from an earlier run")];
    let mut table = table_start("Where the time went", &columns);
    table.push_str("<tbody>\n");
    for timing in &record.timings {
        let share = percent(timing.seconds / total, 0);
        write!(table, "<tr>{}<td>{}</td><td>{share} %</td>", row_head(&timing.stage), duration(timing.seconds))?;
        writeln!(table, "<td>{}</td><td>{}</td></tr>", timing.cells, timing.cached)?;
    }
    writeln!(table, "<tr>{}<td>{}</td><td></td><td></td><td></td></tr>", row_head("all"), duration(total))?;
    table.push_str("</tbody>\n");
    table.push_str(TABLE_END);
    out.push_str(&titled_table("Where the time went", record.timings.len(), &table));
    Ok(())
}

fn identity(out: &mut String, record: &StudyRecord) -> Result<()> {
    let seeds: Vec<String> = record.seeds.iter().map(|seed| format!("{} {}", seed.name, seed.value)).collect();
    let facts = [
        ("model", record.model.name.clone()),
        ("model hash", record.model.hash.clone()),
        ("seeds", seeds.join(", ")),
        ("Lopper", record.lopper_version.clone()),
        ("record schema", record.schema.to_string()),
    ];
    out.push_str("<h3>Identity</h3>\n<dl class=\"facts\">\n");
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", Text(name), Text(value))?;
    }
    out.push_str("</dl>\n");
    Ok(())
}
