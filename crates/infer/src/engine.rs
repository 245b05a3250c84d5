//! The engine itself: a model, its threads, and how work is shared between them.
//!
//! The products of a small model are too small to be worth splitting, so its batches are shared
//! out whole: each thread runs one with sequential kernels. A large model, or a single batch, gets
//! all threads inside each kernel instead. Neither choice changes a result, since no row's result
//! depends on what goes with it.

use anyhow::{Context, Result};
use lopper_model::{Forward, Model, Pack, Precision};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Parameters above which the threads work together on one batch, and weights are used as stored.
const SMALL_MODEL: usize = 50_000_000;
/// Bytes that hidden states may take unless told otherwise.
const MEMORY: usize = 1 << 30;

/// How far a call has come; for a progress bar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Requests (or sequences) finished.
    pub done: usize,
    /// Requests (or sequences) of the call.
    pub total: usize,
    /// Tokens generated so far; where nothing is generated, tokens times layers read.
    pub tokens: usize,
}

/// An observer that ignores what it is told.
pub fn silent(_: Progress) {}

/// The error of a call that was stopped through the flag given to [`Engine::with_interrupt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Runs one model at any depth. Cloning shares the weights and the threads.
#[derive(Debug, Clone)]
pub struct Engine {
    model: Model,
    pool: Arc<ThreadPool>,
    split_batches: bool,
    precision: Precision,
    memory: usize,
    forward: Arc<OnceLock<Forward>>,
    interrupt: Arc<AtomicBool>,
}

impl Engine {
    /// An engine with `threads` threads of its own (0: one for each core).
    pub fn new(model: Model, threads: usize) -> Result<Self> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("engine-{i}"))
            .build()
            .context("cannot start the engine's threads")?;
        let split_batches = splits(&model);
        Ok(Self {
            model,
            pool: Arc::new(pool),
            split_batches,
            precision: Precision::F32,
            memory: MEMORY,
            forward: Arc::default(),
            interrupt: Arc::default(),
        })
    }

    /// The same threads and interrupt flag for another model.
    pub fn with_model(&self, model: Model) -> Self {
        let split_batches = splits(&model);
        Self { model, split_batches, forward: Arc::default(), ..self.clone() }
    }

    /// The engine for this model and for the layers `kept` of `adapted`, the same model with an adapter; and the
    /// list of layers that is the latter's. Candidates of both go together then.
    pub fn beside(&self, adapted: &Model, kept: &[usize]) -> (Self, Vec<usize>) {
        let model = self.model.beside(adapted, kept);
        let layers = (self.model.num_layers()..model.num_layers()).collect();
        // As many threads for a batch as for either alone, so that sums are those of either alone.
        (Self { model, forward: Arc::default(), ..self.clone() }, layers)
    }

    /// Calls end with [`Interrupted`] soon after `flag` becomes true.
    pub fn with_interrupt(mut self, flag: Arc<AtomicBool>) -> Self {
        self.interrupt = flag;
        self
    }

    /// Products are computed in `precision` from here on.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, forward: Arc::default(), ..self }
    }

    /// Hidden states of all candidates and texts that go through a layer together take at most
    /// `bytes`; one text at a time always runs.
    pub fn with_memory(self, bytes: usize) -> Self {
        Self { memory: bytes, ..self }
    }

    /// Bytes that hidden states may take.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// All layers in order: the uncut model's list of kept layers.
    pub fn all_layers(&self) -> Vec<usize> {
        self.model.all_layers()
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Fails with [`Interrupted`] once the flag is set.
    pub fn check_interrupt(&self) -> Result<()> {
        if self.interrupt.load(Ordering::Relaxed) { Err(Interrupted.into()) } else { Ok(()) }
    }

    /// The model prepared for running forward; made at first use.
    pub(crate) fn forward(&self) -> &Forward {
        let pack = match self.precision {
            Precision::Bf16 if !self.model.is_streamed() => Pack::Bf16,
            Precision::F32 if self.split_batches => Pack::F32,
            _ => Pack::No,
        };
        self.forward.get_or_init(|| Forward::new(&self.model, pack, self.precision))
    }

    /// Whether work goes to one thread each rather than to all threads inside each kernel.
    pub(crate) fn splits(&self) -> bool {
        self.split_batches
    }

    /// How many batches should run side by side when there are `available` of them.
    pub(crate) fn lanes(&self, available: usize) -> usize {
        if self.split_batches { self.threads().min(available).max(1) } else { 1 }
    }

    /// Runs `f` on the engine's threads.
    pub(crate) fn pool_install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.pool.install(f)
    }
}

/// Whether batches of this model go to one thread each. Weights that are given back to their file are
/// read once for all threads instead.
fn splits(model: &Model) -> bool {
    !model.is_streamed() && model.parameter_count() < SMALL_MODEL
}

/// Splits `0..lengths.len()` into runs of neighbours of at most `budget` tokens together; an item
/// longer than that gets a run of its own.
pub(crate) fn runs(lengths: impl IntoIterator<Item = usize>, budget: usize) -> Vec<std::ops::Range<usize>> {
    let mut result = Vec::new();
    let (mut start, mut sum, mut end) = (0, 0usize, 0);
    for (i, len) in lengths.into_iter().enumerate() {
        if i > start && sum + len > budget {
            result.push(start..i);
            (start, sum) = (i, 0);
        }
        sum += len;
        end = i + 1;
    }
    if end > start {
        result.push(start..end);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn runs_cover_everything_within_the_budget() {
        assert_eq!(runs([3, 3, 3, 20, 1, 0, 9], 6), [0..2, 2..3, 3..4, 4..6, 6..7]);
        assert!(runs([], 6).is_empty());
        assert_eq!(runs([0, 0, 1], 0), [0..2, 2..3]);
    }
}
