//! What every command works with: the printer, the progress of its work and the resolved global settings.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lopper_infer::Engine;
use lopper_model::Model;
use lopper_record::{Context as _, Result};

use crate::args::{self, GlobalArgs};
use crate::interrupt;
use crate::printer::Printer;
use crate::progress::TerminalProgress;

/// The context of a command.
pub struct Context {
    pub printer: Printer,
    /// Shows how far the work has come, and interrupts it after Ctrl-C.
    pub progress: TerminalProgress,
    /// Threads to compute with.
    pub threads: usize,
    /// The revision that `--revision` names, of a model of the hub.
    pub revision: Option<String>,
    /// Whether only the hub's cache may be used.
    pub offline: bool,
    /// Set by the first Ctrl-C.
    pub interrupted: Arc<AtomicBool>,
}

impl Context {
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
        let interrupted = interrupt::install()?;
        Ok(Self {
            progress: TerminalProgress::new(printer.clone(), interrupted.clone()),
            printer,
            threads,
            revision: global.revision.clone(),
            offline: global.offline,
            interrupted,
        })
    }

    /// An engine for `model` that uses this command's threads.
    pub fn engine(&self, model: Model) -> Result<Engine> {
        Engine::new(model, self.threads)
    }
}
