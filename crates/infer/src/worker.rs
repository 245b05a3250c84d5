//! The decoding loop of one lane: takes waiting prompts, reads them for all their candidates, and
//! steps all its active sequences together until nothing is left.

use crate::draft::Draft;
use crate::generate::{Finish, Generation, Request};
use crate::loops::LoopWatch;
use crate::sampling::{Sampler, Sampling, Scratch};
use crate::shared::{Job, Shared, Unit};
use anyhow::{Result, ensure};
use lopper_model::{Batch, Par, Past, SequenceCache, Workspace};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A sequence that has been read and waits for a place.
pub(crate) struct Ready {
    pub job: Job,
    pub cache: SequenceCache,
    pub first: First,
}

/// What comes after a prompt.
#[derive(Clone)]
pub(crate) enum First {
    /// The most probable token and its log-probability, and those after each draft token.
    Greedy(Vec<(u32, f32)>),
    /// The logits.
    Logits(Arc<Vec<f32>>),
}

/// A sequence being continued.
struct Active<'a> {
    job: Job,
    request: &'a Request,
    cache: SequenceCache,
    sampler: Sampler,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    watch: LoopWatch,
    draft: Option<Draft<'a>>,
    bytes: usize,
}

impl Active<'_> {
    /// Takes the next token; says why the generation ends, if it does.
    fn take(&mut self, (token, logprob): (u32, f32), shared: &Shared<'_>) -> Option<Finish> {
        if self.request.stop_tokens.contains(&token) {
            return Some(Finish::Stop);
        }
        self.tokens.push(token);
        self.logprobs.push(logprob);
        if self.request.stop.as_ref().is_some_and(|s| s.stopped(&self.tokens)) {
            Some(Finish::StopString)
        } else if self.tokens.len() >= self.request.max_new_tokens {
            Some(Finish::Length)
        } else if self.request.prompt.len() + self.tokens.len() >= shared.limit {
            Some(Finish::ContextFull)
        } else if shared.options.loops.is_some_and(|stop| self.watch.push(&self.tokens, stop)) {
            Some(Finish::Loop)
        } else {
            None
        }
    }

    /// Takes choices as long as each comes after what was chosen before it: `read` are the draft
    /// tokens that all choices but the first came after. Gives the number of draft tokens that were
    /// right, too.
    fn take_checked(
        &mut self,
        choices: &[(u32, f32)],
        read: &[u32],
        shared: &Shared<'_>,
    ) -> Result<(usize, Option<Finish>)> {
        for (at, choice) in choices.iter().enumerate() {
            ensure!(choice.1.is_finite(), "the model gave logits that are not finite; are its weights damaged?");
            if let Some(finish) = self.take(*choice, shared) {
                return Ok((at, Some(finish)));
            }
            if read.get(at) != Some(&choice.0) {
                return Ok((at, None));
            }
        }
        Ok((choices.len(), None))
    }
}

/// One lane.
pub(crate) struct Worker<'a> {
    pub(crate) shared: &'a Shared<'a>,
    pub(crate) par: Par,
    capacity: usize,
    cache_bytes: usize,
    reserved: usize,
    pub(crate) ready: VecDeque<Ready>,
    active: Vec<Active<'a>>,
    finished: Vec<(Job, Generation)>,
    scratch: Scratch,
    work: Workspace,
}

impl<'a> Worker<'a> {
    pub fn new(shared: &'a Shared<'a>, par: Par, capacity: usize, lanes: usize) -> Self {
        Self {
            shared,
            par,
            capacity,
            cache_bytes: shared.options.cache_bytes / lanes,
            reserved: 0,
            ready: VecDeque::new(),
            active: Vec::with_capacity(capacity),
            finished: Vec::new(),
            scratch: Scratch::default(),
            work: Workspace::default(),
        }
    }

    /// Works until the queue is empty and every sequence has ended.
    pub fn run(mut self) -> Result<Vec<(Job, Generation)>> {
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

    /// Fills free places with prompts. Waits until a few places are free, because reading prompts one
    /// by one is slower.
    fn admit(&mut self) -> Result<()> {
        if !self.active.is_empty() && self.capacity - self.active.len() < self.capacity.div_ceil(8) {
            return Ok(());
        }
        loop {
            while self.active.len() < self.capacity
                && let Some(ready) = self.ready.front()
                && self.fits(self.shared.cache_bytes(ready.job))
                && let Some(ready) = self.ready.pop_front()
            {
                self.start(ready)?;
            }
            if !self.ready.is_empty() || self.active.len() >= self.capacity {
                return Ok(());
            }
            let units = self.take();
            if units.is_empty() {
                return Ok(());
            }
            self.read(&units)?;
        }
    }

    /// Whether `bytes` more of cache may be promised; a lane with nothing to do takes anything.
    fn fits(&self, bytes: usize) -> bool {
        self.active.is_empty() || self.reserved.saturating_add(bytes) <= self.cache_bytes
    }

    /// Takes prompts, or one prompt for some of its candidates, from the queue.
    fn take(&mut self) -> Vec<Unit> {
        let room = self.capacity - self.active.len();
        let (mut taken, mut jobs, mut tokens, mut bytes) = (Vec::<Unit>::new(), 0, 0, self.reserved);
        let mut queue = self.shared.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while jobs < room
            && let Some(unit) = queue.front_mut()
        {
            let request = unit.requests[0];
            tokens += self.shared.requests[request].prompt.len() + self.shared.draft(request).map_or(0, <[u32]>::len);
            if !taken.is_empty() && tokens > self.shared.options.prefill_tokens {
                break;
            }
            // As many candidates as there is room for; the others read the prompt again later. What
            // has been read may wait for a place.
            let size = unit.requests.len();
            let mut count = 0;
            while count < unit.candidates.len() && (jobs == 0 && count == 0 || jobs + (count + 1) * size <= room) {
                let more = size * self.shared.cache_bytes((unit.candidates[count], request));
                if bytes.saturating_add(more) > self.cache_bytes {
                    break;
                }
                bytes += more;
                count += 1;
            }
            if count == unit.candidates.len() {
                jobs += count * size;
                taken.extend(queue.pop_front());
                continue;
            }
            // A lane with nothing to do takes one candidate of one request, whatever it needs.
            if count == 0 && taken.is_empty() && self.active.is_empty() {
                if size > 1 {
                    let requests = unit.requests.split_off(size / 2);
                    let later = Unit { candidates: unit.candidates.clone(), requests };
                    queue.insert(1, later);
                    tokens = 0;
                    continue;
                }
                count = 1;
            }
            if count > 0 {
                let candidates = unit.candidates.drain(..count).collect();
                taken.push(Unit { candidates, requests: unit.requests.clone() });
                if unit.candidates.is_empty() {
                    queue.pop_front();
                }
            }
            break;
        }
        taken
    }

    /// Takes what comes after a prompt and makes the sequence active unless that was all.
    fn start(&mut self, ready: Ready) -> Result<()> {
        let Ready { job, cache, first } = ready;
        let request = &self.shared.requests[job.1];
        let draft = self.shared.draft(job.1);
        let mut active = Active {
            job,
            request,
            cache,
            sampler: Sampler::new(request.sampling, request.seed),
            tokens: Vec::new(),
            logprobs: Vec::new(),
            watch: LoopWatch::default(),
            draft: draft.map(Draft::new),
            bytes: self.shared.cache_bytes(job),
        };
        let finish = match first {
            First::Greedy(choices) => {
                let (right, finish) = active.take_checked(&choices, draft.unwrap_or_default(), self.shared)?;
                self.shared.drafted.fetch_add(draft.map_or(0, <[u32]>::len), Ordering::Relaxed);
                self.shared.accepted.fetch_add(right, Ordering::Relaxed);
                finish
            }
            First::Logits(logits) => {
                let choice = active.sampler.choose_with(&logits, &mut self.scratch)?;
                active.take(choice, self.shared)
            }
        };
        let tokens = active.tokens.len();
        match finish {
            Some(finish) => {
                self.shared.report(1, tokens);
                self.finish(active, finish);
            }
            None => {
                self.shared.report(0, tokens);
                self.reserved += active.bytes;
                self.active.push(active);
            }
        }
        Ok(())
    }

    /// Reads again the sequences that become long with the next token, where a long text is turned
    /// otherwise than a short one.
    fn reread(&mut self) -> Result<()> {
        let Shared { engine, candidates, .. } = *self.shared;
        for active in &mut self.active {
            let past = active.cache.len();
            if !engine.model().rereads_between(past, past + 1) {
                continue;
            }
            let kept = &candidates[active.job.0];
            let text: Vec<u32> = active.request.prompt.iter().chain(&active.tokens).copied().collect();
            let mut cache = SequenceCache::new(kept.len());
            let batch = Batch::new(&[&text[..past + 1]]);
            engine.forward().hidden_states(&batch, kept, self.par, Some(&mut [&mut cache]), None)?;
            // The step itself reads the last token.
            cache.truncate(past);
            active.cache = cache;
        }
        Ok(())
    }

    /// One token, and what a draft adds to it, for every active sequence.
    fn step(&mut self) -> Result<()> {
        let shared = self.shared;
        let (engine, forward) = (shared.engine, shared.engine.forward());
        self.reread()?;
        let proposals: Vec<Vec<u32>> = self
            .active
            .iter_mut()
            .map(|a| {
                let room = a.request.max_new_tokens.min(shared.limit - a.request.prompt.len()) - a.tokens.len();
                let proposed =
                    a.draft.as_ref().map_or(&[][..], |draft| draft.propose(&a.tokens, room.saturating_sub(1)));
                [&a.tokens[a.tokens.len() - 1..], proposed].concat()
            })
            .collect();
        let past = self.active.iter().map(|a| a.cache.len());
        let batch = Batch::continued(proposals.iter().map(Vec::as_slice).zip(past));
        let reading = engine.readings(vec![batch]).remove(0);
        let bounds = &reading.batch.bounds;
        let width = engine.model().config.hidden_size;
        let (mut x, mut out) = (Vec::new(), Vec::new());
        forward.embed(&reading.batch.tokens, &mut x);
        for layer in 0..engine.model().num_layers() {
            let slot = |a: &Active<'_>| shared.slots[a.job.0][layer];
            let members: Vec<usize> =
                self.active.iter().enumerate().filter(|(_, a)| slot(a).is_some()).map(|(i, _)| i).collect();
            if members.is_empty() {
                continue;
            }
            let mut caches: Vec<_> = self
                .active
                .iter_mut()
                .filter_map(|a| slot(a).map(|slot| (slot, a)))
                .map(|(slot, a)| &mut a.cache.layers_mut()[slot])
                .collect();
            let past = Past::Caches(&mut caches);
            if members.len() == bounds.len() - 1 {
                forward.layer(layer, &reading, &x, past, self.par, &mut self.work, &mut out);
                std::mem::swap(&mut x, &mut out);
            } else {
                let rows = |i: usize| bounds[i] * width..bounds[i + 1] * width;
                let gathered: Vec<f32> = members.iter().flat_map(|i| x[rows(*i)].iter().copied()).collect();
                let part = reading.subset(&members);
                forward.layer(layer, &part, &gathered, past, self.par, &mut self.work, &mut out);
                for (&i, w) in members.iter().zip(part.batch.bounds.windows(2)) {
                    x[rows(i)].copy_from_slice(&out[w[0] * width..w[1] * width]);
                }
            }
            forward.release_layer(layer);
        }
        self.choose(&proposals, bounds, &x)
    }

    /// Takes the next tokens from the hidden states after the step.
    fn choose(&mut self, proposals: &[Vec<u32>], bounds: &[usize], hidden: &[f32]) -> Result<()> {
        let shared = self.shared;
        let forward = shared.engine.forward();
        let vocab = shared.engine.model().config.vocab_size;
        let is_greedy = |a: &Active<'_>| a.request.sampling == Sampling::Greedy;
        let rows = |greedy: bool| {
            let chosen = self.active.iter().enumerate().filter(move |(_, a)| is_greedy(a) == greedy);
            forward.normed_rows(hidden, chosen.flat_map(|(i, _)| bounds[i]..bounds[i + 1]))
        };
        let choices = forward.greedy(self.par, &rows(true));
        let (sampled, mut logits) = (rows(false), Vec::new());
        if !sampled.is_empty() {
            forward.logits(self.par, &sampled, &mut logits);
        }
        let (mut choices, mut logits) = (choices.as_slice(), logits.chunks_exact(vocab));
        let (mut ended, mut tokens) = (Vec::new(), 0);
        for (at, active) in self.active.iter_mut().enumerate() {
            let before = active.tokens.len();
            let finish = if is_greedy(active) {
                let (own, rest) = choices.split_at(proposals[at].len());
                choices = rest;
                let read = &proposals[at][1..];
                let (right, finish) = active.take_checked(own, read, shared)?;
                if let Some(draft) = &mut active.draft {
                    draft.checked(read.len(), right.min(read.len()));
                }
                shared.drafted.fetch_add(read.len(), Ordering::Relaxed);
                shared.accepted.fetch_add(right.min(read.len()), Ordering::Relaxed);
                finish
            } else {
                let row = logits.next().unwrap_or_default();
                let choice = active.sampler.choose_with(row, &mut self.scratch)?;
                active.take(choice, shared)
            };
            tokens += active.tokens.len() - before;
            // The newest token has not been read yet; what was read of a wrong draft is forgotten.
            active.cache.set_len(active.cache.len() + proposals[at].len());
            active.cache.truncate(active.request.prompt.len() + active.tokens.len() - 1);
            ended.extend(finish.map(|finish| (at, finish)));
        }
        shared.report(ended.len(), tokens);
        // From the last to the first, so that a finished one can be replaced by the last.
        for (at, finish) in ended.into_iter().rev() {
            let active = self.active.swap_remove(at);
            self.reserved -= active.bytes;
            self.finish(active, finish);
        }
        Ok(())
    }

    fn finish(&mut self, active: Active<'_>, finish: Finish) {
        let Active { job, tokens, logprobs, .. } = active;
        self.finished.push((job, Generation { tokens, logprobs, finish }));
    }
}
