//! A figure by removed layer: marks with 95 % intervals on a thin line, the uncut model as a dotted line.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::axis::Ticked;
use super::{BAR, FONT, GRID, INK, MOST_LAYERS, MUTED, Size, THRESHOLD, finish, ticks, without_zeros};
use crate::format::short;

/// One removed layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct At {
    /// The layer.
    pub layer: usize,
    /// The figure.
    pub value: f64,
    /// Its interval, where there is one.
    pub ci95: Option<[f64; 2]>,
}

/// How the upward axis is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Shares, as per cent, from 0.
    Share,
    /// A number; 0 is always in sight.
    Number,
}

/// Draws the marks; `uncut` is the dotted line. `None` when there is nothing to draw.
pub fn profile(
    marks: &[At],
    uncut: Option<f64>,
    unit: Unit,
    size: Size,
    class: &str,
    label: &str,
) -> Result<Option<String>> {
    let drawn = |mark: &At| mark.value.is_finite() && mark.layer <= MOST_LAYERS;
    let marks: Vec<At> = marks.iter().copied().filter(drawn).collect();
    if marks.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    draw(&mut svg, &marks, uncut, unit, size).map_err(|error| anyhow!("cannot draw a chart: {error}"))?;
    Ok(Some(finish(&svg, size, class, label)))
}

fn draw(
    svg: &mut String,
    marks: &[At],
    uncut: Option<f64>,
    unit: Unit,
    size: Size,
) -> Result<(), Box<dyn std::error::Error>> {
    let ends = marks.iter().flat_map(|mark| mark.ci95.unwrap_or([mark.value; 2]).into_iter().chain([mark.value]));
    let seen = || ends.clone().chain(uncut).filter(|value| value.is_finite());
    let (low, high) = (seen().fold(0.0, f64::min), seen().fold(0.0, f64::max));
    let room = if high > low { (high - low) * 0.06 } else { 1.0 };
    let (low, high) = match unit {
        // What is above all is cut off, as in the main chart.
        Unit::Share => (0.0, high.clamp(1.0, 1.6) + 0.05),
        Unit::Number => (if low < 0.0 { low - room } else { 0.0 }, if high > 0.0 { high + room } else { room }),
    };
    let last = marks.iter().map(|mark| mark.layer).max().unwrap_or(0);
    let root = SVGBackend::with_string(svg, (size.width, size.height)).into_drawing_area();
    let across = Ticked::new(-0.6..last as f64 + 0.6, ticks(last, size.width as usize / 26));
    let mut chart = ChartBuilder::on(&root)
        .margin(4)
        .margin_right(10)
        .x_label_area_size(44)
        .y_label_area_size(54)
        .build_cartesian_2d(across, low..high)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(GRID)
        .y_labels(5)
        .label_style(("inherit", FONT).into_font().color(&MUTED))
        .axis_desc_style(("inherit", FONT).into_font().color(&INK))
        .x_desc("removed layer")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| match unit {
            Unit::Share => format!("{:.0} %", y * 100.0),
            Unit::Number => without_zeros(&short(*y)).to_owned(),
        })
        .draw()?;
    if let Some(uncut) = uncut.filter(|value| value.is_finite()) {
        chart.draw_series(LineSeries::new([(-0.6, uncut), (last as f64 + 0.6, uncut)], THRESHOLD.stroke_width(1)))?;
    }
    let inside = |value: f64| value.clamp(low, high);
    let place = |mark: &At| (mark.layer as f64, inside(mark.value));
    chart.draw_series(LineSeries::new(marks.iter().map(place), BAR.stroke_width(1)))?;
    chart.draw_series(marks.iter().filter_map(|mark| {
        let [from, to] = mark.ci95?;
        let x = mark.layer as f64;
        Some(PathElement::new(vec![(x, inside(from)), (x, inside(to))], BAR.stroke_width(1)))
    }))?;
    chart.draw_series(marks.iter().map(|mark| Circle::new(place(mark), 4, BAR.filled())))?;
    root.present()?;
    Ok(())
}
