//! Shares on top of each other: what became of programs, or why items were lost, for each of several models.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::axis::Ticked;
use super::{FONT, GRID, INK, MOST_LAYERS, MUTED, SURFACE, Size, finish, part_colour, ticks};

/// One model's bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Its place across: a layer, or a number of removed layers with a shift to either side.
    pub at: f64,
    /// Half its width.
    pub half: f64,
    /// The shares from below, in the order of the colours.
    pub shares: Vec<f64>,
}

/// Draws the bars; `colours` are the parts' numbers in the style sheet, `across` what the axis counts. `None` when
/// there is nothing to draw.
pub fn stacked(
    bars: &[Bar],
    colours: &[usize],
    across: &str,
    size: Size,
    class: &str,
    label: &str,
) -> Result<Option<String>> {
    let drawn = |bar: &&Bar| (-1.0..=MOST_LAYERS as f64).contains(&bar.at);
    let bars: Vec<Bar> = bars.iter().filter(drawn).cloned().collect();
    let highest = bars.iter().map(|bar| bar.shares.iter().sum::<f64>()).filter(|sum| sum.is_finite());
    let highest = highest.fold(0.0, f64::max);
    if highest <= 0.0 {
        return Ok(None);
    }
    let mut svg = String::new();
    draw(&mut svg, &bars, colours, across, highest, size).map_err(|error| anyhow!("cannot draw a chart: {error}"))?;
    Ok(Some(finish(&svg, size, class, label)))
}

fn draw(
    svg: &mut String,
    bars: &[Bar],
    colours: &[usize],
    across: &str,
    highest: f64,
    size: Size,
) -> Result<(), Box<dyn std::error::Error>> {
    let last = bars.iter().map(|bar| bar.at.round().max(0.0) as usize).max().unwrap_or(0);
    let root = SVGBackend::with_string(svg, (size.width, size.height)).into_drawing_area();
    let axis = Ticked::new(-0.6..last as f64 + 0.6, ticks(last, size.width as usize / 30));
    let mut chart = ChartBuilder::on(&root)
        .margin(4)
        .margin_right(10)
        .margin_top(8)
        .x_label_area_size(44)
        .y_label_area_size(54)
        .build_cartesian_2d(axis, 0.0..highest.min(1.0) * 1.02)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(GRID)
        .y_labels(5)
        .label_style(("inherit", FONT).into_font().color(&MUTED))
        .axis_desc_style(("inherit", FONT).into_font().color(&INK))
        .x_desc(across)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{:.0} %", y * 100.0))
        .draw()?;
    for bar in bars {
        let mut from = 0.0;
        for (share, colour) in bar.shares.iter().zip(colours).filter(|(share, _)| **share > 0.0) {
            let corners = [(bar.at - bar.half, from), (bar.at + bar.half, from + share)];
            from += share;
            chart.draw_series([Rectangle::new(corners, part_colour(*colour).filled())])?;
            // The page shows between two parts, so that they are apart without colour as well.
            chart.draw_series([Rectangle::new(corners, SURFACE.stroke_width(1))])?;
        }
    }
    root.present()?;
    Ok(())
}
