//! A figure by removed layer: marks with 95 % intervals on a thin line, the uncut model as a dotted line.

use lopper_record::Result;
use plotters::prelude::*;

use super::frame::{Frame, Unit, range_of};
use super::{BAR, Drawing, MOST_LAYERS, THRESHOLD, TOP};

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

/// Draws the marks; `uncut` is the dotted line. Per cent begin at 0. `None` when there is nothing to draw.
pub fn profile(marks: &[At], uncut: Option<f64>, unit: Unit, drawing: Drawing<'_>) -> Result<Option<String>> {
    let drawn = |mark: &At| mark.value.is_finite() && mark.layer <= MOST_LAYERS;
    let marks: Vec<At> = marks.iter().copied().filter(drawn).collect();
    if marks.is_empty() {
        return Ok(None);
    }
    let uncut = uncut.filter(|value| value.is_finite());
    let ends = marks.iter().flat_map(|mark| mark.ci95.unwrap_or([mark.value; 2]).into_iter().chain([mark.value]));
    let seen = ends.chain(uncut).filter(|value| value.is_finite());
    let upward = match unit {
        // Values far above 100 % are cut off, as in the main chart.
        Unit::Percent => 0.0..seen.fold(1.0, f64::max).min(TOP) + 0.05,
        Unit::Number => range_of(seen),
    };
    let inside = |value: f64| value.clamp(upward.start, upward.end);
    let place = |mark: &At| (mark.layer as f64, inside(mark.value));
    let frame = Frame {
        drawing,
        across: "removed layer",
        last: marks.iter().map(|mark| mark.layer).max().unwrap_or(0),
        margin: 0.6,
        label_width: 26,
        upward: upward.clone(),
        labels: vec![],
        unit,
        span: None,
    };
    let svg = frame.draw(|chart| {
        if let Some(uncut) = uncut {
            chart.draw_series(LineSeries::new(frame.level(uncut), THRESHOLD.stroke_width(1)))?;
        }
        chart.draw_series(LineSeries::new(marks.iter().map(place), BAR.stroke_width(1)))?;
        chart.draw_series(marks.iter().filter_map(|mark| {
            let [from, to] = mark.ci95?;
            let x = mark.layer as f64;
            Some(PathElement::new(vec![(x, inside(from)), (x, inside(to))], BAR.stroke_width(1)))
        }))?;
        chart.draw_series(marks.iter().map(|mark| Circle::new(place(mark), 4, BAR.filled())))?;
        Ok(())
    });
    svg.map(Some)
}
