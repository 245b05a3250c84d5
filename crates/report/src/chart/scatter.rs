//! What a model keeps against what it costs: a mark for each model, with the number of layers that it lacks; one that
//! another model beats in both is crossed out.

use std::ops::Range;

use lopper_record::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::frame::{Frame, Unit};
use super::{Drawing, FONT, INK, SURFACE, TOP, group_colour};

/// One model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spot {
    /// Layers removed.
    pub removed: usize,
    /// Whether it is healed.
    pub healed: bool,
    /// What it costs.
    pub cost: f64,
    /// The least and the most that it was measured to cost: costs that overlap do not differ.
    pub cost_range: [f64; 2],
    /// What it keeps.
    pub kept: f64,
    /// Whether another keeps no less and costs no more.
    pub dominated: bool,
}

/// Draws the marks over an axis with the name `across`; `group` gives their colour. `None` with fewer than two of them.
pub fn scatter(
    spots: &[Spot],
    thresholds: &[f64],
    across: &str,
    group: usize,
    drawing: Drawing<'_>,
) -> Result<Option<String>> {
    let finite = |spot: &&Spot| spot.cost.is_finite() && spot.kept.is_finite();
    let spots: Vec<&Spot> = spots.iter().filter(finite).collect();
    let span = span(spots.iter().map(|spot| spot.cost));
    let (Some(span), true) = (span, spots.len() > 1) else { return Ok(None) };
    let top = spots.iter().map(|spot| spot.kept).fold(1.0, f64::max).min(TOP) + 0.08;
    let frame = Frame {
        drawing,
        across,
        last: 0,
        margin: 0.0,
        label_width: 70,
        upward: 0.0..top,
        labels: (0..=8).map(|i| f64::from(i) * 0.2).filter(|y| *y <= top).collect(),
        unit: Unit::Percent,
        span: Some(span.clone()),
    };
    let svg = frame.draw(|chart| {
        frame.thresholds(chart, thresholds)?;
        let colour = group_colour(group, false);
        let font = ("inherit", FONT - 2).into_font().color(&INK);
        let above = font.pos(Pos::new(HPos::Center, VPos::Bottom));
        let below = font.pos(Pos::new(HPos::Center, VPos::Top));
        for spot in &spots {
            let at = (spot.cost, spot.kept.clamp(0.0, top));
            let fill = if spot.healed { colour.filled() } else { SURFACE.filled() };
            // A healed cut is often close to the same cut without healing: its number is on the other side.
            let (font, up) = if spot.healed { (&below, 9) } else { (&above, -9) };
            chart.draw_series([EmptyElement::at(at)
                + Circle::new((0, 0), 5, fill)
                + Circle::new((0, 0), 5, colour.stroke_width(2))
                + Text::new(spot.removed.to_string(), (0, up), font.clone())])?;
            if spot.dominated {
                chart.draw_series([Cross::new(at, 8, INK.stroke_width(1))])?;
            }
        }
        Ok(())
    });
    svg.map(Some)
}

/// From a little below the lowest value to a little above the highest; nothing without two that differ.
fn span(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let edge = (high - low) * 0.08;
    // Numbers in records are not trusted, and an axis has to have a length.
    (edge.is_finite() && edge > high.abs() * 1e-6).then_some(low - edge..high + edge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_a_length_or_there_is_none() {
        assert_eq!(span([1.0, 1.0].into_iter()), None);
        assert_eq!(span([f64::MIN, f64::MAX].into_iter()), None);
        assert_eq!(span([].into_iter()), None);
        let range = span([1.0, 2.0].into_iter()).unwrap();
        assert!(range.start < 1.0 && range.end > 2.0);
    }
}
