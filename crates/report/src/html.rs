//! Text into HTML. Model output is arbitrary: besides the markup characters, control characters
//! and the ones that reverse the direction of a line are made visible.

use std::fmt;

/// Writes a text so that it means only itself, in an element or in a quoted attribute.
pub struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => write!(f, "{c}")?,
                // Unicode has a picture for each of the first 32 control characters.
                '\0'..='\u{1f}' => write!(f, "{}", char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'))?,
                '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => {
                    f.write_str("\u{fffd}")?
                }
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// [`Text`] as a string.
pub fn escape(text: &str) -> String {
    Text(text).to_string()
}

/// At most `most` characters of a text, with a note of how many more there are.
pub fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… [{} more characters]", &text[..end], text[end..].chars().count()),
    }
}

/// A column's heading and alignment.
#[derive(Debug, Clone, Copy)]
pub enum Column<'a> {
    /// Words.
    Left(&'a str),
    /// Numbers.
    Right(&'a str),
}

/// Opens what scrolls sideways by itself when the page is too narrow, by keyboard as well; `label` says what it is.
/// [`TABLE_END`] closes it after a table.
pub fn scroll_start(label: &str) -> String {
    format!("<div class=\"scroll\" role=\"group\" tabindex=\"0\" aria-label=\"{}\">\n", Text(label))
}

/// Opens a table that scrolls, up to its body. [`TABLE_END`] closes it.
pub fn table_start(label: &str, columns: &[Column<'_>]) -> String {
    let mut out = scroll_start(label);
    out.push_str("<table>\n<thead><tr>");
    for column in columns {
        out.push_str(&match column {
            Column::Left(name) => format!("<th scope=\"col\" class=\"left\">{}</th>", Text(name)),
            Column::Right(name) => format!("<th scope=\"col\">{}</th>", Text(name)),
        });
    }
    out.push_str("</tr></thead>\n");
    out
}

/// Closes a table.
pub const TABLE_END: &str = "</table>\n</div>\n";

/// Rows up to which a table is shown at once; a longer one is folded away under its title.
const FOLDED_FROM: usize = 12;

/// A table of `rows` rows under its title; folded where it is long.
pub fn titled_table(title: &str, rows: usize, table: &str) -> String {
    if rows <= FOLDED_FROM {
        return format!("<h3>{}</h3>\n{table}", Text(title));
    }
    format!("<details>\n<summary>{} <span class=\"ci\">{rows} rows</span></summary>\n{table}</details>\n", Text(title))
}

/// A document in one file: it has no script, and forbids itself to load anything.
pub fn page(title: &str, body: &str) -> String {
    format!(
        concat!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\" />\n",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n",
            "<meta name=\"color-scheme\" content=\"light dark\" />\n",
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\" />\n",
            "<title>{title}</title>\n<style>\n{style}{heat}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
        ),
        title = Text(title),
        style = STYLE,
        heat = crate::heat::css(),
        body = body
    )
}

/// The style sheet of every page.
pub const STYLE: &str = include_str!("style.css");

/// A figure under its caption.
pub fn figure(caption: &str, body: &str) -> String {
    format!("<figure>\n<figcaption>{}</figcaption>\n{body}</figure>\n", Text(caption))
}

/// Small figures next to each other under a heading; nothing without one.
pub fn multiples(heading: &str, figures: &str) -> String {
    if figures.is_empty() {
        return String::new();
    }
    format!("<h3>{heading}</h3>\n<div class=\"multiples\">\n{figures}</div>\n")
}

/// The first cell of a row, which names it.
pub fn row_head(text: &str) -> String {
    format!("<th scope=\"row\" class=\"left\">{}</th>", Text(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_controls_lose_their_meaning() {
        assert_eq!(escape("<a href='\"'>&"), "&lt;a href=&#39;&quot;&#39;&gt;&amp;");
        assert_eq!(escape("a\u{0}b\u{1b}[31m\u{202e}x\n\ty"), "a␀b␛[31m\u{fffd}x\n\ty");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(clipped("äöü", 3), "äöü");
        assert_eq!(clipped("äöüß", 2), "äö… [2 more characters]");
    }
}
