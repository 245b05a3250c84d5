//! A [`Progress`] that remembers what was reported, and can interrupt the work.

use lopper_record::{Interrupted, Progress, Step};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What was reported of one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedStep {
    /// [`Step::name`].
    pub name: String,
    /// [`Step::unit`].
    pub unit: &'static str,
    /// The latest total.
    pub total: usize,
    /// [`Step::found`].
    pub found: usize,
    /// The most units reported as done; threads may report them out of order.
    pub done: usize,
    /// How often units were reported.
    pub reports: usize,
    /// How often fewer units were reported than before.
    pub decreases: usize,
    /// The messages, in order.
    pub messages: Vec<String>,
}

type Condition = dyn Fn(&RecordedStep) -> bool + Send + Sync;

/// Remembers every step, in the order in which they began.
pub struct RecordedProgress {
    steps: Mutex<Vec<RecordedStep>>,
    warnings: Mutex<Vec<String>>,
    checks_left: AtomicUsize,
    condition: Box<Condition>,
    interrupted: AtomicBool,
}

impl Default for RecordedProgress {
    fn default() -> Self {
        Self::interrupting_at(usize::MAX)
    }
}

impl RecordedProgress {
    /// Interrupts the work at the check with this number, from 0, and at every later one.
    pub fn interrupting_at(check: usize) -> Self {
        Self { checks_left: check.into(), ..Self::interrupting_when(|_| false) }
    }

    /// Interrupts the work at every check after a report that makes `condition` true of its step.
    pub fn interrupting_when(condition: impl Fn(&RecordedStep) -> bool + Send + Sync + 'static) -> Self {
        Self {
            steps: Mutex::default(),
            warnings: Mutex::default(),
            checks_left: usize::MAX.into(),
            condition: Box::new(condition),
            interrupted: false.into(),
        }
    }

    /// The steps so far.
    pub fn steps(&self) -> Vec<RecordedStep> {
        self.locked().clone()
    }

    /// The step of this name that began last.
    ///
    /// # Panics
    /// Where there is none.
    #[track_caller]
    pub fn last(&self, name: &str) -> RecordedStep {
        let steps = self.steps();
        let found = steps.iter().rev().find(|step| step.name == name);
        found.unwrap_or_else(|| panic!("no step `{name}` among {steps:?}")).clone()
    }

    /// The warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<RecordedStep>> {
        self.steps.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Progress for RecordedProgress {
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_> {
        let Step { name, unit, total, found } = step;
        let mut steps = self.locked();
        let name = name.to_owned();
        steps.push(RecordedStep { name, unit, total, found, done: found, ..RecordedStep::default() });
        Box::new(Recorder { all: self, index: steps.len() - 1 })
    }

    fn warn(&self, text: &str) {
        self.warnings.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(text.to_owned());
    }

    fn check(&self) -> lopper_record::Result<()> {
        let left = self.checks_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_err() || self.interrupted.load(Ordering::Relaxed) { Err(Interrupted.into()) } else { Ok(()) }
    }
}

struct Recorder<'a> {
    all: &'a RecordedProgress,
    index: usize,
}

impl Progress for Recorder<'_> {
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_> {
        self.all.step(step)
    }

    fn set(&self, done: usize) {
        let step = &mut self.all.locked()[self.index];
        step.decreases += usize::from(done < step.done);
        step.done = step.done.max(done);
        step.reports += 1;
        self.all.interrupted.fetch_or((self.all.condition)(step), Ordering::Relaxed);
    }

    fn set_total(&self, total: usize) {
        self.all.locked()[self.index].total = total;
    }

    fn message(&self, text: &str) {
        self.all.locked()[self.index].messages.push(text.to_owned());
    }

    fn warn(&self, text: &str) {
        self.all.warn(text);
    }

    fn check(&self) -> lopper_record::Result<()> {
        self.all.check()
    }
}
