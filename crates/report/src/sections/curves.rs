//! Retention against layers removed: the main strategy large, the others as small multiples on
//! the same axes.

use lopper_record::study::Point;
use lopper_record::{Result, StudyRecord};

use crate::chart::{Mark, Series, Size, lines};
use crate::format::percent;
use crate::html::{Text, figure, multiples};
use crate::order::{groups, points, strategy_title};
use crate::sections::describe;

const WIDE: Size = Size { width: 860, height: 400 };
const NARROW: Size = Size { width: 360, height: 330 };
const SMALL: Size = Size { width: 360, height: 260 };

/// The charts, or nothing before the first point.
pub fn html(record: &StudyRecord) -> Result<String> {
    let strategies = record.strategies();
    let Some((main, others)) = strategies.split_first() else { return Ok(String::new()) };
    let groups = groups(record);
    let deepest = record.points.iter().map(|point| point.removed).max().unwrap_or(0).max(1);
    let mut thresholds: Vec<f64> = record.budget.iter().map(|line| line.threshold).filter(|t| t.is_finite()).collect();
    thresholds.sort_unstable_by(f64::total_cmp);
    thresholds.dedup();

    let series = series_of(&groups, &points(record, main));
    let describe = |series: &[Series]| {
        let name = |group: usize| format!("{}, ", groups.get(group).unwrap_or(&""));
        describe("Retention against layers removed.", series, name)
    };
    let label = describe(&series);
    let mut out = format!(
        "<section id=\"curves\">\n<h2>What is lost with each layer, and what healing brings back</h2>\n<p>Layers \
         chosen by {}. Score kept, in per cent of the uncut model’s; bars are 95 % intervals.</p>\n",
        Text(&strategy_title(main))
    );
    out.push_str(&legend(&groups, &series, &thresholds));
    out.push_str("<figure>\n");
    out.push_str(&lines(&series, &thresholds, deepest, WIDE.drawing("wide", &label))?);
    out.push_str(&lines(&series, &thresholds, deepest, NARROW.drawing("narrow", ""))?);
    out.push_str("</figure>\n");
    let mut small = String::new();
    for strategy in others {
        let series = series_of(&groups, &points(record, strategy));
        let chart = lines(&series, &thresholds, deepest, SMALL.drawing("small", &describe(&series)))?;
        small.push_str(&figure(&strategy_title(strategy), &chart));
    }
    out.push_str(&multiples("Other ways to choose the layers", &small));
    out.push_str("</section>\n");
    Ok(out)
}

fn series_of(groups: &[&str], points: &[&Point]) -> Vec<Series> {
    let mut all = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        for healed in [false, true] {
            let mut marks: Vec<Mark> = points
                .iter()
                .filter(|point| point.healed.is_some() == healed)
                .filter_map(|point| {
                    let retention = point.group(group)?.retention?;
                    Some(Mark { removed: point.removed, value: retention.value, ci95: retention.ci95 })
                })
                .collect();
            if marks.is_empty() {
                continue;
            }
            // The uncut model keeps everything by definition; both lines start from it.
            if marks[0].removed != 0 {
                marks.insert(0, Mark { removed: 0, value: 1.0, ci95: [f64::NAN; 2] });
            }
            all.push(Series { group: index, healed, marks });
        }
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
    if !thresholds.is_empty() {
        let shares: Vec<String> = thresholds.iter().map(|threshold| percent(*threshold, 0)).collect();
        let path = "<path d=\"M0 8H40\" stroke=\"var(--muted)\" stroke-width=\"1\" stroke-dasharray=\"2 4\" />";
        out.push_str(&entry(path, &format!("{} % kept", shares.join(", "))));
    }
    out.push_str("</ul>\n");
    out
}

fn entry(drawing: &str, name: &str) -> String {
    let head = "<svg class=\"key\" viewBox=\"0 0 40 16\" aria-hidden=\"true\">";
    format!("<li>{head}{drawing}</svg>{}</li>\n", Text(name))
}
