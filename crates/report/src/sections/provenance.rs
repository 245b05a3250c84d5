//! Everything needed to judge the numbers and to get them again: warnings, tasks with their item
//! counts, splits, every budget decision, healing, seeds, hashes, timings, the recipe.

use std::fmt::Write as _;

use anyhow::Result;
use lopper_record::StudyRecord;
use lopper_record::study::{BudgetLine, Point};

use crate::format::{NONE, count, duration, percent, short};
use crate::html::Text;
use crate::order::strategy_title;

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
        writeln!(out, "<h3>Do it again</h3>\n<pre>{}</pre>", Text(&record.command))?;
    }
    tasks(&mut out, record)?;
    budget(&mut out, record)?;
    healing(&mut out, record)?;
    timings(&mut out, record)?;
    identity(&mut out, record)?;
    if !record.recipe.is_null() {
        let recipe = serde_json::to_string_pretty(&record.recipe)?;
        writeln!(
            out,
            "<details>\n<summary>The recipe, with every default filled in</summary>\n<pre>{}</pre>\n</details>",
            Text(&recipe)
        )?;
    }
    out.push_str("</section>\n");
    Ok(out)
}

fn tasks(out: &mut String, record: &StudyRecord) -> Result<()> {
    if record.tasks.is_empty() {
        return Ok(());
    }
    out.push_str("<h3>Tasks</h3>\n<div class=\"scroll\">\n<table>\n<thead><tr><th class=\"left\" scope=\"col\">task</th><th class=\"left\" scope=\"col\">group</th><th scope=\"col\">items reported</th><th scope=\"col\">items for choosing</th><th scope=\"col\">guessing</th><th class=\"left\" scope=\"col\">what is asked, and how it is scored</th></tr></thead>\n<tbody>\n");
    for task in &record.tasks {
        let guess = task.chance.map_or(NONE.into(), |chance| format!("{} %", percent(chance, 0)));
        let mut description = Text(&task.description).to_string();
        for (label, value) in [("score", &task.metric), ("version", &task.version)] {
            if !value.is_empty() {
                write!(description, " <span class=\"ci\">{label} {}</span>", Text(value))?;
            }
        }
        writeln!(
            out,
            "<tr><th class=\"left\" scope=\"row\">{}</th><td class=\"left\">{}</td><td>{}</td><td>{}</td><td>{guess}</td><td class=\"left prose\">{description}</td></tr>",
            Text(&task.name),
            Text(&task.group),
            task.n_report,
            task.n_select
        )?;
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    if !record.splits.is_empty() {
        out.push_str("<ul>\n");
        for split in &record.splits {
            writeln!(out, "<li>{}</li>", Text(split))?;
        }
        out.push_str("</ul>\n");
    }
    Ok(())
}

fn budget(out: &mut String, record: &StudyRecord) -> Result<()> {
    if record.budget.is_empty() {
        return Ok(());
    }
    let mut depths: Vec<usize> =
        record.budget.iter().flat_map(|line| line.depths.iter().map(|depth| depth.removed)).collect();
    depths.sort_unstable();
    depths.dedup();
    out.push_str("<h3>How the budget was decided</h3>\n<p class=\"small\">Retention in % with its one-sided 95 % lower bound, for each number of layers removed; ✓ where the bound reaches the threshold.</p>\n<div class=\"scroll\">\n<table>\n<thead><tr><th class=\"left\" scope=\"col\">for</th><th class=\"left\" scope=\"col\">chosen by</th><th scope=\"col\">keep</th><th scope=\"col\">layers</th>");
    for depth in &depths {
        write!(out, "<th scope=\"col\">−{depth}</th>")?;
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for line in &record.budget {
        let healed = if line.healed { ", healed" } else { "" };
        let most = line.max_layers.map_or(NONE.into(), |most| most.to_string());
        write!(
            out,
            "<tr><th class=\"left\" scope=\"row\">{}{healed}</th><td class=\"left\">{}</td><td>≥ {} %</td><td><strong>{most}</strong></td>",
            Text(&line.group),
            Text(&strategy_title(&line.strategy)),
            percent(line.threshold, 0)
        )?;
        for depth in &depths {
            out.push_str(&bound(line, *depth));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    Ok(())
}

fn bound(line: &BudgetLine, removed: usize) -> String {
    let Some(depth) = line.depths.iter().find(|depth| depth.removed == removed) else {
        return format!("<td>{NONE}</td>");
    };
    let mark = if depth.holds { " ✓" } else { "" };
    match depth.retention {
        Some(r) => {
            format!("<td>{} <span class=\"ci\">≥ {}</span>{mark}</td>", percent(r.value, 0), percent(r.lower95, 0))
        }
        None => format!("<td>{NONE}{mark}</td>"),
    }
}

fn healing(out: &mut String, record: &StudyRecord) -> Result<()> {
    let healed: Vec<(&Point, _)> =
        record.points.iter().filter_map(|point| Some((point, point.healed.as_ref()?))).collect();
    let Some((_, first)) = healed.first() else { return Ok(()) };
    out.push_str("<h3>Healing</h3>\n");
    if !first.recipe.is_empty() {
        writeln!(out, "<p>{}</p>", Text(&first.recipe))?;
    }
    out.push_str("<div class=\"scroll\">\n<table>\n<thead><tr><th class=\"left\" scope=\"col\">cut</th><th scope=\"col\">removed</th><th scope=\"col\">method</th><th scope=\"col\">examples</th><th scope=\"col\">tokens</th><th scope=\"col\">steps</th><th scope=\"col\">loss, first → last</th><th scope=\"col\">time</th></tr></thead>\n<tbody>\n");
    for (point, heal) in healed {
        writeln!(
            out,
            "<tr><th class=\"left\" scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{} → {}</td><td>{}</td></tr>",
            Text(&strategy_title(&point.strategy)),
            point.removed,
            Text(&heal.method),
            heal.examples,
            count(heal.tokens),
            heal.steps,
            short(heal.train_loss_first),
            short(heal.train_loss_last),
            duration(heal.seconds)
        )?;
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    Ok(())
}

fn timings(out: &mut String, record: &StudyRecord) -> Result<()> {
    if record.timings.is_empty() {
        return Ok(());
    }
    let total: f64 = record.timings.iter().map(|timing| timing.seconds).filter(|seconds| seconds.is_finite()).sum();
    out.push_str("<h3>Where the time went</h3>\n<div class=\"scroll\">\n<table>\n<thead><tr><th class=\"left\" scope=\"col\">stage</th><th scope=\"col\">time</th><th scope=\"col\">share</th><th scope=\"col\">cells</th><th scope=\"col\">found finished</th></tr></thead>\n<tbody>\n");
    for timing in &record.timings {
        writeln!(
            out,
            "<tr><th class=\"left\" scope=\"row\">{}</th><td>{}</td><td>{} %</td><td>{}</td><td>{}</td></tr>",
            Text(&timing.stage),
            duration(timing.seconds),
            percent(timing.seconds / total, 0),
            timing.cells,
            timing.cached
        )?;
    }
    writeln!(
        out,
        "<tr><th class=\"left\" scope=\"row\">all</th><td>{}</td><td></td><td></td><td></td></tr>\n</tbody>\n</table>\n</div>",
        duration(total)
    )?;
    Ok(())
}

fn identity(out: &mut String, record: &StudyRecord) -> Result<()> {
    out.push_str("<h3>Identity</h3>\n<dl class=\"facts\">\n");
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!("<div><dt>{}</dt><dd>{value}</dd></div>\n", Text(name)));
        }
    };
    fact("model", Text(&record.model.name).to_string());
    fact(
        "model hash",
        if record.model.hash.is_empty() { String::new() } else { format!("<code>{}</code>", Text(&record.model.hash)) },
    );
    fact(
        "seeds",
        record.seeds.iter().map(|seed| format!("{} {}", Text(&seed.name), seed.value)).collect::<Vec<_>>().join(", "),
    );
    fact("Lopper", Text(&record.lopper_version).to_string());
    fact("layout of the record", record.schema.to_string());
    out.push_str("</dl>\n");
    Ok(())
}
