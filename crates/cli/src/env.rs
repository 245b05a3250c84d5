//! What every command gets: the printer, the resolved global settings, the interrupt flag.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use lopper_infer::Engine;
use lopper_model::Model;

use crate::args::{self, GlobalArgs};
use crate::interrupt;
use crate::printer::Printer;
use crate::progress::{Bars, Progress};

/// The surroundings of a command.
pub struct Env {
    pub printer: Printer,
    /// Threads to compute with.
    pub threads: usize,
    /// The revision that was asked for, of a model of the hub.
    pub revision: Option<String>,
    /// Whether the hub may not be asked.
    pub offline: bool,
    /// Set by the first Ctrl-C.
    pub interrupted: Arc<AtomicBool>,
}

impl Env {
    /// Resolves the global arguments, and prepares the process: threads, signals, logging.
    pub fn new(global: &GlobalArgs, printer: Printer) -> Result<Self> {
        printer.start_logging();
        args::device::check(&global.device)?;
        let threads = match global.threads {
            Some(threads) => threads.get(),
            None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        };
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .context("cannot start the threads to compute with")?;
        Ok(Self {
            printer,
            threads,
            revision: global.revision.clone(),
            offline: global.offline,
            interrupted: interrupt::install()?,
        })
    }

    /// Fails once Ctrl-C was pressed.
    pub fn check_interrupt(&self) -> Result<()> {
        interrupt::check(&self.interrupted)
    }

    /// Bars for the libraries' progress, which stops at Ctrl-C.
    pub fn bars(&self) -> Bars<'_> {
        Bars { printer: self.printer, interrupted: &self.interrupted }
    }

    /// An engine for `model` that uses this command's threads and stops at Ctrl-C.
    pub fn engine(&self, model: Model) -> Result<Engine> {
        Ok(Engine::new(model, self.threads)?.with_interrupt(self.interrupted.clone()))
    }

    /// A progress bar that shows up if the work takes more than a moment.
    pub fn progress(&self, title: &str, unit: &'static str, total: usize) -> Progress {
        Progress::new(self.printer, title, unit, total).with_interrupt(self.interrupted.clone())
    }
}
