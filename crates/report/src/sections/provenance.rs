//! Everything needed to judge the numbers and to get them again: warnings, tasks with their item
//! counts, splits, every budget decision, healing, seeds, hashes, timings, the recipe.

use std::fmt::Write as _;

use lopper_record::study::{BudgetLine, HealInfo, Point, Verdict};
use lopper_record::{Result, StudyRecord};

use crate::format::{NONE, count, duration, percent, short};
use crate::html::Column::{Left, Right};
use crate::html::{TABLE_END, Text, row_head, table_start};
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
        writeln!(out, "<h3>Reproduce</h3>\n<pre>{}</pre>", Text(&record.command))?;
    }
    tasks(&mut out, record)?;
    budget(&mut out, record)?;
    healing(&mut out, record)?;
    timings(&mut out, record)?;
    identity(&mut out, record)?;
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
    out.push_str("<h3>Tasks</h3>\n");
    out.push_str(&table_start(&[
        Left("task"),
        Left("group"),
        Right("items reported"),
        Right("for choosing"),
        Right("chance"),
        Left("what is tested, and how it is scored"),
    ]));
    out.push_str("<tbody>\n");
    for task in &record.tasks {
        let guess = task.chance.map_or(NONE.into(), |chance| format!("{} %", percent(chance, 0)));
        let mut description = Text(&task.description).to_string();
        for (label, value) in [("score", &task.metric), ("version", &task.version)] {
            if !value.is_empty() {
                write!(description, " <span class=\"ci\">{label} {}</span>", Text(value))?;
            }
        }
        write!(out, "<tr>{}<td class=\"left\">{}</td>", row_head(&task.name), Text(&task.group))?;
        write!(out, "<td>{}</td><td>{}</td><td>{guess}</td>", task.n_report, task.n_select)?;
        writeln!(out, "<td class=\"left prose\">{description}</td></tr>")?;
    }
    out.push_str("</tbody>\n");
    out.push_str(TABLE_END);
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
    out.push_str(
        "<h3>How the budget was decided</h3>\n<p class=\"small\">Retention in % with its one-sided 95 % lower \
         bound, for each number of layers removed; ✓ if the bound reaches the threshold, ✗ if the upper bound is below \
         it.</p>\n",
    );
    let removed: Vec<String> = depths.iter().map(|depth| format!("−{depth}")).collect();
    let mut columns = vec![Left("for"), Left("chosen by"), Right("keep"), Right("layers")];
    columns.extend(removed.iter().map(|name| Right(name)));
    out.push_str(&table_start(&columns));
    out.push_str("<tbody>\n");
    for line in &record.budget {
        let healed = if line.healed { ", healed" } else { "" };
        let most = line.max_layers.map_or(NONE.into(), |most| most.to_string());
        let strategy = strategy_title(&line.strategy);
        write!(out, "<tr>{}", row_head(&format!("{}{healed}", line.group)))?;
        write!(out, "<td class=\"left\">{}</td><td>≥ {} %</td>", Text(&strategy), percent(line.threshold, 0))?;
        write!(out, "<td><strong>{most}</strong></td>")?;
        for depth in &depths {
            out.push_str(&bound(line, *depth));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n");
    out.push_str(TABLE_END);
    Ok(())
}

fn bound(line: &BudgetLine, removed: usize) -> String {
    let Some(depth) = line.depths.iter().find(|depth| depth.removed == removed) else {
        return format!("<td>{NONE}</td>");
    };
    let mark = match depth.verdict {
        _ if depth.holds => " ✓",
        Verdict::Fails => " ✗",
        Verdict::Holds | Verdict::Undecided => "",
    };
    match depth.retention {
        Some(r) => {
            format!("<td>{} <span class=\"ci\">≥ {}</span>{mark}</td>", percent(r.value, 0), percent(r.lower95, 0))
        }
        None => format!("<td>{NONE}{mark}</td>"),
    }
}

fn healing(out: &mut String, record: &StudyRecord) -> Result<()> {
    let healed: Vec<(&Point, &HealInfo)> =
        record.points.iter().filter_map(|point| Some((point, point.healed.as_ref()?))).collect();
    if healed.is_empty() {
        return Ok(());
    }
    out.push_str("<h3>Healing</h3>\n");
    let mut recipes: Vec<&str> = healed.iter().map(|(_, heal)| heal.recipe.as_str()).collect();
    recipes.retain(|recipe| !recipe.is_empty());
    recipes.sort_unstable();
    recipes.dedup();
    for recipe in recipes {
        writeln!(out, "<p>{}</p>", Text(recipe))?;
    }
    out.push_str(&table_start(&[
        Left("cut"),
        Right("removed"),
        Right("method"),
        Right("examples"),
        Right("tokens"),
        Right("steps"),
        Right("loss, first → last"),
        Right("time"),
    ]));
    out.push_str("<tbody>\n");
    for (point, heal) in healed {
        let (first, last) = (short(heal.train_loss_first), short(heal.train_loss_last));
        write!(out, "<tr>{}", row_head(&strategy_title(&point.strategy)))?;
        write!(out, "<td>{}</td><td>{}</td><td>{}</td>", point.removed, Text(&heal.method), heal.examples)?;
        write!(out, "<td>{}</td><td>{}</td><td>{first} → {last}</td>", count(heal.tokens), heal.steps)?;
        writeln!(out, "<td>{}</td></tr>", duration(heal.seconds))?;
    }
    out.push_str("</tbody>\n");
    out.push_str(TABLE_END);
    Ok(())
}

fn timings(out: &mut String, record: &StudyRecord) -> Result<()> {
    if record.timings.is_empty() {
        return Ok(());
    }
    let total: f64 = record.timings.iter().map(|timing| timing.seconds).filter(|seconds| seconds.is_finite()).sum();
    out.push_str("<h3>Where the time went</h3>\n");
    out.push_str(&table_start(&[
        Left("stage"),
        Right("time"),
        Right("share"),
        Right("cells"),
        Right("from an earlier run"),
    ]));
    out.push_str("<tbody>\n");
    for timing in &record.timings {
        let share = percent(timing.seconds / total, 0);
        write!(out, "<tr>{}<td>{}</td><td>{share} %</td>", row_head(&timing.stage), duration(timing.seconds))?;
        writeln!(out, "<td>{}</td><td>{}</td></tr>", timing.cells, timing.cached)?;
    }
    writeln!(out, "<tr>{}<td>{}</td><td></td><td></td><td></td></tr>", row_head("all"), duration(total))?;
    out.push_str("</tbody>\n");
    out.push_str(TABLE_END);
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
