//! Stacked bars of fractions: how programs ended, or why items were lost, for each of several models.

use lopper_record::Result;
use plotters::prelude::*;

use super::frame::{Frame, Unit};
use super::{Drawing, MOST_LAYERS, SURFACE, part_colour};

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
pub fn stacked(bars: &[Bar], colours: &[usize], across: &str, drawing: Drawing<'_>) -> Result<Option<String>> {
    let drawn = |bar: &&Bar| (-1.0..=MOST_LAYERS as f64).contains(&bar.at);
    let bars: Vec<&Bar> = bars.iter().filter(drawn).collect();
    let highest = bars.iter().map(|bar| bar.shares.iter().sum::<f64>()).filter(|sum| sum.is_finite());
    let highest = highest.fold(0.0, f64::max);
    if highest <= 0.0 {
        return Ok(None);
    }
    let frame = Frame {
        drawing,
        across,
        last: bars.iter().map(|bar| bar.at.round().max(0.0) as usize).max().unwrap_or(0),
        margin: 0.6,
        label_width: 30,
        upward: 0.0..highest.min(1.0) * 1.02,
        labels: vec![],
        unit: Unit::Percent,
        span: None,
    };
    let svg = frame.draw(|chart| {
        for bar in bars {
            let mut from = 0.0;
            for (share, colour) in bar.shares.iter().zip(colours).filter(|(share, _)| **share > 0.0) {
                let corners = [(bar.at - bar.half, from), (bar.at + bar.half, from + share)];
                from += share;
                chart.draw_series([Rectangle::new(corners, part_colour(*colour).filled())])?;
                // A gap in the page's colour, so that two parts can be told apart without colour as well.
                chart.draw_series([Rectangle::new(corners, SURFACE.stroke_width(1))])?;
            }
        }
        Ok(())
    });
    svg.map(Some)
}
