//! Progress on the terminal: a bar for each step of the work, a smaller step below the one it belongs to.
//!
//! Bars show rate and time left. They are drawn on standard error, only on a terminal, and only for steps that last
//! longer than a second. A step that counts cells is a stage of a study: it also leaves a line, wherever the output
//! goes.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use lopper_record::{Interrupted, Progress, Result, Step};

use crate::printer::Printer;

/// A step that ends sooner shows no bar.
const DELAY: Duration = Duration::from_secs(1);
/// How often times are redrawn while nothing else changes.
const TICK: Duration = Duration::from_millis(250);

/// The work of a command, which Ctrl-C interrupts.
pub struct TerminalProgress {
    printer: Printer,
    interrupted: Arc<AtomicBool>,
}

impl TerminalProgress {
    /// Shows bars through `printer` and fails at the next check once `interrupted` is set.
    pub fn new(printer: Printer, interrupted: Arc<AtomicBool>) -> Self {
        Self { printer, interrupted }
    }

    fn begin<'a>(&'a self, step: Step<'_>, parent: Option<&'a Bar<'a>>) -> Bar<'a> {
        let bar = ProgressBar::with_draw_target(Some(step.total as u64), ProgressDrawTarget::hidden());
        let depth = parent.map_or(0, |parent| parent.depth + 1);
        let bar = Bar {
            progress: self,
            parent,
            depth,
            bar: bar.with_prefix(format!("{}{}", "  ".repeat(depth), step.name)),
            stage: (step.unit == Step::CELLS).then(|| step.name.to_owned()),
            unit: step.unit,
            found: step.found as u64,
            begun: Instant::now(),
            shown: Once::new(),
        };
        bar.set_style(step.total);
        if step.found > 0 {
            bar.bar.set_position(step.found as u64);
            // What was there before says nothing of the rate.
            bar.bar.reset_eta();
        }
        if let Some(name) = bar.stage.as_ref().filter(|_| step.found > 0) {
            self.printer.note(&format!("{name}: {} of {} finished by an earlier run", step.found, step.total));
        }
        bar
    }
}

impl Progress for TerminalProgress {
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_> {
        Box::new(self.begin(step, None))
    }

    fn warn(&self, text: &str) {
        self.printer.warn(text);
    }

    fn check(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) { Err(Interrupted.into()) } else { Ok(()) }
    }
}

/// One step; its bar vanishes when it is dropped.
struct Bar<'a> {
    progress: &'a TerminalProgress,
    parent: Option<&'a Bar<'a>>,
    depth: usize,
    bar: ProgressBar,
    /// The name, where the step is a stage of a study.
    stage: Option<String>,
    unit: &'static str,
    found: u64,
    begun: Instant,
    shown: Once,
}

impl Bar<'_> {
    fn set_style(&self, total: usize) {
        let counts = match (self.unit, total) {
            (Step::BYTES, 0) => "{decimal_bytes} ({decimal_bytes_per_sec})".to_owned(),
            (unit, 0) => format!("{{human_pos}} {unit} ({{elapsed}})"),
            (Step::BYTES, _) => {
                "[{bar:30}] {decimal_bytes}/{decimal_total_bytes} ({decimal_bytes_per_sec}, {eta} left)".to_owned()
            }
            (Step::STAGES, _) => "[{bar:30}] {pos}/{len} stages, {elapsed} elapsed ".to_owned(),
            (Step::CELLS, _) => "[{bar:30}] {pos}/{len} cells{cell_rate}".to_owned(),
            (unit, _) => format!("[{{bar:30}}] {{human_pos}}/{{human_len}} {unit} ({{per_sec}}, {{eta}} left)"),
        };
        if let Ok(style) = ProgressStyle::with_template(&format!("{{prefix}} {counts} {{wide_msg}}")) {
            let style = style.with_key("cell_rate", |state: &ProgressState, text: &mut dyn Write| {
                // What cannot be written is not shown.
                let _ = text.write_str(&cell_rate(state.per_sec(), state.eta()));
            });
            self.bar.set_style(style.progress_chars("=> "));
        }
    }

    fn show_when_due(&self) {
        if self.shown.is_completed() || self.begun.elapsed() < DELAY {
            return;
        }
        if let Some(parent) = self.parent {
            parent.show_when_due();
        }
        self.shown.call_once(|| {
            let bars = self.progress.printer.bars();
            match self.parent.filter(|parent| parent.shown.is_completed()) {
                Some(parent) => bars.insert_after(&parent.bar, self.bar.clone()),
                None => bars.add(self.bar.clone()),
            };
            if !bars.is_hidden() {
                self.bar.enable_steady_tick(TICK);
            }
        });
    }
}

impl Progress for Bar<'_> {
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_> {
        Box::new(self.progress.begin(step, Some(self)))
    }

    fn set(&self, done: usize) {
        self.show_when_due();
        // Work that passes by what was found counts from the beginning again.
        self.bar.set_position(self.found.max(done as u64));
    }

    fn set_total(&self, total: usize) {
        self.bar.set_length(total as u64);
        self.set_style(total);
    }

    fn message(&self, text: &str) {
        self.show_when_due();
        self.bar.set_message(text.to_owned());
    }

    fn warn(&self, text: &str) {
        self.progress.warn(text);
    }

    fn check(&self) -> Result<()> {
        self.show_when_due();
        self.progress.check()
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if let Some(name) = &self.stage {
            let (done, cells) = (self.bar.position(), self.bar.length().unwrap_or(0));
            // An error or the user stopped a stage that has less than all.
            let count = if done < cells { format!("{done} of {cells}") } else { cells.to_string() };
            let noun = if cells == 1 { "cell" } else { "cells" };
            let seconds = self.begun.elapsed().as_secs_f64();
            self.progress.printer.note(&format!("{name}: {count} {noun}, {seconds:.1} s"));
        }
    }
}

/// Cells a second, or a minute where that is more readable, and the time left; nothing before the first is finished.
fn cell_rate(per_second: f64, left: Duration) -> String {
    let left = HumanDuration(left);
    match per_second {
        rate if rate >= 1.0 => format!(" ({rate:.1}/s, {left:#} left)"),
        rate if rate > 0.0 => format!(" ({:.1}/min, {left:#} left)", 60.0 * rate),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_cells_are_counted_by_the_minute() {
        let left = Duration::from_secs(300);
        assert_eq!(
            [2.5, 0.05, 0.0].map(|rate| cell_rate(rate, left)),
            [" (2.5/s, 5m left)", " (3.0/min, 5m left)", ""]
        );
    }
}
