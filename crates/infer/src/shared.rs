//! What all lanes of one call of the engine share: candidates, requests, the queue, and counts.

use crate::engine::{Engine, Progress};
use crate::generate::{GenerateOptions, Generation, Generations, Request};
use crate::sampling::Sampling;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A candidate and a request, by their numbers.
pub(crate) type Job = (usize, usize);

/// One prompt's requests for some candidates, waiting to be read.
pub(crate) struct Unit {
    pub candidates: Vec<usize>,
    pub requests: Vec<usize>,
}

/// What all lanes of one call share.
pub(crate) struct Shared<'a> {
    pub engine: &'a Engine,
    pub candidates: &'a [Vec<usize>],
    /// `slots[c][l]`: the place of layer `l` among those that candidate `c` keeps.
    pub slots: Vec<Vec<Option<usize>>>,
    pub requests: &'a [Request],
    pub drafts: &'a [Option<Vec<u32>>],
    pub options: &'a GenerateOptions,
    pub limit: usize,
    pub observer: &'a (dyn Fn(Progress) + Sync),
    pub queue: Mutex<VecDeque<Unit>>,
    pub done: AtomicUsize,
    pub tokens: AtomicUsize,
    pub drafted: AtomicUsize,
    pub accepted: AtomicUsize,
    pub failed: AtomicBool,
}

impl<'a> Shared<'a> {
    #[allow(clippy::too_many_arguments, reason = "everything a call is made of")]
    pub fn new(
        engine: &'a Engine,
        candidates: &'a [Vec<usize>],
        requests: &'a [Request],
        drafts: &'a [Option<Vec<u32>>],
        options: &'a GenerateOptions,
        limit: usize,
        observer: &'a (dyn Fn(Progress) + Sync),
        prompts: Vec<Vec<usize>>,
    ) -> Self {
        let all: Vec<usize> = (0..candidates.len()).collect();
        let queue = prompts.into_iter().map(|requests| Unit { candidates: all.clone(), requests }).collect();
        let layers = engine.model().num_layers();
        let slots =
            candidates.iter().map(|kept| (0..layers).map(|layer| kept.binary_search(&layer).ok()).collect()).collect();
        Self {
            engine,
            candidates,
            slots,
            requests,
            drafts,
            options,
            limit,
            observer,
            queue: Mutex::new(queue),
            done: AtomicUsize::new(0),
            tokens: AtomicUsize::new(0),
            drafted: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        }
    }

    /// Counts requests that need no work as done.
    pub fn skip(&self, requests: usize) {
        self.done.fetch_add(requests, Ordering::Relaxed);
    }

    /// The call's result.
    pub fn outcome(&self, candidates: Vec<Vec<Generation>>) -> Generations {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        Generations {
            candidates,
            tokens: count(&self.tokens),
            drafted: count(&self.drafted),
            accepted: count(&self.accepted),
        }
    }

    pub fn report(&self, done: usize, tokens: usize) {
        let done = self.done.fetch_add(done, Ordering::Relaxed) + done;
        let tokens = self.tokens.fetch_add(tokens, Ordering::Relaxed) + tokens;
        (self.observer)(Progress { done, total: self.requests.len() * self.candidates.len(), tokens });
    }

    /// Bytes of keys and values that a job may come to need.
    pub fn cache_bytes(&self, (candidate, request): Job) -> usize {
        let request = &self.requests[request];
        let tokens = request.prompt.len().saturating_add(request.max_new_tokens).min(self.limit);
        tokens * self.candidates[candidate].len() * self.engine.model().config.key_value_size() * 2 * size_of::<f32>()
    }

    /// The draft of a request, where one may be used.
    pub fn draft(&self, request: usize) -> Option<&'a [u32]> {
        let Request { sampling, prompt, max_new_tokens, .. } = &self.requests[request];
        let draft = self.drafts[request].as_deref().filter(|_| *sampling == Sampling::Greedy)?;
        let draft = &draft[..draft.len().min(*max_new_tokens).min(self.limit - prompt.len())];
        // Where each token is turned by the text's length at its time, only one can be read at a time.
        let apart = self.engine.model().depends_on_length(prompt.len(), prompt.len() + draft.len() + 1);
        (!draft.is_empty() && !apart).then_some(draft)
    }
}
