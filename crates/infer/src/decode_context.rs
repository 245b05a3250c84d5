//! What all workers of one call to generate share: candidates, requests, the queue of prompts, and counts.

use crate::engine::Engine;
use crate::generate::{GenerateOptions, Generation, Generations, Request};
use crate::sampling::Sampling;
use lopper_model::kernels::attention_infer::SPAN;
use lopper_record::{LayerSet, LayerSlot, Progress, Result};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A sequence to generate: a candidate and a request, by index.
pub(crate) type Job = (usize, usize);

/// What is called with each generation as it ends, from the thread that made it.
pub(crate) type Finished<'a> = &'a (dyn Fn(Job, &Generation) -> Result<()> + Sync);

/// Requests of one prompt for some candidates, waiting for their prefill.
pub(crate) struct PrefillBatch {
    pub candidates: Vec<usize>,
    pub requests: Vec<usize>,
}

pub(crate) struct DecodeContext<'a> {
    pub engine: &'a Engine,
    pub candidates: &'a [LayerSet<LayerSlot>],
    pub requests: &'a [Request],
    pub drafts: &'a [Option<Vec<u32>>],
    pub options: &'a GenerateOptions,
    /// Most tokens of prompt and generation together.
    pub limit: usize,
    /// Told of each generation as it ends.
    pub finished: Finished<'a>,
    pub progress: &'a dyn Progress,
    /// Sequences that were finished before this call, for `progress`.
    pub before: usize,
    pub queue: Mutex<VecDeque<PrefillBatch>>,
    pub counts: Counts,
}

/// What the workers have done so far.
#[derive(Default)]
pub(crate) struct Counts {
    done: AtomicUsize,
    tokens: AtomicUsize,
    drafted: AtomicUsize,
    accepted: AtomicUsize,
    /// Whether a worker has failed, so that the others stop.
    pub failed: AtomicBool,
}

impl Counts {
    /// The call's result.
    pub fn into_generations(self, candidates: Vec<Vec<Generation>>) -> Generations {
        let Self { tokens, drafted, accepted, .. } = self;
        let [tokens, drafted, accepted] = [tokens, drafted, accepted].map(AtomicUsize::into_inner);
        Generations { candidates, tokens, drafted, accepted }
    }
}

impl<'a> DecodeContext<'a> {
    /// The index of `layer` in the caches of a candidate, if it keeps the layer.
    pub fn cache_index(&self, candidate: usize, layer: usize) -> Option<usize> {
        self.candidates[candidate].place(LayerSlot(layer))
    }

    /// Counts finished sequences and generated tokens, and reports the sequences.
    pub fn report(&self, done: usize, tokens: usize) {
        self.counts.tokens.fetch_add(tokens, Ordering::Relaxed);
        if done > 0 {
            let done = self.counts.done.fetch_add(done, Ordering::Relaxed) + done;
            self.progress.set(self.before + done);
        }
    }

    /// Counts checked and accepted draft tokens.
    pub fn count_draft(&self, drafted: usize, accepted: usize) {
        self.counts.drafted.fetch_add(drafted, Ordering::Relaxed);
        self.counts.accepted.fetch_add(accepted, Ordering::Relaxed);
    }

    /// The windows of the layers that a candidate keeps.
    pub fn windows(&self, candidate: usize) -> impl Iterator<Item = Option<usize>> {
        let layers = &self.engine.model().config.layers;
        self.candidates[candidate].indices().map(|layer| layers[layer].window)
    }

    /// Bytes of keys and values that a sequence may come to need: of its prompt, and of all tokens that a later one
    /// sees.
    pub fn cache_bytes(&self, (candidate, request): Job) -> usize {
        let request = &self.requests[request];
        let prompt = request.prompt.len();
        let tokens = prompt.saturating_add(request.max_new_tokens).min(self.limit);
        let layout = self.engine.forward().kv_layout();
        let of_layer = |window: Option<usize>| {
            // A window begins and ends within a block.
            let seen = window.map_or(tokens, |window| tokens.min(window.saturating_add(2 * SPAN)));
            layout.bytes(prompt.max(seen))
        };
        self.windows(candidate).map(of_layer).sum()
    }

    /// The draft of a request, where one may be used; empty otherwise.
    pub fn draft(&self, request: usize) -> &'a [u32] {
        let Request { sampling, prompt, max_new_tokens, thinking, .. } = &self.requests[request];
        let Some(draft) = self.drafts[request].as_deref().filter(|_| *sampling == Sampling::Greedy) else { return &[] };
        // Behind the place where a thought may be ended, the draft's tokens are not this candidate's own choices.
        let chosen = thinking.as_ref().map_or(usize::MAX, |budget| budget.after.saturating_sub(1));
        let draft = &draft[..draft.len().min(*max_new_tokens).min(self.limit - prompt.len()).min(chosen)];
        // Where rotary embeddings depend on the length of the text so far, tokens can only be read one at a time.
        let one_by_one = self.engine.model().depends_on_length(prompt.len(), prompt.len() + draft.len() + 1);
        if one_by_one { &[] } else { draft }
    }
}
