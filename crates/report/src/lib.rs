//! A study for a reader: one HTML file that works offline, and a table for the terminal.
//!
//! Reads the record and nothing else, so a report can be rebuilt at any time, and an interrupted
//! study has one too. Everything in a record is untrusted text (task names, prompts, what a model
//! wrote) and is escaped. The page has no script and forbids itself to load anything.
//!
//! ```
//! use lopper_record::StudyRecord;
//! use lopper_record::study::ModelCard;
//!
//! # fn main() -> lopper_record::Result<()> {
//! // `StudyRecord::read(directory)` reads the record of a study.
//! let model = ModelCard { name: "<pocket>".into(), ..ModelCard::default() };
//! let page = lopper_report::render(&StudyRecord { model, ..StudyRecord::default() })?;
//! assert!(page.contains("&lt;pocket&gt;") && !page.contains("<script"));
//! # Ok(())
//! # }
//! ```

mod chart;
mod format;
mod heat;
mod html;
mod order;
mod sections;
mod terminal;

use lopper_record::{Result, StudyRecord};

pub use terminal::terminal_table;

const STYLE: &str = include_str!("style.css");

/// The report of a study as one self-contained HTML document.
pub fn render(record: &StudyRecord) -> Result<String> {
    let title = match record.model.name.as_str() {
        "" => "Depth budget".to_owned(),
        name => format!("Depth budget of {name}"),
    };
    let mut body = String::new();
    for section in [
        sections::headline::html(record)?,
        sections::curves::html(record)?,
        sections::scores::html(record)?,
        sections::layers::html(record)?,
        sections::diagnosis::html(record)?,
        sections::ledger::html(record)?,
        sections::samples::html(record)?,
        sections::provenance::html(record)?,
    ] {
        body.push_str(&section);
    }
    Ok(format!(
        concat!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\" />\n",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n",
            "<meta name=\"color-scheme\" content=\"light dark\" />\n",
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\" />\n",
            "<title>{title}</title>\n<style>\n{style}{heat}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
        ),
        title = html::escape(&title),
        style = STYLE,
        heat = heat::css(),
        body = body
    ))
}
