//! How the budget was decided: the retention that is judged and its bound, at each depth and for everything that is to
//! be kept.

use std::fmt::Write as _;

use lopper_record::study::{BudgetLine, Scope, Verdict};
use lopper_record::{Result, StudyRecord};

use crate::format::{NONE, percent};
use crate::html::Column::{Left, Right};
use crate::html::{TABLE_END, Text, row_head, table_start, titled_table};
use crate::order::{plain, strategy_title};

/// The table, or nothing before a budget was decided.
pub fn html(record: &StudyRecord) -> Result<String> {
    if record.budget.is_empty() {
        return Ok(String::new());
    }
    let mut depths: Vec<usize> =
        record.budget.iter().flat_map(|line| line.depths.iter().map(|depth| depth.removed)).collect();
    depths.sort_unstable();
    depths.dedup();
    let removed: Vec<String> = depths.iter().map(|depth| format!("−{depth}")).collect();
    let mut columns = vec![Left("to keep"), Left("chosen by"), Right("floor"), Right("layers")];
    columns.extend(removed.iter().map(|name| Right(name)));
    let mut out = table_start("How the budget was decided", &columns);
    out.push_str("<tbody>\n");
    for line in &record.budget {
        let healed = if line.healed { ", healed" } else { "" };
        let most = line.max_layers.map_or("?".into(), |most| most.to_string());
        let what = what(line);
        write!(out, "<tr>{}", row_head(&format!("{what}{healed}")))?;
        write!(out, "<td class=\"left\">{}</td>", Text(&strategy_title(&line.strategy)))?;
        write!(out, "<td>≥ {} %</td><td><strong>{most}</strong></td>", percent(line.threshold, 0))?;
        for depth in &depths {
            out.push_str(&bound(line, *depth));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n");
    out.push_str(TABLE_END);
    out.push_str(
        "<p class=\"small\">For each number of layers removed: what is kept in %, above chance where tasks have a score \
         of guessing, with its one-sided 95 % lower bound. ✓ holds: the lower bound reaches the floor; ✗ fails: the \
         upper bound is below it; ? undecided: neither, there are too few items.</p>\n",
    );
    Ok(titled_table("How the budget was decided", record.budget.len(), &out))
}

/// What a line demands to be kept, in a few words.
pub fn what(line: &BudgetLine) -> String {
    match (&line.task, line.scope) {
        (Some(task), Scope::Task) => plain(task),
        (_, Scope::Task) => line.tasks.first().map_or_else(|| line.group.clone(), |task| plain(task)),
        (_, Scope::Worst) => format!("each {} task", line.group),
        (_, Scope::Mean) => format!("{}, mean", line.group),
    }
}

/// The sign of a verdict.
pub fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "✓",
        Verdict::Fails => "✗",
        Verdict::Undecided => "?",
    }
}

fn bound(line: &BudgetLine, removed: usize) -> String {
    let Some(depth) = line.depths.iter().find(|depth| depth.removed == removed) else {
        return format!("<td>{NONE}</td>");
    };
    // Records of before have no verdicts.
    let sign = sign(if depth.holds { Verdict::Holds } else { depth.verdict });
    match depth.retention {
        Some(r) => {
            format!("<td>{} <span class=\"ci\">≥ {}</span> {sign}</td>", percent(r.value, 0), percent(r.lower95, 0))
        }
        None => format!("<td>{NONE} {sign}</td>"),
    }
}
