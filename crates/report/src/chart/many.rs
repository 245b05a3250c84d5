//! Retention against layers removed for several strategies or studies in one chart: a colour and a shape of mark each,
//! the first one or ones emphasised, with 95 % intervals.

use lopper_record::Result;
use plotters::prelude::*;

use super::frame::{Chart, Drawn, Frame};
use super::{Drawing, Mark, SURFACE, dashed_part_colour, part_colour};

/// One line.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its number among the lines, which gives colour and shape.
    pub number: usize,
    /// Whether it is drawn thick and with intervals.
    pub emphasised: bool,
    /// Whether it is drawn dashed with hollow marks, as cuts without healing are.
    pub dashed: bool,
    /// The depths in ascending order.
    pub marks: Vec<Mark>,
}

/// Part colours of the lines, in their order: those that differ most in lightness and hue first.
const COLOURS: [usize; 7] = [3, 1, 0, 2, 4, 7, 5];

/// How many shapes of marks there are.
const SHAPES: usize = 4;

/// Draws the lines.
pub fn many_lines(lines: &[Line], thresholds: &[f64], deepest: usize, drawing: Drawing<'_>) -> Result<String> {
    let highest = lines.iter().flat_map(|line| &line.marks).map(|mark| mark.value);
    let frame = Frame::of_retention(drawing, deepest, highest.filter(|value| value.is_finite()).fold(1.0, f64::max));
    let top = frame.upward.end;
    frame.draw(|chart| {
        frame.thresholds(chart, thresholds)?;
        // The emphasised ones come last and so lie on top.
        for emphasised in [false, true] {
            for line in lines.iter().filter(|line| line.emphasised == emphasised) {
                draw(chart, line, top)?;
            }
        }
        Ok(())
    })
}

fn draw(chart: &mut Chart<'_, '_>, line: &Line, top: f64) -> Drawn {
    let number = COLOURS[line.number % COLOURS.len()];
    let colour = part_colour(number);
    let stroke = if line.dashed { dashed_part_colour(number) } else { colour };
    let width = if line.emphasised { 3 } else { 1 };
    let marks: Vec<Mark> = line.marks.iter().copied().filter(|mark| mark.value.is_finite()).collect();
    let at = |mark: &Mark| (mark.removed as f64, mark.value.clamp(0.0, top));
    chart.draw_series(LineSeries::new(marks.iter().map(at), stroke.stroke_width(width)))?;
    if line.emphasised {
        let bars = marks.iter().filter(|mark| mark.removed > 0 && mark.ci95.iter().all(|end| end.is_finite()));
        chart.draw_series(bars.map(|mark| {
            let x = mark.removed as f64;
            PathElement::new(mark.ci95.map(|end| (x, end.clamp(0.0, top))).to_vec(), colour.stroke_width(1))
        }))?;
    }
    let fill = if line.dashed { SURFACE.filled() } else { colour.filled() };
    let edge = colour.stroke_width(2);
    for mark in &marks {
        let base = || EmptyElement::at(at(mark));
        match line.number % SHAPES {
            0 => chart.draw_series([base() + Circle::new((0, 0), 4, fill) + Circle::new((0, 0), 4, edge)])?,
            1 => {
                let corners = [(-4, -4), (4, 4)];
                chart.draw_series([base() + Rectangle::new(corners, fill) + Rectangle::new(corners, edge)])?
            }
            2 => {
                let corners = vec![(0, -5), (5, 4), (-5, 4)];
                let outline = vec![(0, -5), (5, 4), (-5, 4), (0, -5)];
                chart.draw_series([base() + Polygon::new(corners, fill) + PathElement::new(outline, edge)])?
            }
            _ => {
                let corners = vec![(0, -6), (6, 0), (0, 6), (-6, 0)];
                let outline = vec![(0, -6), (6, 0), (0, 6), (-6, 0), (0, -6)];
                chart.draw_series([base() + Polygon::new(corners, fill) + PathElement::new(outline, edge)])?
            }
        };
    }
    Ok(())
}

/// The line and its mark as the key of a legend.
pub fn key(line: &Line) -> String {
    let colour = format!("var(--o{})", COLOURS[line.number % COLOURS.len()]);
    let fill = if line.dashed { "var(--surface)" } else { &colour };
    let paint = format!("fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"2\"");
    let mark = match line.number % SHAPES {
        0 => format!("<circle cx=\"20\" cy=\"8\" r=\"4\" {paint} />"),
        1 => format!("<rect x=\"16\" y=\"4\" width=\"8\" height=\"8\" {paint} />"),
        2 => format!("<path d=\"M20 3L25 12H15Z\" {paint} />"),
        _ => format!("<path d=\"M20 2L26 8L20 14L14 8Z\" {paint} />"),
    };
    let (dash, width) = (if line.dashed { "6 5" } else { "none" }, if line.emphasised { 3 } else { 1 });
    format!(
        "<path d=\"M0 8H40\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-dasharray=\"{dash}\" fill=\"none\" />{mark}"
    )
}
