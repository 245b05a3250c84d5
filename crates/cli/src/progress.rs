//! Progress bars with rate and time left, on standard error and only where someone looks at it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::printer::Printer;

/// Work that is done sooner shows no bar.
const DELAY: Duration = Duration::from_secs(1);

/// One bar; vanishes when it is dropped.
pub struct Progress {
    bar: ProgressBar,
    begun: Instant,
    waiting: AtomicBool,
}

impl Progress {
    pub fn new(printer: Printer, title: &str, unit: &'static str, total: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::hidden());
        let template = format!("{{msg}} [{{bar:30}}] {{human_pos}}/{{human_len}} {unit} ({{per_sec}}, {{eta}} left)");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(title.to_owned());
        Self { bar, begun: Instant::now(), waiting: AtomicBool::new(printer.shows_progress()) }
    }

    /// Moves the bar on by `n`.
    pub fn add(&self, n: usize) {
        self.show_when_due();
        self.bar.inc(n as u64);
    }

    /// Moves the bar to `n`.
    pub fn set(&self, n: usize) {
        self.show_when_due();
        self.bar.set_position(n as u64);
    }

    /// Says something new before the bar.
    pub fn message(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    fn show_when_due(&self) {
        if self.begun.elapsed() >= DELAY && self.waiting.swap(false, Ordering::Relaxed) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
