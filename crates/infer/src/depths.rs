//! Many candidates in one pass: the layers are gone through once, and at each of them everything
//! that still runs, whichever candidates it belongs to.
//!
//! A candidate is its list of kept layers, in order. Candidates that agree on all layers so far have
//! one hidden state between them, so the candidates form a trie over the layers: at each layer a
//! state goes through it for those that keep the layer, stays as it is for those that do not, and
//! divides where both kinds share it. Every single-layer removal of a model of L layers takes
//! L·(L−1)/2 + L layers of work in all, where one after another would take L·(L−1); each layer's
//! weights are read once for all of them.
//!
//! What goes through at a time is bounded by memory: [`Engine::with_memory`].

use crate::engine::Engine;
use anyhow::{Result, ensure};
use lopper_model::{Batch, Par, Past, Reading, Workspace};
use rayon::prelude::*;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tokens that go through a layer at a time; a longer text goes alone.
pub(crate) const CHUNK_TOKENS: usize = 1024;

/// What a call cost, in rows of hidden states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Rows that went through a layer, summed over layers.
    pub layer_rows: u64,
    /// Rows that went through the head.
    pub head_rows: u64,
    /// Rows that each candidate alone would send through its layers, summed over candidates.
    pub apart_rows: u64,
}

/// Hidden states that some candidates share.
#[derive(Clone)]
pub(crate) struct State {
    /// The candidates.
    pub members: Vec<usize>,
    /// Hidden states `[rows, hidden]` of each chunk.
    pub hidden: Vec<Arc<Vec<f32>>>,
}

/// Keys and values that a layer made of a chunk, for the members of a state.
pub(crate) struct LayerKeys<'a> {
    pub layer: usize,
    pub members: &'a [usize],
    pub keys: &'a [f32],
    pub values: &'a [f32],
}

/// Is told of keys and values as they are made.
pub(crate) type Capture<'a> = dyn Fn(LayerKeys<'_>) + Sync + 'a;

/// What a layer did to a chunk of texts in the first candidate.
#[derive(Debug, Clone, Copy)]
pub struct LayerStep<'a> {
    /// The layer.
    pub layer: usize,
    /// Number of the chunk; each goes through the candidate's layers in order.
    pub chunk: usize,
    /// The texts.
    pub batch: &'a Batch,
    /// Hidden states into the layer, `[batch.len(), hidden]`.
    pub before: &'a [f32],
    /// Hidden states out of it.
    pub after: &'a [f32],
}

/// Is told what each layer does; chunks may come from several threads at a time.
pub type Visit<'a> = dyn Fn(LayerStep<'_>) + Sync + 'a;

/// What looks on while layers run.
#[derive(Default, Clone, Copy)]
pub(crate) struct Taps<'a> {
    pub capture: Option<&'a Capture<'a>>,
    /// Sees the steps of the first candidate, chunks numbered from `first_chunk`.
    pub visit: Option<&'a Visit<'a>>,
    pub first_chunk: usize,
}

/// Refuses lists of layers that are not in the model's order.
pub(crate) fn check_candidates(engine: &Engine, candidates: &[Vec<usize>]) -> Result<()> {
    let layers = engine.model().num_layers();
    for kept in candidates {
        ensure!(
            kept.windows(2).all(|pair| pair[0] < pair[1]) && kept.last().is_none_or(|last| *last < layers),
            "kept layers {kept:?} of a model that has {layers}: each once, in order"
        );
    }
    Ok(())
}

/// The most states that are alive at once.
pub(crate) fn widest(candidates: &[Vec<usize>], layers: usize) -> usize {
    let mut most = 1;
    for layer in 0..=layers {
        let prefixes: HashSet<&[usize]> =
            candidates.iter().map(|kept| &kept[..kept.partition_point(|l| *l < layer)]).collect();
        most = most.max(prefixes.len());
    }
    most
}

/// Layers of work that all candidates take together, for one text.
pub(crate) fn layers_of_work(candidates: &[Vec<usize>]) -> usize {
    let prefixes: HashSet<&[usize]> =
        candidates.iter().flat_map(|kept| (1..=kept.len()).map(|len| &kept[..len])).collect();
    prefixes.len()
}

impl Engine {
    /// Divides candidates into groups, and chunks into waves, so that the hidden states of a group
    /// and a wave keep to the memory there is.
    pub(crate) fn waves(&self, candidates: &[Vec<usize>], chunks: &[usize]) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
        let layers = self.model().num_layers();
        // A state and what a layer makes of it, beside the layer's own buffers.
        let row = 2 * self.model().config.hidden_size * size_of::<f32>();
        let rows = (self.memory() / row).max(1);
        let largest = chunks.iter().copied().max().unwrap_or(1).max(1);
        let mut group = candidates.len().max(1);
        while group > 1 && widest(&candidates[..group.min(candidates.len())], layers) * largest > rows {
            group = group.div_ceil(2);
        }
        let groups: Vec<_> =
            (0..candidates.len()).step_by(group).map(|at| at..(at + group).min(candidates.len())).collect();
        let states = groups.iter().map(|g| widest(&candidates[g.clone()], layers)).max().unwrap_or(1);
        // Weights in memory are read again soon enough; small waves then keep hidden states in the
        // caches. Weights in a file are read once for a wave, which is as large as may be.
        let most = if self.model().is_streamed() { usize::MAX } else { 2 * self.threads() * CHUNK_TOKENS };
        let budget = (rows / states).clamp(1, most);
        (groups, crate::engine::runs(chunks.iter().copied(), budget))
    }

    /// Sends `chunks` through the layers for all `candidates`; the states at the end.
    ///
    /// `advance` is told the rows of work done since it was last told.
    pub(crate) fn run_depths(
        &self,
        candidates: &[Vec<usize>],
        chunks: &[Reading],
        taps: Taps<'_>,
        advance: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<State>> {
        let forward = self.forward();
        let embed = |chunk: &Reading| {
            let mut x = Vec::new();
            forward.embed(&chunk.batch.tokens, &mut x);
            Arc::new(x)
        };
        let mut states =
            vec![State { members: (0..candidates.len()).collect(), hidden: chunks.iter().map(embed).collect() }];
        for layer in 0..self.model().num_layers() {
            self.check_interrupt()?;
            let divided: Vec<(Vec<usize>, Vec<usize>)> = states
                .iter()
                .map(|state| state.members.iter().partition(|m| candidates[**m].binary_search(&layer).is_ok()))
                .collect();
            let jobs: Vec<(usize, usize)> = divided
                .iter()
                .enumerate()
                .filter(|(_, (keep, _))| !keep.is_empty())
                .flat_map(|(state, _)| (0..chunks.len()).map(move |chunk| (state, chunk)))
                .collect();
            let run = |work: &mut Workspace, (state, chunk): (usize, usize), par: Par| {
                let reading = &chunks[chunk];
                let mut out = Vec::new();
                forward.layer(layer, reading, &states[state].hidden[chunk], Past::Batch, par, work, &mut out);
                if let Some(visit) = taps.visit.filter(|_| divided[state].0.contains(&0)) {
                    let (before, after) = (states[state].hidden[chunk].as_slice(), out.as_slice());
                    visit(LayerStep { layer, chunk: taps.first_chunk + chunk, batch: &reading.batch, before, after });
                }
                if let Some(capture) = taps.capture {
                    let (members, keys, values) = (divided[state].0.as_slice(), work.k.as_slice(), work.v.as_slice());
                    capture(LayerKeys { layer, members, keys, values });
                }
                advance(reading.batch.len() as u64);
                Arc::new(out)
            };
            let made: Vec<Arc<Vec<f32>>> = if self.splits() || jobs.len() >= 2 * self.threads() {
                let each = |work: &mut Workspace, job| run(work, job, Par::Sequential);
                jobs.par_iter().with_max_len(1).map_init(Workspace::default, |work, job| each(work, *job)).collect()
            } else {
                let mut work = Workspace::default();
                jobs.iter().map(|job| run(&mut work, *job, Par::Pool)).collect()
            };
            forward.release_layer(layer);
            let mut made = made.into_iter();
            let mut next = Vec::with_capacity(states.len() + 1);
            for (state, (keep, drop)) in states.into_iter().zip(divided) {
                if !keep.is_empty() {
                    next.push(State { members: keep, hidden: made.by_ref().take(chunks.len()).collect() });
                }
                if !drop.is_empty() {
                    next.push(State { members: drop, hidden: state.hidden });
                }
            }
            states = next;
        }
        Ok(states)
    }

    /// Prepares batches for [`Engine::run_depths`].
    pub(crate) fn readings(&self, batches: Vec<Batch>) -> Vec<Reading> {
        batches.into_iter().map(|batch| self.forward().reading(batch)).collect()
    }
}

/// Tells an observer how far a call has come, in shares of its requests.
pub(crate) struct Meter<'a> {
    done: AtomicU64,
    work: u64,
    requests: usize,
    observer: &'a (dyn Fn(crate::Progress) + Sync),
}

impl<'a> Meter<'a> {
    /// For `work` rows in all, answered as `requests`.
    pub fn new(work: u64, requests: usize, observer: &'a (dyn Fn(crate::Progress) + Sync)) -> Self {
        Self { done: AtomicU64::new(0), work: work.max(1), requests, observer }
    }

    pub fn advance(&self, rows: u64) {
        let done = self.done.fetch_add(rows, Ordering::Relaxed) + rows;
        let share = u128::from(done.min(self.work)) * self.requests as u128 / u128::from(self.work);
        (self.observer)(crate::Progress { done: share as usize, total: self.requests, tokens: done as usize });
    }

    pub fn rows(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_removals_take_half_the_work() {
        let layers = 24;
        let single: Vec<Vec<usize>> = (0..layers).map(|drop| (0..layers).filter(|l| *l != drop).collect()).collect();
        // Each candidate runs the layers after its gap alone; the layers before are shared.
        assert_eq!(layers_of_work(&single), layers * (layers - 1) / 2 + layers - 1);
        assert_eq!(widest(&single, layers), layers);
        assert_eq!(layers_of_work(&[vec![0, 1], vec![0, 1], vec![0, 2]]), 3);
    }
}
