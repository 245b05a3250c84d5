//! One criterion's score of each layer.

use lopper_record::Result;
use plotters::prelude::*;

use super::frame::{Frame, Unit, range_of};
use super::{BAR, Drawing};

/// Draws one bar per layer; layers without a value stay empty. `None` when there is nothing to draw.
pub fn bars(values: &[f64], drawing: Drawing<'_>) -> Result<Option<String>> {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    if finite().next().is_none() {
        return Ok(None);
    }
    let frame = Frame {
        drawing,
        across: "layer",
        last: values.len().saturating_sub(1),
        margin: 0.6,
        label_width: 26,
        upward: range_of(finite()),
        labels: vec![],
        unit: Unit::Number,
        span: None,
    };
    let svg = frame.draw(|chart| {
        let bars = values.iter().enumerate().filter(|(_, value)| value.is_finite());
        chart.draw_series(bars.map(|(layer, value)| {
            Rectangle::new([(layer as f64 - 0.36, 0.0), (layer as f64 + 0.36, *value)], BAR.filled())
        }))?;
        Ok(())
    });
    svg.map(Some)
}
