//! Retention against layers removed: a dashed line with hollow marks before healing, a solid one
//! with filled marks after it, 95 % intervals as bars. Each group has a colour and a shape of mark.

use lopper_record::Result;
use plotters::prelude::*;

use super::frame::Frame;
use super::{Drawing, INK, SURFACE, group_colour};

/// One measured depth.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// Layers removed.
    pub removed: usize,
    /// Retention.
    pub value: f64,
    /// Its interval; NaN ends are not drawn.
    pub ci95: [f64; 2],
    /// Whether the score may be that of guessing; such a mark is crossed out.
    pub at_chance: bool,
}

impl Mark {
    /// The uncut model, which keeps everything by definition.
    pub const UNCUT: Self = Self { removed: 0, value: 1.0, ci95: [f64::NAN; 2], at_chance: false };
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

/// Draws the lines.
pub fn lines(series: &[Series], thresholds: &[f64], deepest: usize, drawing: Drawing<'_>) -> Result<String> {
    let highest = series.iter().flat_map(|line| &line.marks).flat_map(|mark| [mark.value, mark.ci95[1]]);
    let frame = Frame::of_retention(drawing, deepest, highest.filter(|value| value.is_finite()).fold(1.0, f64::max));
    let top = frame.upward.end;
    frame.draw(|chart| {
        frame.thresholds(chart, thresholds)?;
        // The intervals of one depth are drawn next to each other.
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
                if mark.at_chance {
                    chart.draw_series([Cross::new(at, 7, INK.stroke_width(1))])?;
                }
            }
        }
        Ok(())
    })
}
