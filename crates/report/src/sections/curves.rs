//! What is kept against layers removed, by the main strategy: each group's mean, and each task by itself, as cut and
//! healed.

use lopper_record::study::{Point, TaskMeta, TaskResult};
use lopper_record::{Result, Retention, StudyRecord};

use crate::answer::floor;
use crate::chart::{Mark, Series, Size, lines};
use crate::format::percent;
use crate::html::{Text, figure, multiples};
use crate::order::{groups, judged, judged_mean, main_points, measure, plain, strategy_title, tasks_by_group};
use crate::sections::describe;

const WIDE: Size = Size { width: 860, height: 400 };
const NARROW: Size = Size { width: 360, height: 330 };
const SMALL: Size = Size { width: 360, height: 250 };

/// The charts, or nothing before the first point.
pub fn html(record: &StudyRecord) -> Result<String> {
    let strategies = record.strategies();
    let Some(main) = strategies.first() else { return Ok(String::new()) };
    let groups = groups(record);
    let points = main_points(record, main);
    let deepest = points.iter().map(|point| point.removed).max().unwrap_or(0).max(1);
    let thresholds = thresholds(record);
    let mut series = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        series.extend(series_of(index, &points, |point| {
            let result = point.group(group)?;
            Some((judged_mean(result)?, false))
        }));
    }
    let name = |group: usize| format!("{}, ", groups.get(group).unwrap_or(&""));
    let label = describe("Kept against layers removed.", &series, name);
    let mut out = format!(
        "<section id=\"curves\">\n<h2>What is lost with each layer, and what healing brings back</h2>\n<p>Layers \
         chosen by {}. Up: {}; bars are 95 % intervals.</p>\n",
        Text(&strategy_title(main)),
        measure(record)
    );
    out.push_str(&legend(&groups, &series, &thresholds));
    out.push_str("<figure>\n<figcaption>Mean of each group’s tasks</figcaption>\n");
    let wide = WIDE.drawing("wide", &label).named("kept-by-group");
    out.push_str(&lines(&series, &thresholds, deepest, wide)?);
    out.push_str(&lines(&series, &thresholds, deepest, NARROW.drawing("narrow", ""))?);
    out.push_str("</figure>\n");
    out.push_str(&by_task(record, &groups, &points, deepest)?);
    out.push_str("</section>\n");
    Ok(out)
}

/// A small chart for each task.
fn by_task(record: &StudyRecord, groups: &[&str], points: &[&Point], deepest: usize) -> Result<String> {
    let thresholds = thresholds(record);
    let mut small = String::new();
    let mut any_at_chance = false;
    for task in tasks_by_group(record) {
        let group = groups.iter().position(|group| *group == task.group).unwrap_or(0);
        let at_chance = |result: &TaskResult| result.is_at_chance();
        let series = series_of(group, points, |point| {
            let result = point.task(&task.name)?;
            Some((judged(result)?, at_chance(result)))
        });
        if series.is_empty() {
            continue;
        }
        let crossed = series.iter().flat_map(|line| &line.marks).any(|mark| mark.at_chance);
        any_at_chance |= crossed;
        let title = format!("{} ({})", plain(&task.name), plain(&task.group));
        let mut label = describe(&format!("{title}: kept against layers removed."), &series, |_| String::new());
        if crossed {
            let at: Vec<String> =
                series[0].marks.iter().filter(|mark| mark.at_chance).map(|mark| mark.removed.to_string()).collect();
            if !at.is_empty() {
                label.push_str(&format!(" As cut at chance with {} removed.", at.join(", ")));
            }
        }
        let name = format!("kept-{}", task.name);
        let chart = lines(&series, &thresholds, deepest, SMALL.drawing("small", &label).named(&name))?;
        small.push_str(&figure(&title, &format!("{chart}{}", note(record, task, points))));
    }
    let mut out = multiples("Each task", &small);
    if !out.is_empty() {
        out.push_str("<p class=\"small\">Hollow marks on dashed lines: as cut. Filled marks on solid lines: healed. Dotted: the floor.");
        if any_at_chance {
            out.push_str(" Crossed out: the score may be that of guessing, which is 0 % here.");
        }
        out.push_str("</p>\n");
    }
    Ok(out)
}

/// What a task's chart does not show.
fn note(record: &StudyRecord, task: &TaskMeta, points: &[&Point]) -> String {
    let own = |point: &&Point| point.task(&task.name).is_some_and(|result| result.corrected.is_some());
    let left_out = record.headlines().iter().any(|line| line.left_out.contains(&task.name));
    match left_out && !points.iter().any(own) {
        true => {
            "<p class=\"small\">Cut ÷ uncut score; not judged, because the uncut model scores too little.</p>\n".into()
        }
        false => String::new(),
    }
}

/// The floors, in ascending order.
pub fn thresholds(record: &StudyRecord) -> Vec<f64> {
    let floors = record.budget.iter().map(|line| line.threshold).chain(floor(record));
    let mut thresholds: Vec<f64> = floors.filter(|threshold| threshold.is_finite()).collect();
    thresholds.sort_unstable_by(f64::total_cmp);
    thresholds.dedup();
    thresholds
}

/// The lines as cut and healed of what `read` reads: the retention, and whether it may be that of guessing.
pub fn series_of(group: usize, points: &[&Point], read: impl Fn(&Point) -> Option<(Retention, bool)>) -> Vec<Series> {
    let mut all = Vec::new();
    for healed in [false, true] {
        let own = points.iter().filter(|point| point.healed.is_some() == healed);
        let mut marks: Vec<Mark> = own
            .filter_map(|point| {
                let (retention, at_chance) = read(point)?;
                Some(Mark { removed: point.removed, value: retention.value, ci95: retention.ci95, at_chance })
            })
            .collect();
        if marks.is_empty() {
            continue;
        }
        // The uncut model keeps everything by definition; both lines start from it.
        if marks[0].removed != 0 {
            marks.insert(0, Mark::UNCUT);
        }
        all.push(Series { group, healed, marks });
    }
    all
}

/// Each group's two lines as they are drawn.
fn legend(groups: &[&str], series: &[Series], thresholds: &[f64]) -> String {
    let mut out = String::from("<ul class=\"legend\">\n");
    for line in series {
        let colour = line.group % 4;
        let (dash, fill, state) = match line.healed {
            true => ("none", format!("var(--g{colour})"), "healed"),
            false => ("6 5", "var(--surface)".to_owned(), "as cut"),
        };
        let paint = format!("fill=\"{fill}\" stroke=\"var(--g{colour})\" stroke-width=\"2\"");
        let mark = match line.group % 2 {
            0 => format!("<circle cx=\"20\" cy=\"8\" r=\"4\" {paint} />"),
            _ => format!("<rect x=\"16\" y=\"4\" width=\"8\" height=\"8\" {paint} />"),
        };
        let stroke = format!("stroke=\"var(--g{colour})\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"");
        let name = format!("{}, {state}", groups.get(line.group).unwrap_or(&""));
        out.push_str(&entry(&format!("<path d=\"M0 8H40\" {stroke} />{mark}"), &name));
    }
    out.push_str(&floor_entry(thresholds));
    out.push_str("</ul>\n");
    out
}

/// The floors in a legend.
pub fn floor_entry(thresholds: &[f64]) -> String {
    if thresholds.is_empty() {
        return String::new();
    }
    let shares: Vec<String> = thresholds.iter().map(|threshold| percent(*threshold, 0)).collect();
    let path = "<path d=\"M0 8H40\" stroke=\"var(--muted)\" stroke-width=\"1\" stroke-dasharray=\"2 4\" />";
    entry(path, &format!("floor: {} % kept", shares.join(", ")))
}

/// A drawing with its name.
pub fn entry(drawing: &str, name: &str) -> String {
    let head = "<svg class=\"key\" viewBox=\"0 0 40 16\" aria-hidden=\"true\">";
    format!("<li>{head}{drawing}</svg>{}</li>\n", Text(name))
}
