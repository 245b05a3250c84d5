//! Progress bars with rate and time left, on standard error and only where someone looks at it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lopper_record::Step;

use crate::interrupt;
use crate::printer::Printer;

/// Work that is done sooner shows no bar.
const DELAY: Duration = Duration::from_secs(1);

/// One bar; vanishes when it is dropped.
pub struct Progress {
    bar: ProgressBar,
    begun: Instant,
    waiting: AtomicBool,
    interrupted: Arc<AtomicBool>,
}

impl Progress {
    pub fn new(printer: Printer, title: &str, unit: &'static str, total: usize) -> Self {
        let template = format!("{{msg}} [{{bar:30}}] {{human_pos}}/{{human_len}} {unit} ({{per_sec}}, {{eta}} left)");
        Self::styled(printer, title, &template, total as u64)
    }

    /// A bar that counts bytes, in the unit that suits them.
    pub fn of_bytes(printer: Printer, title: &str, total: u64) -> Self {
        const TEMPLATE: &str =
            "{msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} ({decimal_bytes_per_sec}, {eta} left)";
        Self::styled(printer, title, TEMPLATE, total)
    }

    fn styled(printer: Printer, title: &str, template: &str, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(title.to_owned());
        Self {
            bar,
            begun: Instant::now(),
            waiting: AtomicBool::new(printer.shows_progress()),
            interrupted: Arc::default(),
        }
    }

    /// Work that shows this bar ends once `flag` is set.
    pub fn with_interrupt(mut self, flag: Arc<AtomicBool>) -> Self {
        self.interrupted = flag;
        self
    }

    /// Moves the bar to `n`.
    pub fn set(&self, n: usize) {
        self.show_when_due();
        self.bar.set_position(n as u64);
    }

    /// Moves the bar to `n` of `total`, where the work comes in parts of different lengths.
    pub fn set_of(&self, n: usize, total: usize) {
        self.bar.set_length(total as u64);
        self.set(n);
    }

    /// Moves the bar to `bytes` that are there already: they say nothing of the rate.
    pub fn begin_at(&self, bytes: u64) {
        self.bar.set_position(bytes);
        self.bar.reset_eta();
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

/// A bar shows the innermost step of the work under way.
impl lopper_record::Progress for Progress {
    fn step(&self, step: Step<'_>) -> Box<dyn lopper_record::Progress + '_> {
        Box::new(BarStep { bar: self, total: step.total.into() })
    }

    fn check(&self) -> anyhow::Result<()> {
        interrupt::check(&self.interrupted)
    }
}

struct BarStep<'a> {
    bar: &'a Progress,
    total: AtomicUsize,
}

impl lopper_record::Progress for BarStep<'_> {
    fn step(&self, step: Step<'_>) -> Box<dyn lopper_record::Progress + '_> {
        Box::new(BarStep { bar: self.bar, total: step.total.into() })
    }

    fn set(&self, done: usize) {
        self.bar.set_of(done, self.total.load(Ordering::Relaxed));
    }

    fn set_total(&self, total: usize) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn check(&self) -> anyhow::Result<()> {
        interrupt::check(&self.bar.interrupted)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The progress interface of the libraries, as bars.
pub struct Bars<'a> {
    pub printer: Printer,
    pub interrupted: &'a AtomicBool,
}

impl lopper_record::Progress for Bars<'_> {
    fn step(&self, step: Step<'_>) -> Box<dyn lopper_record::Progress + '_> {
        let bar = if step.unit == Step::BYTES {
            Progress::of_bytes(self.printer, step.name, step.total as u64)
        } else {
            Progress::new(self.printer, step.name, step.unit, step.total)
        };
        bar.begin_at(step.found as u64);
        Box::new(StepBar { bars: self, name: step.name.to_owned(), bar })
    }

    fn warn(&self, text: &str) {
        self.printer.warn(text);
    }

    fn check(&self) -> anyhow::Result<()> {
        interrupt::check(self.interrupted)
    }
}

struct StepBar<'a> {
    bars: &'a Bars<'a>,
    name: String,
    bar: Progress,
}

impl lopper_record::Progress for StepBar<'_> {
    fn step(&self, step: Step<'_>) -> Box<dyn lopper_record::Progress + '_> {
        self.bars.step(step)
    }

    fn set(&self, done: usize) {
        self.bar.set(done);
    }

    fn message(&self, text: &str) {
        self.bar.message(&format!("{}, {text}", self.name));
    }

    fn warn(&self, text: &str) {
        self.bars.warn(text);
    }

    fn check(&self) -> anyhow::Result<()> {
        self.bars.check()
    }
}
