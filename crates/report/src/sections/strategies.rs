//! Every way of choosing layers in one chart for each group: the main one emphasised, the others as what they are,
//! exploratory.

use lopper_record::study::Point;
use lopper_record::{Result, StudyRecord};

use crate::chart::{Line, Mark, Size, key, many_lines};
use crate::format::percent;
use crate::html::{Text, figure};
use crate::order::{groups, judged_mean, main_points, measure, plain, strategy_title};
use crate::sections::curves::{entry, floor_entry, thresholds};

const SIZE: Size = Size { width: 360, height: 300 };

/// The section, or nothing with fewer than two strategies.
pub fn html(record: &StudyRecord) -> Result<String> {
    let strategies = record.strategies();
    if strategies.len() < 2 {
        return Ok(String::new());
    }
    let thresholds = thresholds(record);
    let as_cut: Vec<Vec<&Point>> = strategies
        .iter()
        .map(|strategy| main_points(record, strategy).into_iter().filter(|point| point.healed.is_none()).collect())
        .collect();
    let deepest = as_cut.iter().flatten().map(|point| point.removed).max().unwrap_or(0).max(1);
    let mut charts = String::new();
    let mut shown: Vec<Line> = Vec::new();
    for group in groups(record) {
        let lines: Vec<Line> = as_cut
            .iter()
            .enumerate()
            .filter_map(|(number, points)| {
                let marks: Vec<Mark> = points.iter().filter_map(|point| mark(point, group)).collect();
                let marks = [vec![Mark::UNCUT], marks].concat();
                (marks.len() > 1).then_some(Line { number, emphasised: number == 0, dashed: false, marks })
            })
            .collect();
        if lines.is_empty() {
            continue;
        }
        let title = format!("{}, mean of the tasks", plain(group));
        let label = describe(&title, &lines, &strategies);
        let name = format!("strategies-{group}");
        let chart = many_lines(&lines, &thresholds, deepest, SIZE.drawing("small", &label).named(&name))?;
        charts.push_str(&figure(&title, &chart));
        shown = if lines.len() > shown.len() { lines } else { shown };
    }
    let mut out = format!(
        "<section id=\"strategies\">\n<h2>Ways to choose the layers</h2>\n<p>Cuts without healing. Up: {}. The budget \
         is about <strong>{}</strong>, which was chosen on other items. The other lines are <strong>exploratory: not \
         corrected for choosing among strategies</strong>. Taking the best of them here would look better than it \
         is.</p>\n<ul class=\"legend\">\n",
        measure(record),
        Text(&strategy_title(strategies[0]))
    );
    if let Some(objective) = &record.objective {
        let tasks: Vec<String> = objective.tasks.iter().map(|task| plain(task)).collect();
        let by = format!("Layers and the main strategy were chosen by these tasks only: {}.", tasks.join(", "));
        out = out.replacen("</p>\n<ul class", &format!("</p>\n<p>{}</p>\n<ul class", Text(&by)), 1);
    }
    for line in &shown {
        let role = if line.emphasised { "the main one" } else { "exploratory" };
        out.push_str(&entry(&key(line), &format!("{} ({role})", strategy_title(strategies[line.number]))));
    }
    out.push_str(&floor_entry(&thresholds));
    out.push_str(&format!("</ul>\n<div class=\"multiples\">\n{charts}</div>\n</section>\n"));
    Ok(out)
}

fn mark(point: &Point, group: &str) -> Option<Mark> {
    let kept = judged_mean(point.group(group)?)?;
    Some(Mark { removed: point.removed, value: kept.value, ci95: kept.ci95, at_chance: false })
}

/// The chart in words.
fn describe(title: &str, lines: &[Line], strategies: &[&str]) -> String {
    let mut out = format!("{title}, kept against layers removed.");
    for line in lines {
        let values = line.marks.iter().map(|mark| format!("{} removed {} %", mark.removed, percent(mark.value, 0)));
        out.push_str(&format!(
            " {}: {}.",
            strategy_title(strategies[line.number]),
            values.collect::<Vec<_>>().join(", ")
        ));
    }
    out
}
