//! Many candidates in one pass: each layer runs once, as one batch, for all candidates that keep it.
//!
//! A candidate is the set of layers it keeps. Candidates that agree on all layers so far have the same hidden states,
//! so the candidates form a trie over the layers: at each layer, a [`State`] is computed for the candidates that
//! keep the layer, stays as it is for those that do not, and is divided where some do and some do not. All L
//! single-layer removals of a model of L layers take L·(L−1)/2 + L − 1 layers of work together, where one after
//! another would take L·(L−1); each layer's weights are read once for all of them.
//!
//! How much goes through a layer at a time is bounded by memory: [`Engine::with_memory`].

use crate::engine::{Engine, ranges};
use lopper_model::{Batch, Past, PreparedBatch, Threads, Workspace};
use lopper_record::{LayerSet, LayerSlot, Progress, Result, ensure};
use rayon::prelude::*;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Tokens of a batch; a longer text is a batch by itself.
pub(crate) const BATCH_TOKENS: usize = 1024;

/// What a call cost, in tokens times layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Tokens that went through a layer, summed over layers.
    pub layer_tokens: u64,
    /// Tokens that went through the head.
    pub head_tokens: u64,
    /// What `layer_tokens` would be if each candidate ran alone, without sharing.
    pub unshared_layer_tokens: u64,
}

/// Hidden states that some candidates share.
#[derive(Clone)]
pub(crate) struct State {
    /// The candidates, by index.
    pub members: Vec<usize>,
    /// Hidden states `[tokens, hidden]` of each batch.
    pub hidden: Vec<Arc<Vec<f32>>>,
}

/// Keys and values that a layer computed for a batch, valid for the candidates `members`.
pub(crate) struct LayerKeys<'a> {
    pub layer: LayerSlot,
    pub members: &'a [usize],
    pub keys: &'a [f32],
    pub values: &'a [f32],
}

/// The hidden states into and out of one layer, for one batch of the first candidate.
#[derive(Debug, Clone, Copy)]
pub struct LayerActivations<'a> {
    /// The layer.
    pub layer: LayerSlot,
    /// Number of the batch; each batch goes through the candidate's layers in order.
    pub batch_index: usize,
    /// The texts.
    pub batch: &'a Batch,
    /// Hidden states into the layer, `[batch.len(), hidden]`.
    pub input: &'a [f32],
    /// Hidden states out of it, of the same shape.
    pub output: &'a [f32],
}

/// Called after each layer of the first candidate, for different batches from several threads at a time.
pub type LayerHook<'a> = dyn Fn(LayerActivations<'_>) + Sync + 'a;

/// What is called while layers run.
#[derive(Default, Clone, Copy)]
pub(crate) struct Hooks<'a> {
    pub keys: Option<&'a (dyn Fn(LayerKeys<'_>) + Sync + 'a)>,
    /// Gets the first candidate's activations, with batches numbered from `first_batch`.
    pub activations: Option<&'a LayerHook<'a>>,
    pub first_batch: usize,
    pub meter: Option<&'a WorkMeter<'a>>,
}

/// Refuses layers that the model does not have.
pub(crate) fn check_candidates(engine: &Engine, candidates: &[LayerSet<LayerSlot>]) -> Result<()> {
    let layers = engine.model().num_layers();
    for kept in candidates {
        ensure!(kept.indices().all(|layer| layer < layers), "kept layers {kept} of a model that has {layers}");
    }
    Ok(())
}

/// The most states that exist at the same time.
pub(crate) fn most_states(candidates: &[LayerSet<LayerSlot>], layers: usize) -> usize {
    let states_at = |layer: usize| {
        let slices = candidates.iter().map(LayerSet::as_slice);
        slices.map(|kept| &kept[..kept.partition_point(|l| l.0 < layer)]).collect::<HashSet<_>>().len()
    };
    (0..=layers).map(states_at).max().unwrap_or(0).max(1)
}

/// Nodes of the trie: layers that run for all candidates together, for one text.
pub(crate) fn trie_size(candidates: &[LayerSet<LayerSlot>]) -> usize {
    let slices = candidates.iter().map(LayerSet::as_slice);
    slices.flat_map(|kept| (1..=kept.len()).map(move |len| &kept[..len])).collect::<HashSet<_>>().len()
}

impl Engine {
    /// Divides candidates and batches (given by their tokens) into groups, so that the hidden states of one group of
    /// candidates on one group of batches fit the memory there is.
    pub(crate) fn groups(
        &self,
        candidates: &[LayerSet<LayerSlot>],
        batches: &[usize],
    ) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
        let layers = self.model().num_layers();
        // A state and what a layer makes of it, besides the layer's own buffers.
        let token_bytes = 2 * self.model().config.hidden_size * size_of::<f32>();
        let tokens = (self.memory() / token_bytes).max(1);
        let largest = batches.iter().copied().max().unwrap_or(1).max(1);
        let mut size = candidates.len().max(1);
        while size > 1 && most_states(&candidates[..size.min(candidates.len())], layers) * largest > tokens {
            size = size.div_ceil(2);
        }
        let candidate_groups: Vec<_> =
            (0..candidates.len()).step_by(size).map(|at| at..(at + size).min(candidates.len())).collect();
        let states = candidate_groups.iter().map(|g| most_states(&candidates[g.clone()], layers)).max().unwrap_or(1);
        // Weights in memory are cheap to read again, and small groups keep hidden states in the processor's caches.
        // Weights in a file are read once for each group, which is then as large as may be.
        let most = if self.model().is_streamed() { usize::MAX } else { 2 * self.threads() * BATCH_TOKENS };
        (candidate_groups, ranges(batches.iter().copied(), (tokens / states).clamp(1, most)))
    }

    /// Sends `batches` through the layers for all `candidates`, and returns the states after the last layer.
    pub(crate) fn run_candidates(
        &self,
        candidates: &[LayerSet<LayerSlot>],
        batches: &[PreparedBatch],
        progress: &dyn Progress,
        hooks: Hooks<'_>,
    ) -> Result<Vec<State>> {
        let forward = self.forward();
        let embed = |batch: &PreparedBatch| {
            let mut x = Vec::new();
            forward.embed(&batch.batch.tokens, &mut x);
            Arc::new(x)
        };
        let mut states =
            vec![State { members: (0..candidates.len()).collect(), hidden: batches.iter().map(embed).collect() }];
        let workspaces = Workspaces::default();
        let attended: Vec<usize> = batches.iter().map(|batch| attended(&batch.batch)).collect();
        for layer in (0..self.model().num_layers()).map(LayerSlot) {
            progress.check()?;
            let divided: Vec<(Vec<usize>, Vec<usize>)> = states
                .iter()
                .map(|state| state.members.iter().partition(|member| candidates[**member].contains(layer)))
                .collect();
            let jobs: Vec<(usize, usize)> = divided
                .iter()
                .enumerate()
                .filter(|(_, (keep, _))| !keep.is_empty())
                .flat_map(|(state, _)| (0..batches.len()).map(move |batch| (state, batch)))
                .collect();
            let run = |work: &mut Workspace, (state, index): (usize, usize), par: Threads| {
                let (batch, input, members) = (&batches[index], &states[state].hidden[index], &divided[state].0);
                let mut output = Vec::new();
                forward.layer(layer, batch, input, Past::Batch, par, work, &mut output);
                if let Some(hook) = hooks.activations.filter(|_| members.contains(&0)) {
                    let (batch_index, batch, output) = (hooks.first_batch + index, &batch.batch, &output);
                    hook(LayerActivations { layer, batch_index, batch, input, output });
                }
                if let Some(hook) = hooks.keys {
                    hook(LayerKeys { layer, members, keys: &work.k, values: &work.v });
                }
                if let Some(meter) = hooks.meter {
                    meter.add(batch.batch.len() as u64);
                }
                Arc::new(output)
            };
            let outputs: Vec<Arc<Vec<f32>>> = if self.splits() || jobs.len() >= 2 * self.threads() {
                // What is most of the work would keep one thread busy alone.
                let pairs: usize = jobs.iter().map(|(_, batch)| attended[*batch]).sum();
                let is_most = |batch: usize| 2 * self.threads() * attended[batch] > pairs;
                let each = |work: &mut Workspace, job: (usize, usize)| {
                    run(work, job, if is_most(job.1) { Threads::Pool } else { Threads::One })
                };
                let init = || workspaces.take();
                jobs.par_iter().with_max_len(1).map_init(init, |work, job| each(&mut work.0, *job)).collect()
            } else {
                let mut work = workspaces.take();
                jobs.iter().map(|job| run(&mut work.0, *job, Threads::Team)).collect()
            };
            forward.release_layer(layer);
            let mut outputs = outputs.into_iter();
            let mut next = Vec::with_capacity(states.len() + 1);
            for (state, (keep, skip)) in states.into_iter().zip(divided) {
                if !keep.is_empty() {
                    next.push(State { members: keep, hidden: outputs.by_ref().take(batches.len()).collect() });
                }
                if !skip.is_empty() {
                    next.push(State { members: skip, hidden: state.hidden });
                }
            }
            states = next;
        }
        Ok(states)
    }

    /// Prepares batches for [`Engine::run_candidates`].
    pub(crate) fn prepare(&self, batches: impl IntoIterator<Item = Batch>) -> Vec<PreparedBatch> {
        batches.into_iter().map(|batch| self.forward().prepare(batch)).collect()
    }
}

/// Buffers that layers have used, for the next ones: new memory costs more than some of what is computed in it.
#[derive(Default)]
struct Workspaces(Mutex<Vec<Workspace>>);

/// A workspace that goes back when it is no longer used.
struct Taken<'a>(Workspace, &'a Workspaces);

impl Workspaces {
    fn take(&self) -> Taken<'_> {
        let mut unused = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Taken(unused.pop().unwrap_or_default(), self)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut unused = self.1.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        unused.push(std::mem::take(&mut self.0));
    }
}

/// Pairs of a token and one that it may see, about: what attention costs.
fn attended(batch: &Batch) -> usize {
    let own = |sequence: usize| batch.bounds[sequence + 1] - batch.bounds[sequence];
    (0..batch.sequences()).map(|sequence| own(sequence) * batch.text_len(sequence)).sum()
}

/// Counts work, and reports it as finished requests: a request counts as finished when its portion of the work is.
pub(crate) struct WorkMeter<'a> {
    done: AtomicU64,
    work: u64,
    requests: usize,
    progress: &'a dyn Progress,
}

impl<'a> WorkMeter<'a> {
    /// For `work` tokens times layers in all, which answer `requests`.
    pub fn new(work: u64, requests: usize, progress: &'a dyn Progress) -> Self {
        Self { done: AtomicU64::new(0), work: work.max(1), requests, progress }
    }

    pub fn add(&self, work: u64) {
        let done = self.done.fetch_add(work, Ordering::Relaxed) + work;
        let finished = u128::from(done.min(self.work)) * self.requests as u128 / u128::from(self.work);
        self.progress.set(finished as usize);
    }

    pub fn total(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_removals_take_half_the_work() {
        let layers = 24;
        let single: Vec<LayerSet<LayerSlot>> =
            (0..layers).map(|layer| LayerSet::from([layer]).complement(layers)).collect();
        // Each candidate runs the layers after its gap alone; the layers before are shared.
        assert_eq!(trie_size(&single), layers * (layers - 1) / 2 + layers - 1);
        assert_eq!(most_states(&single, layers), layers);
        assert_eq!(trie_size(&[[0, 1], [0, 1], [0, 2]].map(LayerSet::from)), 3);
    }
}
