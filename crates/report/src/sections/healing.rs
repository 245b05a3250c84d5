//! How cuts were healed: the recipe, what was learned from, the losses, and what seeds and data change.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lopper_record::study::{CheckedAnswers, HealInfo, HealingRole, Point};
use lopper_record::{Result, StudyRecord};

use crate::format::{NONE, count, duration, short};
use crate::html::Column::{Left, Right};
use crate::html::{TABLE_END, Text, row_head, table_start, titled_table};
use crate::order::strategy_title;

/// The recipes and the table, or nothing where no cut was healed.
pub fn html(record: &StudyRecord) -> Result<String> {
    let healed: Vec<(&Point, &HealInfo)> =
        record.points.iter().filter_map(|point| Some((point, point.healed.as_ref()?))).collect();
    if healed.is_empty() {
        return Ok(String::new());
    }
    let distinct = |read: &dyn Fn(&HealInfo) -> String| {
        let mut texts: Vec<String> =
            healed.iter().map(|(_, heal)| read(heal)).filter(|text| !text.is_empty()).collect();
        texts.dedup();
        texts
    };
    let mut notes = String::new();
    for text in distinct(&|heal| heal.recipe.clone())
        .into_iter()
        .chain(distinct(&|heal| match heal.data.as_str() {
            "" => String::new(),
            data if heal.in_distribution => format!("Data: {data}; in-distribution."),
            data => format!("Data: {data}."),
        }))
        .chain(distinct(&|heal| heal.answers.map_or(String::new(), |answers| format!("{}.", answers.sentence()))))
        .chain(distinct(&|heal| {
            CheckedAnswers::sentence(&heal.checked).map_or(String::new(), |text| format!("{text}."))
        }))
        .chain(distinct(&|heal| overlap(&heal.overlap)))
    {
        writeln!(notes, "<p>{}</p>", Text(&text))?;
    }
    let held_out = healed.iter().any(|(_, heal)| heal.held_out_loss_last.is_some());
    let roles = healed.iter().any(|(_, heal)| heal.role != HealingRole::Main);
    let mut columns = vec![Left("cut"), Right("removed")];
    if roles {
        columns.push(Left("for"));
    }
    columns.extend([Right("method"), Right("examples"), Right("tokens"), Right("steps"), Right("training loss")]);
    if held_out {
        columns.push(Right("held-out loss"));
    }
    columns.push(Right("time"));
    let mut out = table_start("Healing", &columns);
    out.push_str("<tbody>\n");
    for (point, heal) in &healed {
        write!(out, "<tr>{}<td>{}</td>", row_head(&strategy_title(&point.strategy)), point.removed)?;
        if roles {
            write!(out, "<td class=\"left\">{}</td>", role(heal))?;
        }
        write!(out, "<td>{}</td><td>{}</td>", Text(&heal.method), heal.examples)?;
        write!(out, "<td>{}</td><td>{}</td>", count(heal.tokens), heal.steps)?;
        write!(out, "<td>{}</td>", fall(Some(heal.train_loss_first), Some(heal.train_loss_last)))?;
        if held_out {
            let doubt = if heal.doubt_of_loss().is_some() { " <strong>did not fall</strong>" } else { "" };
            write!(out, "<td>{}{doubt}</td>", fall(heal.held_out_loss_first, heal.held_out_loss_last))?;
        }
        writeln!(out, "<td>{}</td></tr>", duration(heal.seconds))?;
    }
    out.push_str("</tbody>\n");
    out.push_str(TABLE_END);
    Ok(format!("<h3>Healing</h3>\n{notes}{}", titled_table("Finetuning of each cut", healed.len(), &out)))
}

/// What was left out because an evaluated item was in it.
fn overlap(overlap: &BTreeMap<String, usize>) -> String {
    let of: Vec<String> = overlap.iter().map(|(task, count)| format!("{count} with items of {task}")).collect();
    if of.is_empty() { String::new() } else { format!("Left out for overlap: {}.", of.join(", ")) }
}

/// What a healed model is for, in a few words.
pub fn role(heal: &HealInfo) -> String {
    match heal.role {
        HealingRole::Main => "the budget".into(),
        HealingRole::Seed => format!("comparison, seed {}", heal.seed),
        HealingRole::Control => "control, reference answers".into(),
    }
}

fn fall(first: Option<f64>, last: Option<f64>) -> String {
    match (first, last) {
        (Some(first), Some(last)) => format!("{} → {}", short(first), short(last)),
        _ => NONE.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rejected_and_what_overlapped_is_said() {
        let task = |task: &str, answers, right| CheckedAnswers { task: task.to_owned(), answers, right };
        let healed = HealInfo {
            checked: vec![task("gsm8k", 40, 30), task("mbpp", 10, 10)],
            overlap: [("arc_easy".to_owned(), 3)].into(),
            ..HealInfo::default()
        };
        let of = |healed: &HealInfo| {
            let point = Point { healed: Some(healed.clone()), ..Point::default() };
            html(&StudyRecord { points: vec![point], ..StudyRecord::default() }).unwrap()
        };
        let page = of(&healed);
        assert!(page.contains("10 of 50 rejected (20.0 %): gsm8k 10 of 40 rejected (25.0 %), mbpp 0 of 10"), "{page}");
        assert!(page.contains("Left out for overlap: 3 with items of arc_easy."), "{page}");
        let page = of(&HealInfo::default());
        assert!(!page.contains("rejected") && !page.contains("overlap"), "{page}");
    }
}
