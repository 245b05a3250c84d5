//! One criterion's score of each layer.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::axis::Ticked;
use super::{BAR, FONT, GRID, INK, MUTED, Size, finish, ticks, without_zeros};
use crate::format::short;

/// Draws one bar per layer; layers without a value stay empty. `None` when there is nothing to draw.
pub fn bars(values: &[f64], size: Size, class: &str, label: &str) -> Result<Option<String>> {
    if !values.iter().any(|value| value.is_finite()) {
        return Ok(None);
    }
    let mut svg = String::new();
    draw(&mut svg, values, size).map_err(|error| anyhow!("cannot draw a chart: {error}"))?;
    Ok(Some(finish(&svg, size, class, label)))
}

fn draw(svg: &mut String, values: &[f64], size: Size) -> Result<(), Box<dyn std::error::Error>> {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(0.0, f64::min), finite().fold(0.0, f64::max));
    let room = if high > low { (high - low) * 0.06 } else { 1.0 };
    let (low, high) = (if low < 0.0 { low - room } else { 0.0 }, high + room);
    let last = values.len().saturating_sub(1);
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
        .x_desc("layer")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| without_zeros(&short(*y)).to_owned())
        .draw()?;
    let bars = values.iter().enumerate().filter(|(_, value)| value.is_finite());
    chart.draw_series(bars.map(|(layer, value)| {
        Rectangle::new([(layer as f64 - 0.36, 0.0), (layer as f64 + 0.36, *value)], BAR.filled())
    }))?;
    root.present()?;
    Ok(())
}
