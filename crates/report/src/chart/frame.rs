//! What every chart begins with: its size, its axes with labels, and the grid.

use std::error::Error;
use std::ops::Range;

use anyhow::anyhow;
use lopper_record::Result;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::{Drawing, FONT, GRID, INK, MUTED, Size, THRESHOLD, TOP, finish};
use crate::format::{count, short};

/// How the numbers of an upward axis are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Fractions, in per cent.
    Percent,
    /// Plain numbers.
    Number,
}

/// A chart without its marks. Across it counts integers from 0: layers, or numbers of layers.
pub struct Frame<'a> {
    /// Its place in the page.
    pub drawing: Drawing<'a>,
    /// What is counted across.
    pub across: &'a str,
    /// The last integer across.
    pub last: usize,
    /// Room beyond the first and the last integer, in units of the axis.
    pub margin: f64,
    /// Pixels that a label across needs.
    pub label_width: u32,
    /// The upward axis.
    pub upward: Range<f64>,
    /// Where the upward axis has labels; empty for about five of them.
    pub labels: Vec<f64>,
    /// How these are written.
    pub unit: Unit,
    /// A range of values across instead of counted integers.
    pub span: Option<Range<f64>>,
}

/// A chart to draw marks on.
pub type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
/// Whether drawing worked.
pub type Drawn = Result<(), Box<dyn Error>>;

impl<'a> Frame<'a> {
    /// The frame of retentions, of which the highest drawn is `highest`, against layers removed.
    pub fn of_retention(drawing: Drawing<'a>, deepest: usize, highest: f64) -> Self {
        let top = highest.clamp(1.0, TOP) + 0.05;
        Self {
            drawing,
            across: "layers removed",
            last: deepest,
            margin: 0.35,
            label_width: 42,
            upward: 0.0..top,
            labels: (0..=8).map(|i| f64::from(i) * 0.2).filter(|y| *y <= top).collect(),
            unit: Unit::Percent,
            span: None,
        }
    }

    /// Draws the floors that retentions are to keep.
    pub fn thresholds(&self, chart: &mut Chart<'_, '_>, thresholds: &[f64]) -> Drawn {
        for &threshold in thresholds.iter().filter(|threshold| self.upward.contains(threshold)) {
            chart.draw_series(LineSeries::new(self.level(threshold), THRESHOLD.stroke_width(1)))?;
        }
        Ok(())
    }
}

impl Frame<'_> {
    /// The chart as an SVG element, with what `marks` draws on it.
    pub fn draw(&self, marks: impl FnOnce(&mut Chart<'_, '_>) -> Drawn) -> Result<String> {
        let mut svg = String::new();
        self.draw_to(&mut svg, marks).map_err(|error| anyhow!("cannot draw a chart: {error}"))?;
        Ok(finish(&svg, self.drawing))
    }

    fn draw_to(&self, svg: &mut String, marks: impl FnOnce(&mut Chart<'_, '_>) -> Drawn) -> Drawn {
        let Size { width, height } = self.drawing.size;
        let root = SVGBackend::with_string(svg, (width, height)).into_drawing_area();
        let counted = -self.margin..self.last as f64 + self.margin;
        let most = (width / self.label_width) as usize;
        let (across, labels) = match &self.span {
            Some(span) => (span.clone(), vec![]),
            None => (counted, ticks(self.last, most)),
        };
        let mut chart = ChartBuilder::on(&root)
            .margin(4)
            .margin_right(12)
            .margin_top(10)
            .x_label_area_size(46)
            .y_label_area_size(54)
            .build_cartesian_2d(
                Axis { axis: across.into(), labels },
                Axis { axis: self.upward.clone().into(), labels: self.labels.clone() },
            )?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(GRID)
            .x_labels(most.clamp(2, 12))
            .y_labels(5)
            .label_style(("inherit", FONT).into_font().color(&MUTED))
            .axis_desc_style(("inherit", FONT).into_font().color(&INK))
            .x_desc(self.across)
            .x_label_formatter(&|x| match self.span {
                Some(_) => amount(*x),
                None => format!("{x:.0}"),
            })
            .y_label_formatter(&|y| match self.unit {
                Unit::Percent => format!("{:.0} %", y * 100.0),
                Unit::Number => without_zeros(&short(*y)).to_owned(),
            })
            .draw()?;
        marks(&mut chart)?;
        root.present()?;
        Ok(())
    }

    /// The ends of a line across the whole chart at `height`.
    pub fn level(&self, height: f64) -> [(f64, f64); 2] {
        let ends = self.span.clone().unwrap_or(-self.margin..self.last as f64 + self.margin);
        [(ends.start, height), (ends.end, height)]
    }
}

/// An upward axis from 0, or from below the lowest value, to a little above the highest. The values are finite.
pub fn range_of(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((0.0, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
    let room = if high > low { (high - low) * 0.06 } else { 1.0 };
    (if low < 0.0 { low - room } else { 0.0 })..high + room
}

/// A linear axis with labels at given values, or where plotters puts them; plotters' own `with_key_points` cannot be
/// formatted.
pub struct Axis {
    axis: RangedCoordf64,
    labels: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.axis.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if self.labels.is_empty() { self.axis.key_points(hint) } else { self.labels.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.axis.range()
    }
}

/// A size or a time as short as it can be: large ones with a unit letter.
fn amount(value: f64) -> String {
    if value >= 10_000.0 { count(value as u64) } else { without_zeros(&short(value)).to_owned() }
}

/// A label as short as it can be: `0.2` for `0.200`.
fn without_zeros(number: &str) -> &str {
    match number.contains('.') && !number.contains('e') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    }
}

/// At most `most` of the integers `0..=last`, evenly spaced, as axis labels.
fn ticks(last: usize, most: usize) -> Vec<f64> {
    let step = (1..).find(|step| last / step < most.max(2)).unwrap_or(1);
    (0..=last).step_by(step).map(|i| i as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_never_crowd() {
        assert_eq!(ticks(4, 10), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(ticks(31, 8), [0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 28.0]);
        assert_eq!(ticks(0, 8), [0.0]);
        assert!(ticks(1000, 12).len() <= 12);
    }
}
