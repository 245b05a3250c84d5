//! Retention against layers removed: a dashed line with hollow marks before healing, a solid one
//! with filled marks after it, 95 % intervals as bars. Each group has a colour and a shape of mark.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::axis::Ticked;
use super::{FONT, GRID, INK, MUTED, SURFACE, Size, THRESHOLD, finish, group_colour, ticks};

/// One measured depth.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// Layers removed.
    pub removed: usize,
    /// Retention.
    pub value: f64,
    /// Its interval; NaN ends are not drawn.
    pub ci95: [f64; 2],
}

/// One line.
#[derive(Debug, Clone)]
pub struct Series {
    /// Index of the group, which gives colour and shape.
    pub group: usize,
    /// Whether it is after healing.
    pub healed: bool,
    /// The depths in ascending order.
    pub marks: Vec<Mark>,
}

/// Highest retention that the axis grows to.
const TOP: f64 = 1.6;

/// Draws the lines. `label` is what a screen reader says; empty for a second drawing of the same.
pub fn lines(
    series: &[Series],
    thresholds: &[f64],
    deepest: usize,
    size: Size,
    class: &str,
    label: &str,
) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, series, thresholds, deepest, size).map_err(|error| anyhow!("cannot draw a chart: {error}"))?;
    Ok(finish(&svg, size, class, label))
}

fn draw(
    svg: &mut String,
    series: &[Series],
    thresholds: &[f64],
    deepest: usize,
    size: Size,
) -> Result<(), Box<dyn std::error::Error>> {
    let highest = series
        .iter()
        .flat_map(|line| &line.marks)
        .flat_map(|mark| [mark.value, mark.ci95[1]])
        .filter(|value| value.is_finite())
        .fold(1.0, f64::max)
        .min(TOP);
    let top = highest + 0.05;
    let root = SVGBackend::with_string(svg, (size.width, size.height)).into_drawing_area();
    let across = Ticked::new(-0.35..deepest as f64 + 0.35, ticks(deepest, size.width as usize / 42));
    let upward = Ticked::new(0.0..top, (0..=8).map(|i| f64::from(i) * 0.2).filter(|y| *y <= top).collect());
    let text = ("inherit", FONT).into_font().color(&MUTED);
    let mut chart = ChartBuilder::on(&root)
        .margin(4)
        .margin_right(12)
        .margin_top(10)
        .x_label_area_size(46)
        .y_label_area_size(50)
        .build_cartesian_2d(across, upward)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(GRID)
        .label_style(text.clone())
        .axis_desc_style(("inherit", FONT).into_font().color(&INK))
        .x_desc("layers removed")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{:.0} %", y * 100.0))
        .draw()?;
    for &threshold in thresholds.iter().filter(|t| (0.0..=top).contains(*t)) {
        chart.draw_series(LineSeries::new(
            [(-0.35, threshold), (deepest as f64 + 0.35, threshold)],
            THRESHOLD.stroke_width(1),
        ))?;
    }
    // Bars that share a depth are set side by side.
    let step = (0.16 / series.len().max(1) as f64).min(0.06) * (deepest.max(4) as f64 / 4.0);
    for (slot, line) in series.iter().enumerate() {
        let colour = group_colour(line.group, false);
        let stroke = group_colour(line.group, !line.healed);
        let shift = (slot as f64 - (series.len() as f64 - 1.0) / 2.0) * step;
        let marks: Vec<Mark> = line.marks.iter().copied().filter(|mark| mark.value.is_finite()).collect();
        let place = |mark: &Mark| {
            (mark.removed as f64 + if mark.removed == 0 { 0.0 } else { shift }, mark.value.clamp(0.0, top))
        };
        chart.draw_series(LineSeries::new(marks.iter().map(place), stroke.stroke_width(2)))?;
        let bars = marks.iter().filter(|mark| mark.removed > 0 && mark.ci95.iter().all(|end| end.is_finite()));
        chart.draw_series(bars.flat_map(|mark| {
            let (x, _) = place(mark);
            let [low, high] = mark.ci95.map(|end| end.clamp(0.0, top));
            let cap = step.max(0.02) * 0.45;
            [[(x, low), (x, high)], [(x - cap, low), (x + cap, low)], [(x - cap, high), (x + cap, high)]]
                .map(|ends| PathElement::new(ends.to_vec(), colour.stroke_width(1)))
        }))?;
        for mark in &marks {
            let at = place(mark);
            let fill = if line.healed { colour.filled() } else { SURFACE.filled() };
            let edge = colour.stroke_width(2);
            if line.group % 2 == 0 {
                chart.draw_series(std::iter::once(
                    EmptyElement::at(at) + Circle::new((0, 0), 4, fill) + Circle::new((0, 0), 4, edge),
                ))?;
            } else {
                chart.draw_series(std::iter::once(
                    EmptyElement::at(at)
                        + Rectangle::new([(-4, -4), (4, 4)], fill)
                        + Rectangle::new([(-4, -4), (4, 4)], edge),
                ))?;
            }
        }
    }
    root.present()?;
    Ok(())
}
