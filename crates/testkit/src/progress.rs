//! A [`Progress`] that remembers what was reported, and can interrupt the work.

use lopper_record::{Interrupted, Progress, Step};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What was reported of one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedStep {
    /// [`Step::name`].
    pub name: String,
    /// [`Step::unit`].
    pub unit: &'static str,
    /// The latest total.
    pub total: usize,
    /// The most units reported as done; threads may report them out of order.
    pub done: usize,
    /// How often units were reported.
    pub reports: usize,
    /// How often fewer units were reported than before.
    pub decreases: usize,
}

/// Remembers every step, in the order in which they began.
#[derive(Debug)]
pub struct RecordedProgress {
    steps: Mutex<Vec<RecordedStep>>,
    checks_left: AtomicUsize,
}

impl Default for RecordedProgress {
    fn default() -> Self {
        Self::interrupting_at(usize::MAX)
    }
}

impl RecordedProgress {
    /// Interrupts the work at the check with this number, from 0, and at every later one.
    pub fn interrupting_at(check: usize) -> Self {
        Self { steps: Mutex::default(), checks_left: check.into() }
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

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<RecordedStep>> {
        self.steps.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Progress for RecordedProgress {
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_> {
        let Step { name, unit, total, found } = step;
        let mut steps = self.locked();
        steps.push(RecordedStep { name: name.to_owned(), unit, total, done: found, reports: 0, decreases: 0 });
        Box::new(Recorder { all: self, index: steps.len() - 1 })
    }

    fn check(&self) -> anyhow::Result<()> {
        let left = self.checks_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| Interrupted.into())
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
    }

    fn set_total(&self, total: usize) {
        self.all.locked()[self.index].total = total;
    }

    fn check(&self) -> anyhow::Result<()> {
        self.all.check()
    }
}
