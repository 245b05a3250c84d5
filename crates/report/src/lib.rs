//! A study for a reader: one HTML file that works offline, its figures and data as files, a page that compares studies,
//! and a table for the terminal.
//!
//! Reads records and nothing else, so a report can be rebuilt at any time, and an interrupted study has one too.
//! Everything in a record is untrusted text (task names, prompts, what a model wrote) and is escaped. The page has no
//! script and forbids itself to load anything.
//!
//! ```
//! use lopper_record::StudyRecord;
//! use lopper_record::study::ModelCard;
//!
//! # fn main() -> lopper_record::Result<()> {
//! // `StudyRecord::read(directory)` reads the record of a study, `lopper_report::write` writes all of its report.
//! let model = ModelCard { name: "<pocket>".into(), ..ModelCard::default() };
//! let page = lopper_report::render(&StudyRecord { model, ..StudyRecord::default() })?;
//! assert!(page.contains("&lt;pocket&gt;") && !page.contains("<script"));
//! # Ok(())
//! # }
//! ```

mod answer;
mod chart;
mod commands;
mod compare;
mod data;
mod files;
mod format;
mod heat;
mod html;
mod order;
mod sections;
mod terminal;

use lopper_record::{Result, StudyRecord};

pub use compare::{Compared, compare};
pub use files::{FILES, PAGE, write};
pub use terminal::terminal_table;

/// The report of a study as one self-contained HTML document.
pub fn render(record: &StudyRecord) -> Result<String> {
    let title = match record.model.name.as_str() {
        "" => "Depth budget".to_owned(),
        name => format!("Depth budget of {name}"),
    };
    let parts = [
        sections::headline::html(record)?,
        sections::next::html(record)?,
        sections::curves::html(record)?,
        sections::strategies::html(record)?,
        sections::tradeoff::html(record)?,
        sections::diagnosis::html(record)?,
        sections::ledger::html(record)?,
        sections::samples::html(record)?,
        sections::scores::html(record)?,
        sections::layers::html(record)?,
        sections::provenance::html(record)?,
    ];
    Ok(html::page(&title, &parts.concat()))
}
