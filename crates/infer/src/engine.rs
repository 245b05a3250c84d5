//! The engine itself: a model, its threads, and how work is divided between them.
//!
//! The matrix products of a small model are too small to be worth splitting, so each thread takes whole batches and
//! runs sequential kernels. A large model, or a single batch, gets all threads inside each kernel instead. Neither
//! choice changes a result, since a token's result never depends on what else is in its batch.

use lopper_model::{Forward, MatmulPrecision, Model, Pack};
use lopper_record::{Context, LayerPosition, LayerSet, LayerSlot, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::{Arc, OnceLock};

/// Bytes that hidden states may take by default.
const MEMORY: usize = 1 << 30;

/// Runs one model with any of its layers left out. Cloning shares the weights and the threads.
#[derive(Debug, Clone)]
pub struct Engine {
    model: Model,
    pool: Arc<ThreadPool>,
    split_batches: bool,
    precision: MatmulPrecision,
    memory: usize,
    forward: Arc<OnceLock<Forward>>,
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
            precision: MatmulPrecision::F32,
            memory: MEMORY,
            forward: Arc::default(),
        })
    }

    /// The same threads and settings for another model.
    pub fn with_model(&self, model: Model) -> Self {
        let split_batches = splits(&model);
        Self { model, split_batches, forward: Arc::default(), ..self.clone() }
    }

    /// An engine that also holds copies of the layers `kept` with an adapter, taken from `adapted` (the same model
    /// with the adapter attached), and the slots of these copies. The cut with the adapter is then one more candidate
    /// of the same engine.
    ///
    /// # Errors
    /// A [`Fault`](lopper_record::Fault) where the adapter changes more than layers.
    pub fn with_adapted_layers(
        &self,
        adapted: &Model,
        kept: &LayerSet<LayerPosition>,
    ) -> Result<(Self, LayerSet<LayerSlot>)> {
        let model = self.model.with_adapted_layers(adapted, kept)?;
        let slots = (self.model.num_layers()..model.num_layers()).collect();
        // `split_batches` stays that of the model alone, so that sums are taken in the same order.
        Ok((Self { model, forward: Arc::default(), ..self.clone() }, slots))
    }

    /// Computes matrix products in `precision` from here on.
    pub fn with_precision(self, precision: MatmulPrecision) -> Self {
        Self { precision, forward: Arc::default(), ..self }
    }

    /// Limits the hidden states of all candidates and texts that go through a layer together to `bytes` (1 GiB by
    /// default); one text at a time always runs.
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

    /// All layers: the uncut model as a candidate.
    pub fn all_layers(&self) -> LayerSet<LayerSlot> {
        LayerSet::all(self.model.num_layers())
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// The model prepared for running forward; made at first use.
    pub(crate) fn forward(&self) -> &Forward {
        let pack = match self.precision {
            MatmulPrecision::Bf16 if !self.model.is_streamed() => Pack::Bf16,
            MatmulPrecision::F32 if self.split_batches => Pack::F32,
            _ => Pack::No,
        };
        self.forward.get_or_init(|| Forward::new(&self.model, pack, self.precision))
    }

    /// Whether each thread takes whole batches rather than all threads sharing each kernel.
    pub(crate) fn splits(&self) -> bool {
        self.split_batches
    }

    /// How many batches should run in parallel when there are `available` of them.
    pub(crate) fn parallel_batches(&self, available: usize) -> usize {
        if self.split_batches { self.threads().min(available).max(1) } else { 1 }
    }

    /// Runs `f` on the engine's threads.
    pub(crate) fn pool_install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.pool.install(f)
    }
}

/// Whether each thread should take whole batches of this model. The weights of a streamed model are read once for all
/// threads instead.
fn splits(model: &Model) -> bool {
    !model.is_streamed() && model.is_small()
}

/// Divides `0..lengths.len()` into consecutive ranges of at most `budget` tokens together; an item longer than that
/// gets a range of its own.
pub(crate) fn ranges(lengths: impl IntoIterator<Item = usize>, budget: usize) -> Vec<std::ops::Range<usize>> {
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
    use super::ranges;

    #[test]
    fn ranges_cover_everything_within_the_budget() {
        assert_eq!(ranges([3, 3, 3, 20, 1, 0, 9], 6), [0..2, 2..3, 3..4, 4..6, 6..7]);
        assert!(ranges([], 6).is_empty());
        assert_eq!(ranges([0, 0, 1], 0), [0..2, 2..3]);
    }
}
