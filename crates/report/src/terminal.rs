//! The end of a study on the terminal: what each depth keeps, and the budget.

use lopper_record::study::Point;
use lopper_record::{Retention, StudyRecord, format_ranges};

use crate::format::{NONE, percent, percent_interval};
use crate::order::{groups, has_chance, judged_mean, main_points, strategy_title};

/// A table no wider than `width` columns where that is possible: the list of layers goes first,
/// then the intervals. With `colour` a retention is green from 90 %, yellow from 50 %, red below;
/// the number says the same.
pub fn terminal_table(record: &StudyRecord, width: usize, colour: bool) -> String {
    let mut out = String::new();
    if !record.points.is_empty() {
        let detail = [
            Detail { layers: true, intervals: true },
            Detail { layers: false, intervals: true },
            Detail { layers: false, intervals: false },
        ];
        let tables: Vec<Vec<Vec<Cell>>> = detail.iter().map(|detail| rows(record, *detail)).collect();
        let fitting = tables.iter().find(|table| widths(table).iter().map(|w| w + 2).sum::<usize>() <= width + 2);
        if let Some(table) = fitting.or(tables.last()) {
            out.push_str(&layout(table, colour));
        }
        let score = if has_chance(record) { "score above chance" } else { "score" };
        out.push_str(&paint(&format!("retention: % of the uncut model's {score} [95 % interval]\n"), DIM, colour));
    }
    out.push_str(&paint(&warnings(record), ALARM, colour));
    for line in record.headlines() {
        out.push_str(&format!("\n{}\n", plain(&record.statement(line))));
    }
    if !record.complete {
        out.push_str("\nThe study has not finished; the same command continues it.");
    }
    let trimmed = out.trim_matches('\n').len();
    out.truncate(out.trim_end_matches('\n').len());
    if trimmed > 0 {
        out.push('\n');
    }
    out
}

const BOLD: &str = "1";
const DIM: &str = "2";
const ALARM: &str = "33";

/// The main strategy's gap alarm at its shallowest cut that has one, and the strategies that ended early.
fn warnings(record: &StudyRecord) -> String {
    let mut out = String::new();
    let main = record.strategies().first().copied().unwrap_or_default().to_owned();
    let alarmed = main_points(record, &main).into_iter().find(|point| point.healed.is_none() && point.gap.is_some());
    if let Some((point, gap)) = alarmed.and_then(|point| Some((point, point.gap.as_ref()?))) {
        let title = strategy_title(&main);
        out.push_str(&plain(&format!(
            "gap alarm from {} layers removed by {title}: {}",
            point.removed,
            gap.sentence()
        )));
        out.push('\n');
    }
    for branch in &record.stopped {
        let title = strategy_title(&branch.strategy);
        let (at, deeper) = (branch.removed, format_ranges(&branch.skipped));
        out.push_str(&plain(&format!(
            "{title} ended early: nothing is left of the model with {at} layers removed ({}); not measured: {deeper}",
            branch.reason
        )));
        out.push('\n');
    }
    if out.is_empty() { out } else { format!("\n{out}") }
}

#[derive(Clone, Copy)]
struct Detail {
    layers: bool,
    intervals: bool,
}

struct Cell {
    text: String,
    style: &'static str,
    right: bool,
}

impl Cell {
    fn head(text: &str, right: bool) -> Self {
        Self { text: plain(text), style: BOLD, right }
    }

    fn number(text: String) -> Self {
        Self { text, style: "", right: true }
    }

    fn retention(retention: Option<Retention>, intervals: bool) -> Self {
        let Some(r) = retention else { return Self::number(NONE.into()) };
        let style = match r.value {
            v if !v.is_finite() => "",
            v if v >= 0.9 => "32",
            v if v >= 0.5 => "33",
            _ => "31",
        };
        let interval = if intervals { format!(" [{:>6}]", percent_interval(r.ci95)) } else { String::new() };
        Self { text: format!("{}{interval}", percent(r.value, 0)), style, right: true }
    }
}

/// One row per strategy and depth, unhealed and healed side by side.
fn rows(record: &StudyRecord, detail: Detail) -> Vec<Vec<Cell>> {
    let groups = groups(record);
    let any_healed = record.points.iter().any(|point| point.healed.is_some());
    let mut head = vec![Cell::head("strategy", false), Cell::head("removed", true)];
    for group in &groups {
        head.push(Cell::head(group, true));
        if any_healed {
            head.push(Cell::head("healed", true));
        }
    }
    if detail.layers {
        head.push(Cell::head("layers", false));
    }
    let mut table = vec![head];
    for strategy in record.strategies() {
        let found = main_points(record, strategy);
        let depths = found.chunk_by(|a, b| a.removed == b.removed);
        for (nth, depth) in depths.enumerate() {
            let title = if nth == 0 { strategy_title(strategy) } else { String::new() };
            let mut row =
                vec![Cell { text: plain(&title), style: "", right: false }, Cell::number(depth[0].removed.to_string())];
            let cut = depth.iter().find(|point| point.healed.is_none());
            let healed = depth.iter().find(|point| point.healed.is_some());
            let of = |point: Option<&&Point>, group: &str| {
                Cell::retention(point.and_then(|point| judged_mean(point.group(group)?)), detail.intervals)
            };
            for group in &groups {
                row.push(of(cut, group));
                if any_healed {
                    row.push(of(healed, group));
                }
            }
            if detail.layers {
                row.push(Cell { text: depth[0].dropped.to_string(), style: DIM, right: false });
            }
            table.push(row);
        }
    }
    table
}

fn widths(table: &[Vec<Cell>]) -> Vec<usize> {
    let columns = table.first().map_or(0, Vec::len);
    (0..columns)
        .map(|column| {
            table.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        })
        .collect()
}

fn layout(table: &[Vec<Cell>], colour: bool) -> String {
    let widths = widths(table);
    let mut out = String::new();
    for row in table {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let padding = " ".repeat(width - cell.text.chars().count());
            let text = paint(&cell.text, cell.style, colour);
            line.push_str(&if cell.right { format!("{padding}{text}  ") } else { format!("{text}{padding}  ") });
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn paint(text: &str, style: &str, colour: bool) -> String {
    if colour && !style.is_empty() && !text.is_empty() {
        format!("\u{1b}[{style}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// Names come from files; a terminal obeys control characters.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
