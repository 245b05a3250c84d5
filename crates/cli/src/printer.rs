//! The only place that prints. Results go to standard output, everything else to standard error.

use std::io::{IsTerminal, Write};

use indicatif::{MultiProgress, ProgressDrawTarget};
use lopper_record::{Context, Result};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::errors;

/// Writes results, messages and progress bars, each without breaking the others.
#[derive(Debug, Clone)]
pub struct Printer {
    quiet: bool,
    verbose: u8,
    bars: MultiProgress,
}

impl Printer {
    /// `quiet` leaves out progress, notes and warnings, never errors. Bars appear only on a terminal.
    pub fn new(quiet: bool, verbose: u8) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self { quiet, verbose, bars: MultiProgress::with_draw_target(target) }
    }

    /// Sends log messages of `-v` and more to standard error; `LOPPER_LOG` selects otherwise.
    pub fn start_logging(&self) {
        let level = match (self.quiet, self.verbose) {
            (true, _) => "error",
            (_, 0) => "warn",
            (_, 1) => "info",
            (_, 2) => "debug",
            _ => "trace",
        };
        let filter = EnvFilter::try_from_env("LOPPER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
        let bars = self.bars.clone();
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || AboveBars(bars.clone()))
            // Colours need a feature that is not built in; asking for them on a terminal would panic.
            .with_ansi(false)
            .without_time()
            .try_init();
    }

    /// The progress bars on standard error; hidden where it is no terminal.
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// A result: `text` and a line break, on standard output.
    pub fn result(&self, text: &str) -> Result<()> {
        let written = self.bars.suspend(|| {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush())
        });
        match written {
            // Whoever read the output has seen enough (`lopper … | head`).
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.context("cannot write to standard output"),
        }
    }

    /// A result as one JSON document, on standard output.
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        self.result(&serde_json::to_string_pretty(value)?)
    }

    /// Something worth knowing, on standard error.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.to_stderr(text);
        }
    }

    /// Something to be wary of, on standard error.
    pub fn warn(&self, text: &str) {
        let label = if colour_on_stderr() { "\x1b[1;33mwarning:\x1b[0m" } else { "warning:" };
        self.note(&format!("{label} {text}"));
    }

    /// An error, on standard error.
    pub fn error(&self, error: &lopper_record::Error) {
        self.to_stderr(&errors::render(error, colour_on_stderr()));
        if self.verbose > 1 {
            self.to_stderr(&format!("{error:?}"));
        }
    }

    fn to_stderr(&self, text: &str) {
        // Nowhere is left to complain to.
        let _ = AboveBars(self.bars.clone()).write_all(format!("{text}\n").as_bytes());
    }
}

/// Standard error above the progress bars, which return after each write: it takes whole lines.
struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.suspend(|| std::io::stderr().lock().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().lock().flush()
    }
}

/// Colour only for people, and not for those who said no (<https://no-color.org>).
fn colour_on_stderr() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
