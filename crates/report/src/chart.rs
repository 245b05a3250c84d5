//! Charts as inline SVG, drawn by plotters.
//!
//! plotters writes fixed colours; the page's have to follow the reader's scheme. So a chart is
//! drawn in sentinel colours, each of which is then replaced by a CSS variable (and, for a dashed
//! line, by a dash pattern, which plotters would cut into many short lines). Text stays text in
//! the page's own font. Each chart is drawn twice, for wide and for narrow screens, and the style
//! sheet shows one of them: scaling one drawing would make its text unreadable on a phone.

mod bars;
mod frame;
mod lines;
mod many;
mod profile;
mod scatter;
mod stacked;

pub use bars::bars;
pub use frame::Unit;
pub use lines::{Mark, Series, lines};
pub use many::{Line, key, many_lines};
pub use profile::{At, profile};
pub use scatter::{Spot, scatter};
pub use stacked::{Bar, stacked};

use plotters::style::RGBColor;

/// A drawing's size in CSS pixels.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

impl Size {
    /// A drawing of this size: its class in the style sheet, and what a screen reader says (empty for a second drawing
    /// of the same).
    pub fn drawing<'a>(self, class: &'a str, label: &'a str) -> Drawing<'a> {
        Drawing { size: self, class, label, name: "" }
    }
}

impl<'a> Drawing<'a> {
    /// The same with the name of the file that it is written to; see `files`.
    pub fn named(self, name: &'a str) -> Self {
        Self { name, ..self }
    }
}

/// A drawing's place in the page.
#[derive(Debug, Clone, Copy)]
pub struct Drawing<'a> {
    size: Size,
    class: &'a str,
    label: &'a str,
    name: &'a str,
}

/// The attribute that holds the file name of a drawing.
pub const FIGURE_ATTRIBUTE: &str = "data-figure";

/// A name of letters, digits and dashes, for a file.
pub fn file_name(name: &str) -> String {
    let words = name.to_lowercase();
    let words = words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("-");
    if name.is_empty() { "unnamed".into() } else { name.chars().take(80).collect() }
}

/// Layers beyond this are not drawn: records are not trusted, and no model has so many.
const MOST_LAYERS: usize = 10_000;

/// Highest retention that an axis reaches.
const TOP: f64 = 1.6;

/// Text size given to plotters, which writes 1 / 1.24 of it.
const FONT: i32 = 16;

const INK: RGBColor = RGBColor(1, 2, 1);
const MUTED: RGBColor = RGBColor(1, 2, 2);
const GRID: RGBColor = RGBColor(1, 2, 3);
const SURFACE: RGBColor = RGBColor(1, 2, 4);
const BAR: RGBColor = RGBColor(1, 2, 5);
const THRESHOLD: RGBColor = RGBColor(1, 2, 6);

/// The colour of the `index`th group; `dashed` for its line before healing.
fn group_colour(index: usize, dashed: bool) -> RGBColor {
    RGBColor(1, if dashed { 4 } else { 3 }, (index % GROUP_COLOURS) as u8)
}

/// The colour of a part of a stacked bar, by its number in the style sheet.
fn part_colour(index: usize) -> RGBColor {
    RGBColor(1, 5, (index % PART_COLOURS) as u8)
}

/// The same for a dashed line.
fn dashed_part_colour(index: usize) -> RGBColor {
    RGBColor(1, 6, (index % PART_COLOURS) as u8)
}

/// How many part colours the style sheet has.
pub const PART_COLOURS: usize = 8;

/// How many group colours the style sheet has.
const GROUP_COLOURS: usize = 4;

/// Replaces the sentinels, and the fixed size by attributes for the page.
fn finish(svg: &str, Drawing { size: Size { width, height }, class, label, name }: Drawing<'_>) -> String {
    let mut out = svg.to_owned();
    let fixed = [
        (INK, "var(--ink)"),
        (MUTED, "var(--muted)"),
        (GRID, "var(--line)"),
        (SURFACE, "var(--surface)"),
        (BAR, "var(--bar)"),
    ];
    for (colour, variable) in fixed {
        out = out.replace(&code(colour), variable);
    }
    let dashed = |out: String, colour: RGBColor, variable: &str, dash: &str| {
        let stroke = format!("stroke=\"{}\"", code(colour));
        out.replace(&stroke, &format!("stroke=\"{variable}\" stroke-dasharray=\"{dash}\""))
            .replace(&code(colour), variable)
    };
    out = dashed(out, THRESHOLD, "var(--muted)", "2 4");
    for index in 0..GROUP_COLOURS {
        let variable = format!("var(--g{index})");
        out = out.replace(&code(group_colour(index, false)), &variable);
        out = dashed(out, group_colour(index, true), &variable, "6 5");
    }
    for index in 0..PART_COLOURS {
        let variable = format!("var(--o{index})");
        out = out.replace(&code(part_colour(index)), &variable);
        out = dashed(out, dashed_part_colour(index), &variable, "6 5");
    }
    let head = format!("<svg width=\"{width}\" height=\"{height}\"");
    let hidden = if label.is_empty() {
        "aria-hidden=\"true\"".to_owned()
    } else {
        format!("role=\"img\" aria-label=\"{}\"", crate::html::escape(label))
    };
    let hidden = match name {
        "" => hidden,
        name => format!("{FIGURE_ATTRIBUTE}=\"{}\" {hidden}", file_name(name)),
    };
    out.replacen(&head, &format!("<svg class=\"{class}\" {hidden}"), 1)
}

fn code(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}
