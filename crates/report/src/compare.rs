//! Several studies in one page: their answers, their budgets, and what they keep against layers removed; first of all,
//! where their figures cannot be compared.

use std::collections::BTreeSet;

use lopper_record::study::{BudgetLine, Point, Scope};
use lopper_record::{Result, StudyRecord};

use crate::answer::answer;
use crate::chart::{Line, Mark, Size, key, many_lines};
use crate::format::{NONE, count, percent};
use crate::html::Column::{Left, Right};
use crate::html::{TABLE_END, Text, figure, page, row_head, table_start, titled_table};
use crate::order::{groups, judged_mean, main_points, measure, plain, strategy_title};
use crate::sections::curves::{entry, floor_entry, thresholds};
use crate::sections::decision::what;
use crate::sections::headline::calls;

mod differences;

use differences::differences;

const SIZE: Size = Size { width: 360, height: 300 };

/// A study to compare.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// What it is called in the page: its directory.
    pub name: String,
    /// Its record.
    pub record: StudyRecord,
}

/// The studies side by side as one self-contained HTML document.
pub fn compare(studies: &[Compared]) -> Result<String> {
    let names: Vec<String> = studies.iter().map(|study| study.name.clone()).collect();
    let mut body = format!(
        "<header>\n<p class=\"kicker\">Lopper {} · depth budgets</p>\n<h1>{} studies compared</h1>\n<p \
         class=\"card\">{}</p>\n</header>\n",
        env!("CARGO_PKG_VERSION"),
        studies.len(),
        Text(&names.join(" · "))
    );
    body.push_str(&answers(studies));
    body.push_str(&notes(studies));
    body.push_str(&curves(studies)?);
    body.push_str(&budgets(studies));
    Ok(page(&format!("Compared: {}", names.join(", ")), &body))
}

/// Each study's answer in a row.
fn answers(studies: &[Compared]) -> String {
    let columns = [
        Left("study"),
        Left("model"),
        Right("layers"),
        Right("may go"),
        Left("which"),
        Left("to keep"),
        Left("healed on"),
        Left("chosen by"),
        Right("items"),
    ];
    let mut out = String::from("<section id=\"answers\">\n<h2>How many layers each study lets go</h2>\n");
    out.push_str(&table_start("Answers", &columns));
    out.push_str("<tbody>\n");
    for Compared { name, record } in studies {
        let answer = answer(record);
        let line = answer.map(|answer| answer.line);
        let cut = answer.and_then(|answer| answer.cut);
        let most = line.map_or(NONE.into(), |line| line.max_layers.map_or("undecided".into(), |most| most.to_string()));
        let healed =
            cut.and_then(|cut| cut.healed.as_ref()).map_or(NONE.to_owned(), |healed| match healed.data.as_str() {
                "" => healed.method.clone(),
                data => data.to_owned(),
            });
        let keep = line.map_or(NONE.into(), |line| format!("≥ {} % of {}", percent(line.threshold, 0), what(line)));
        let items = line.and_then(|line| line.depths.iter().find_map(|depth| Some(depth.retention?.n)));
        out.push_str(&format!(
            "<tr>{}<td class=\"left\">{}</td><td>{}</td><td><strong class=\"most\">{most}</strong></td><td \
             class=\"left\">{}</td><td class=\"left\">{}</td><td class=\"left prose\">{}</td><td \
             class=\"left\">{}</td><td>{}</td></tr>\n",
            row_head(name),
            Text(&record.model.name),
            record.model.num_layers,
            cut.map_or(NONE.to_owned(), |cut| cut.dropped.to_string()),
            Text(&keep),
            Text(&healed),
            Text(&strategy_title(line.map_or(record.main_strategy.as_str(), |line| line.strategy.as_str()))),
            items.map_or(NONE.to_owned(), |items| items.to_string()),
        ));
    }
    out.push_str("</tbody>\n");
    out.push_str(TABLE_END);
    out.push_str("<ul class=\"budget\">\n");
    for Compared { name, record } in studies {
        let sentence =
            answer(record).map_or("No depth budget has been decided.".into(), |answer| record.statement(answer.line));
        out.push_str(&format!("<li><strong>{}</strong>: {}</li>\n", Text(name), Text(&sentence)));
    }
    out.push_str("</ul>\n</section>\n");
    out
}

fn notes(studies: &[Compared]) -> String {
    let found = differences(studies);
    let (title, text) = match found.is_empty() {
        true => (
            "These studies can be compared",
            "<p>They have the same tasks in the same versions, items drawn with the same seed, and answers produced in \
             the same way.</p>\n"
                .to_owned(),
        ),
        false => {
            let items: String = found.iter().map(|note| format!("<li>{}</li>\n", Text(note))).collect();
            ("Where figures cannot be compared", format!("<ul>\n{items}</ul>\n"))
        }
    };
    let class = if found.is_empty() { "" } else { " class=\"note\"" };
    format!("<section id=\"differences\">\n<h2>{title}</h2>\n<div{class}>\n{text}</div>\n</section>\n")
}

/// A chart for each group, with each study's main strategy as cut and healed.
fn curves(studies: &[Compared]) -> Result<String> {
    let mut all: Vec<&str> = Vec::new();
    for study in studies {
        all.extend(groups(&study.record));
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    all.retain(|group| seen.insert(*group));
    let mut floors: Vec<f64> = studies.iter().flat_map(|study| thresholds(&study.record)).collect();
    floors.sort_unstable_by(f64::total_cmp);
    floors.dedup();
    let deepest = studies.iter().flat_map(|study| &study.record.points).map(|point| point.removed).max().unwrap_or(1);
    let (mut charts, mut keys) = (String::new(), Vec::<(String, String)>::new());
    for group in all {
        let mut lines: Vec<Line> = Vec::new();
        let mut words = format!("{}, mean of the tasks, kept against layers removed.", plain(group));
        for (number, study) in studies.iter().enumerate() {
            for healed in [false, true] {
                let Some(line) = line(&study.record, number, group, healed) else { continue };
                let state = if healed { "healed" } else { "as cut" };
                let name = format!("{}, {state}", study.name);
                let values: Vec<String> = line
                    .marks
                    .iter()
                    .map(|mark| format!("{} removed {} %", mark.removed, percent(mark.value, 0)))
                    .collect();
                words.push_str(&format!(" {name}: {}.", values.join(", ")));
                if !keys.iter().any(|(other, _)| *other == name) {
                    keys.push((name.clone(), entry(&key(&line), &name)));
                }
                lines.push(line);
            }
        }
        if !lines.is_empty() {
            let chart = many_lines(&lines, &floors, deepest.max(1), SIZE.drawing("small", &words))?;
            charts.push_str(&figure(&format!("{}, mean of the tasks", plain(group)), &chart));
        }
    }
    if charts.is_empty() {
        return Ok(charts);
    }
    let keys: String = keys.into_iter().map(|(_, entry)| entry).collect();
    let measure = studies.iter().map(|study| measure(&study.record)).max_by_key(|text| text.len()).unwrap_or_default();
    Ok(format!(
        "<section id=\"curves\">\n<h2>What each keeps</h2>\n<p>Each study’s main strategy. Up: {measure}. Dashed: as cut; \
         solid: healed; bars are 95 % intervals.</p>\n<ul class=\"legend\">\n{keys}{}</ul>\n<div \
         class=\"multiples\">\n{charts}</div>\n</section>\n",
        floor_entry(&floors)
    ))
}

fn line(record: &StudyRecord, number: usize, group: &str, healed: bool) -> Option<Line> {
    let main = record.strategies().first().copied().unwrap_or_default().to_owned();
    let mark = |point: &&Point| {
        let kept = judged_mean(point.group(group)?)?;
        Some(Mark { removed: point.removed, value: kept.value, ci95: kept.ci95, at_chance: false })
    };
    let points = main_points(record, &main).into_iter().filter(|point| point.healed.is_some() == healed);
    let marks: Vec<Mark> = points.collect::<Vec<_>>().iter().filter_map(mark).collect();
    let marks = [vec![Mark::UNCUT], marks].concat();
    (marks.len() > 1).then_some(Line { number, emphasised: healed, dashed: !healed, marks })
}

/// A row for everything that is to be kept, a column for each study.
fn budgets(studies: &[Compared]) -> String {
    type Key = (String, u8, String, bool, u64);
    let key = |line: &BudgetLine| -> Key {
        let order = match line.scope {
            Scope::Worst => 0,
            Scope::Task => 1,
            Scope::Mean => 2,
        };
        (line.group.clone(), order, what(line), line.healed, line.threshold.to_bits())
    };
    let main = |study: &Compared| -> Vec<BudgetLine> {
        let lines = study.record.budget.iter();
        lines.filter(|line| line.strategy == study.record.main_strategy).cloned().collect()
    };
    let lines: Vec<Vec<BudgetLine>> = studies.iter().map(main).collect();
    let mut keys: Vec<Key> = lines.iter().flatten().map(key).collect();
    keys.sort();
    keys.dedup();
    if keys.is_empty() {
        return String::new();
    }
    let mut columns = vec![Left("to keep"), Right("floor")];
    columns.extend(studies.iter().map(|study| Left(&study.name)));
    let mut out = table_start("Budgets", &columns);
    out.push_str("<tbody>\n");
    for own in &keys {
        let (_, _, what, healed, floor) = own;
        let state = if *healed { ", healed" } else { "" };
        out.push_str(&format!("<tr>{}", row_head(&format!("{what}{state}"))));
        out.push_str(&format!("<td>≥ {} %</td>", percent(f64::from_bits(*floor), 0)));
        for of_study in &lines {
            out.push_str(&match of_study.iter().find(|line| key(line) == *own) {
                None => format!("<td class=\"left\">{NONE}</td>"),
                Some(line) => {
                    let most = line.max_layers.map_or("?".to_owned(), |most| most.to_string());
                    format!("<td class=\"left\"><strong class=\"most\">{most}</strong> {}</td>", calls(line))
                }
            });
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n");
    out.push_str(TABLE_END);
    let sizes: Vec<String> = studies
        .iter()
        .map(|study| format!("{}: {} parameters", study.name, count(study.record.model.parameters)))
        .collect();
    out.push_str(&format!("<p class=\"small\">{}</p>\n", Text(&sizes.join("; "))));
    format!(
        "<section id=\"budgets\">\n<h2>Depth budgets</h2>\n{}</section>\n",
        titled_table("Layers that may go", keys.len(), &out)
    )
}
