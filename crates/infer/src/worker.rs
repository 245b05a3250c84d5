//! The decoding loop of one lane: takes waiting prompts, reads them, and steps all its active
//! sequences together until nothing is left.

use crate::engine::{Engine, Progress};
use crate::generate::{Finish, GenerateOptions, Generation, Request, Unit};
use crate::sampling::{Sampler, Scratch};
use anyhow::Result;
use lopper_model::{Batch, DecodeWorkspace, Par, SequenceCache};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What all lanes of one call share.
pub(crate) struct Shared<'a> {
    engine: &'a Engine,
    kept: &'a [usize],
    requests: &'a [Request],
    options: &'a GenerateOptions,
    limit: usize,
    observer: &'a (dyn Fn(Progress) + Sync),
    queue: Mutex<VecDeque<Unit>>,
    done: AtomicUsize,
    tokens: AtomicUsize,
    failed: AtomicBool,
}

impl<'a> Shared<'a> {
    pub fn new(
        engine: &'a Engine,
        kept: &'a [usize],
        requests: &'a [Request],
        options: &'a GenerateOptions,
        limit: usize,
        observer: &'a (dyn Fn(Progress) + Sync),
        queue: VecDeque<Unit>,
    ) -> Self {
        let (done, tokens, failed) = Default::default();
        Self { engine, kept, requests, options, limit, observer, queue: Mutex::new(queue), done, tokens, failed }
    }

    /// Counts requests that need no work as done.
    pub fn skip(&self, requests: usize) {
        self.done.fetch_add(requests, Ordering::Relaxed);
    }

    fn report(&self, done: usize, tokens: usize) {
        let done = self.done.fetch_add(done, Ordering::Relaxed) + done;
        let tokens = self.tokens.fetch_add(tokens, Ordering::Relaxed) + tokens;
        (self.observer)(Progress { done, total: self.requests.len(), tokens });
    }

    /// Bytes of keys and values that a request may come to need.
    fn cache_bytes(&self, request: &Request) -> usize {
        let tokens = request.prompt.len().saturating_add(request.max_new_tokens).min(self.limit);
        tokens * self.kept.len() * self.engine.model().config.key_value_size() * 2 * size_of::<f32>()
    }
}

/// A request that has been read and waits for a place: its prompt's cache and the logits after it.
struct Fork {
    index: usize,
    cache: Arc<SequenceCache>,
    logits: Arc<Vec<f32>>,
}

/// A sequence being continued.
struct Active<'a> {
    index: usize,
    request: &'a Request,
    cache: SequenceCache,
    sampler: Sampler,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    bytes: usize,
}

impl Active<'_> {
    /// Takes the next token from `logits`; says why the generation ends, if it does.
    fn advance(&mut self, logits: &[f32], limit: usize, scratch: &mut Scratch) -> Result<Option<Finish>> {
        let (token, logprob) = self.sampler.choose_with(logits, scratch)?;
        if self.request.stop_tokens.contains(&token) {
            return Ok(Some(Finish::Stop));
        }
        self.tokens.push(token);
        self.logprobs.push(logprob);
        Ok(if self.request.stop.as_ref().is_some_and(|s| s.stopped(&self.tokens)) {
            Some(Finish::StopString)
        } else if self.tokens.len() >= self.request.max_new_tokens {
            Some(Finish::Length)
        } else if self.request.prompt.len() + self.tokens.len() >= limit {
            Some(Finish::ContextFull)
        } else {
            None
        })
    }
}

/// One lane.
pub(crate) struct Worker<'a> {
    shared: &'a Shared<'a>,
    par: Par,
    capacity: usize,
    cache_bytes: usize,
    reserved: usize,
    forks: VecDeque<Fork>,
    active: Vec<Active<'a>>,
    finished: Vec<(usize, Generation)>,
    scratch: Scratch,
    next: Vec<u32>,
    decode: DecodeWorkspace,
}

impl<'a> Worker<'a> {
    pub fn new(shared: &'a Shared<'a>, par: Par, capacity: usize, lanes: usize) -> Self {
        Self {
            shared,
            par,
            capacity,
            cache_bytes: shared.options.cache_bytes / lanes,
            reserved: 0,
            forks: VecDeque::new(),
            active: Vec::with_capacity(capacity),
            finished: Vec::new(),
            scratch: Scratch::default(),
            next: Vec::new(),
            decode: DecodeWorkspace::default(),
        }
    }

    /// Works until the queue is empty and every sequence has ended.
    pub fn run(mut self) -> Result<Vec<(usize, Generation)>> {
        let result = self.work();
        if result.is_err() {
            self.shared.failed.store(true, Ordering::Relaxed);
        }
        result.map(|()| self.finished)
    }

    fn work(&mut self) -> Result<()> {
        loop {
            self.shared.engine.check_interrupt()?;
            if self.shared.failed.load(Ordering::Relaxed) {
                return Ok(()); // another lane's error is the one to report
            }
            self.admit()?;
            if self.active.is_empty() {
                return Ok(());
            }
            self.step()?;
        }
    }

    /// Fills free places: first with samples of prompts already read, then with new prompts. Waits
    /// until a few places are free, because reading prompts one by one is slower.
    fn admit(&mut self) -> Result<()> {
        if !self.active.is_empty() && self.capacity - self.active.len() < self.capacity.div_ceil(8) {
            return Ok(());
        }
        loop {
            while self.active.len() < self.capacity
                && let Some(fork) = self.forks.front()
                && self.fits(self.shared.cache_bytes(&self.shared.requests[fork.index]))
                && let Some(fork) = self.forks.pop_front()
            {
                self.start(fork)?;
            }
            if !self.forks.is_empty() || self.active.len() >= self.capacity {
                return Ok(());
            }
            let units = self.take();
            if units.is_empty() {
                return Ok(());
            }
            self.read(units)?;
        }
    }

    /// Whether `bytes` more of cache may be promised; a lane with nothing to do takes anything.
    fn fits(&self, bytes: usize) -> bool {
        self.active.is_empty() || self.reserved.saturating_add(bytes) <= self.cache_bytes
    }

    /// Takes prompts for one pass from the queue.
    fn take(&mut self) -> Vec<Unit> {
        let room = self.capacity - self.active.len();
        let (mut taken, mut samples, mut tokens, mut bytes) = (Vec::new(), 0, 0, 0usize);
        let mut queue = self.shared.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while samples < room
            && let Some(unit) = queue.front()
        {
            let request = &self.shared.requests[unit.requests[0]];
            bytes = bytes.saturating_add(self.shared.cache_bytes(request));
            let fits =
                taken.is_empty() && self.active.is_empty() || self.reserved.saturating_add(bytes) <= self.cache_bytes;
            tokens += request.prompt.len();
            if !fits || (!taken.is_empty() && tokens > self.shared.options.prefill_tokens) {
                break;
            }
            samples += unit.requests.len();
            taken.extend(queue.pop_front());
        }
        taken
    }

    /// Reads the prompts of `units` in one pass and queues their samples.
    fn read(&mut self, units: Vec<Unit>) -> Result<()> {
        let Shared { engine, kept, requests, .. } = self.shared;
        let model = engine.model();
        let batch = Batch::continued(units.iter().map(|u| (requests[u.requests[0]].prompt.as_slice(), 0)));
        let mut caches = vec![SequenceCache::new(kept.len()); units.len()];
        let mut slots: Vec<_> = caches.iter_mut().collect();
        let hidden = model.hidden_states(&batch, kept, self.par, Some(&mut slots), None)?;
        let last = batch.bounds[1..].iter().map(|end| end - 1);
        let logits = match engine.decoder() {
            Some(decoder) => decoder.logits_of(&hidden, last),
            None => model.logits(&model.normed_rows(&hidden, last), self.par),
        };
        for ((unit, cache), logits) in units.iter().zip(caches).zip(logits.chunks_exact(model.config.vocab_size)) {
            let (cache, logits) = (Arc::new(cache), Arc::new(logits.to_vec()));
            self.forks.extend(unit.requests.iter().map(|&index| Fork {
                index,
                cache: cache.clone(),
                logits: logits.clone(),
            }));
        }
        Ok(())
    }

    /// Takes a request's first token and makes it active unless that was all.
    fn start(&mut self, fork: Fork) -> Result<()> {
        let request = &self.shared.requests[fork.index];
        let mut active = Active {
            index: fork.index,
            request,
            cache: Arc::unwrap_or_clone(fork.cache),
            sampler: Sampler::new(request.sampling, request.seed),
            tokens: Vec::new(),
            logprobs: Vec::new(),
            bytes: self.shared.cache_bytes(request),
        };
        match active.advance(&fork.logits, self.shared.limit, &mut self.scratch)? {
            Some(finish) => {
                self.shared.report(1, active.tokens.len());
                self.finish(active, finish);
            }
            None => {
                self.shared.report(0, 1);
                self.reserved += active.bytes;
                self.active.push(active);
            }
        }
        Ok(())
    }

    /// Reads again the sequences that become long with the next token, where a long text is turned
    /// otherwise than a short one.
    fn reread(&mut self) -> Result<()> {
        let Shared { engine, kept, .. } = *self.shared;
        for active in &mut self.active {
            let past = active.cache.len();
            if !engine.model().rereads_between(past, past + 1) {
                continue;
            }
            let text: Vec<u32> = active.request.prompt.iter().chain(&active.tokens).copied().collect();
            let mut cache = SequenceCache::new(kept.len());
            let batch = Batch::new(&[&text[..past + 1]]);
            engine.model().hidden_states(&batch, kept, self.par, Some(&mut [&mut cache]), None)?;
            // The step itself reads the last token.
            cache.truncate(past);
            active.cache = cache;
        }
        Ok(())
    }

    /// One token for every active sequence.
    fn step(&mut self) -> Result<()> {
        let Shared { engine, kept, limit, .. } = *self.shared;
        let model = engine.model();
        self.reread()?;
        self.next.clear();
        self.next.extend(self.active.iter().filter_map(|a| a.tokens.last().copied()));
        let past: Vec<usize> = self.active.iter().map(|a| a.cache.len()).collect();
        let mut caches: Vec<_> = self.active.iter_mut().map(|a| &mut a.cache).collect();
        if let Some(decoder) = engine.decoder() {
            decoder.step(&self.next, kept, &mut caches, &mut self.decode)?;
        } else {
            let batch = Batch::continued(self.next.chunks(1).zip(past));
            let hidden = model.hidden_states(&batch, kept, self.par, Some(&mut caches), None)?;
            self.decode.logits = model.logits(&model.normed_rows(&hidden, 0..self.next.len()), self.par);
        }
        let vocab = model.config.vocab_size;
        let (mut done, mut tokens) = (0, 0);
        // From the last to the first, so that a finished one can be replaced by the last.
        for at in (0..self.active.len()).rev() {
            let active = &mut self.active[at];
            let before = active.tokens.len();
            let finish = active.advance(&self.decode.logits[at * vocab..][..vocab], limit, &mut self.scratch)?;
            tokens += active.tokens.len() - before;
            if let Some(finish) = finish {
                let active = self.active.swap_remove(at);
                self.reserved -= active.bytes;
                self.finish(active, finish);
                done += 1;
            }
        }
        self.shared.report(done, tokens);
        Ok(())
    }

    fn finish(&mut self, active: Active<'_>, finish: Finish) {
        let Active { index, tokens, logprobs, .. } = active;
        self.finished.push((index, Generation { tokens, logprobs, finish }));
    }
}
