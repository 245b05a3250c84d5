//! How long work says how far it has come: the one interface that every library takes and the command line implements.
//!
//! Work consists of steps, and a step may consist of smaller ones. [`Progress::step`] begins a step and gives what
//! stands for it; dropping that ends it. A caller who does not want to know passes [`NoProgress`].
//!
//! ```
//! use lopper_record::{NoProgress, Progress, Step};
//!
//! fn read(files: &[&str], progress: &dyn Progress) -> lopper_record::Result<()> {
//!     let step = progress.step(Step::new("reading", "files", files.len()));
//!     for (at, file) in files.iter().enumerate() {
//!         step.check()?;
//!         step.message(file);
//!         step.set(at + 1);
//!     }
//!     Ok(())
//! }
//! read(&["a", "b"], &NoProgress).unwrap();
//! ```

use std::fmt;

use crate::Result;

/// A step of some work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// What is done: "evaluating", "without layer 3".
    pub name: &'a str,
    /// What is counted, in the plural: "requests", "steps", "cells"; [`Step::BYTES`] is shown in the unit that suits.
    pub unit: &'static str,
    /// How many there are; 0 where that shows later ([`Progress::set_total`]).
    pub total: usize,
    /// How many of them were there before the work began, from an earlier run.
    pub found: usize,
}

impl<'a> Step<'a> {
    /// The unit of downloads and copies.
    pub const BYTES: &'static str = "bytes";
    /// The unit of a study's stages, whose end is worth a line of its own.
    pub const CELLS: &'static str = "cells";

    /// The unit of a whole study.
    pub const STAGES: &'static str = "stages";

    /// A step of `total` units.
    pub fn new(name: &'a str, unit: &'static str, total: usize) -> Self {
        Self { name, unit, total, found: 0 }
    }

    /// Of which so many are there already.
    pub fn found(self, found: usize) -> Self {
        Self { found, ..self }
    }
}

/// Receives how far long work has come, from whichever thread is at work.
pub trait Progress: Sync {
    /// Begins a step of this work; it ends when what is returned is dropped.
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_>;

    /// `done` units of this step are finished.
    fn set(&self, _done: usize) {}

    /// This step has `total` units.
    fn set_total(&self, _total: usize) {}

    /// One short text about the moment, shown beside the bar: the current file, the loss.
    fn message(&self, _text: &str) {}

    /// Something the user should know, shown once and for good.
    fn warn(&self, _text: &str) {}

    /// Fails with [`Interrupted`] once the user wants the work to stop. Asked at every point where stopping loses
    /// little.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Shows nothing and never interrupts.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn step(&self, _: Step<'_>) -> Box<dyn Progress + '_> {
        Box::new(Self)
    }
}

/// The error of work that the user stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}
