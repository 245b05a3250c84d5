//! The decoding loop of one worker: takes waiting prompts, runs their prefill for all their candidates, and steps all
//! its active sequences together until nothing is left.

use crate::decode_context::{DecodeContext, Job, PrefillBatch};
use crate::draft::Draft;
use crate::generate::{Finish, Generation, Request};
use crate::loops::LoopWatch;
use crate::sampling::{Sampler, Sampling, log_probability, not_finite};
use crate::thinking::Thinking;
use lopper_model::{Batch, Past, SequenceCache, Threads, Workspace};
use lopper_record::{Context, LayerSlot, Result};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A sequence after its prefill, waiting to be decoded.
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
    stop_token: Option<u32>,
    thinking: Thinking<'a>,
    watch: LoopWatch,
    draft: Draft<'a>,
    bytes: usize,
}

impl Active<'_> {
    /// Appends the next token; says why the generation ends, if it does.
    fn push(&mut self, (token, logprob): (u32, f32), context: &DecodeContext<'_>) -> Option<Finish> {
        if self.request.stop_tokens.contains(&token) {
            self.stop_token = Some(token);
            return Some(Finish::Stop);
        }
        self.tokens.push(token);
        self.logprobs.push(logprob);
        if self.request.stop.as_ref().is_some_and(|s| s.stopped(&self.tokens)) {
            Some(Finish::StopString)
        } else if self.tokens.len() >= self.request.max_new_tokens {
            Some(Finish::Length)
        } else if self.request.prompt.len() + self.tokens.len() >= context.limit {
            Some(Finish::ContextFull)
        } else {
            let loops = context.options.loops.is_some_and(|stop| self.watch.push(&self.tokens, stop));
            // A thought that repeats itself is ended like one that is too long; what it would add is known.
            let ended = self.thinking.ends(&self.tokens, loops);
            (loops && !ended).then_some(Finish::Loop)
        }
    }

    /// Appends the next token of those that end a thought, which the model did not choose; says why the generation
    /// ends, if it does.
    fn push_forced(&mut self, logits: &[f32], context: &DecodeContext<'_>) -> Result<Option<Finish>> {
        let Some(token) = self.thinking.take_next() else { return Ok(None) };
        let logprob = log_probability(logits, token)?;
        Ok(self.push((token, logprob), context))
    }

    /// Whether the next token is the most probable one, so that no logits are needed.
    fn is_greedy(&self) -> bool {
        self.request.sampling == Sampling::Greedy && !self.thinking.is_ending()
    }

    /// Appends `choices` as far as the draft was right: the first choice follows the sequence, each other one follows a
    /// token of `draft`. Returns how many draft tokens were right, and why the generation ends, if it does.
    fn push_checked(
        &mut self,
        choices: &[(u32, f32)],
        draft: &[u32],
        context: &DecodeContext<'_>,
    ) -> Result<(usize, Option<Finish>)> {
        for (at, choice) in choices.iter().enumerate() {
            if !choice.1.is_finite() {
                return Err(not_finite().into());
            }
            if let Some(finish) = self.push(*choice, context) {
                return Ok((at, Some(finish)));
            }
            if draft.get(at) != Some(&choice.0) || self.thinking.is_ending() {
                return Ok((at, None));
            }
        }
        Ok((choices.len(), None))
    }
}

/// One decoding loop; of a small model, one runs on each thread.
pub(crate) struct Worker<'a> {
    pub(crate) context: &'a DecodeContext<'a>,
    pub(crate) threads: Threads,
    capacity: usize,
    cache_bytes: usize,
    reserved: usize,
    pub(crate) ready: VecDeque<Ready>,
    active: Vec<Active<'a>>,
    finished: Vec<(Job, Generation)>,
    /// Of the sequences that sample, kept from step to step.
    logits: Vec<f32>,
    work: Workspace,
}

impl<'a> Worker<'a> {
    pub fn new(context: &'a DecodeContext<'a>, threads: Threads, capacity: usize, workers: usize) -> Self {
        Self {
            context,
            threads,
            capacity,
            cache_bytes: context.options.cache_bytes / workers,
            reserved: 0,
            ready: VecDeque::new(),
            active: Vec::with_capacity(capacity),
            finished: Vec::new(),
            logits: Vec::new(),
            work: Workspace::default(),
        }
    }

    /// Works until the queue is empty and every sequence has ended.
    pub fn run(mut self) -> Result<Vec<(Job, Generation)>> {
        let result = self.work();
        if result.is_err() {
            self.context.counts.failed.store(true, Ordering::Relaxed);
        }
        result.map(|()| self.finished)
    }

    fn work(&mut self) -> Result<()> {
        loop {
            self.context.progress.check()?;
            if self.context.counts.failed.load(Ordering::Relaxed) {
                return Ok(()); // another worker's error is the one to report
            }
            self.admit()?;
            if self.active.is_empty() {
                return Ok(());
            }
            self.step()?;
        }
    }

    /// Fills up the active sequences with waiting prompts. Waits until several can enter, because prefill of one prompt
    /// at a time is slower.
    fn admit(&mut self) -> Result<()> {
        if !self.active.is_empty() && self.capacity - self.active.len() < self.capacity.div_ceil(8) {
            return Ok(());
        }
        loop {
            while self.active.len() < self.capacity
                && let Some(ready) = self.ready.front()
                && self.fits(self.context.cache_bytes(ready.job))
                && let Some(ready) = self.ready.pop_front()
            {
                self.start(ready)?;
            }
            if !self.ready.is_empty() || self.active.len() >= self.capacity {
                return Ok(());
            }
            let batches = self.take();
            if batches.is_empty() {
                return Ok(());
            }
            self.prefill(&batches)?;
        }
    }

    /// Whether `bytes` more of cache may be reserved; an idle worker takes anything.
    fn fits(&self, bytes: usize) -> bool {
        self.active.is_empty() || self.reserved.saturating_add(bytes) <= self.cache_bytes
    }

    /// Takes prompts, or one prompt for some of its candidates, from the queue.
    fn take(&mut self) -> Vec<PrefillBatch> {
        let context = self.context;
        let room = self.capacity - self.active.len();
        let (mut taken, mut jobs, mut tokens, mut bytes) = (Vec::<PrefillBatch>::new(), 0, 0, self.reserved);
        let mut queue = context.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while jobs < room
            && let Some(batch) = queue.front_mut()
        {
            let request = batch.requests[0];
            tokens += context.requests[request].prompt.len() + context.draft(request).len();
            if !taken.is_empty() && tokens > context.options.prefill_tokens {
                break;
            }
            // As many candidates as there is room for; for the others, the prompt is read again later. Sequences whose
            // prefill is done may wait.
            let size = batch.requests.len();
            let mut count = 0;
            while count < batch.candidates.len() && (jobs == 0 && count == 0 || jobs + (count + 1) * size <= room) {
                let more = size * context.cache_bytes((batch.candidates[count], request));
                if bytes.saturating_add(more) > self.cache_bytes {
                    break;
                }
                bytes += more;
                count += 1;
            }
            if count == batch.candidates.len() {
                jobs += count * size;
                taken.extend(queue.pop_front());
                continue;
            }
            // An idle worker takes one candidate of one request, whatever it needs.
            if count == 0 && taken.is_empty() && self.active.is_empty() {
                if size > 1 {
                    let requests = batch.requests.split_off(size / 2);
                    let later = PrefillBatch { candidates: batch.candidates.clone(), requests };
                    queue.insert(1, later);
                    tokens = 0;
                    continue;
                }
                count = 1;
            }
            if count > 0 {
                let candidates = batch.candidates.drain(..count).collect();
                taken.push(PrefillBatch { candidates, requests: batch.requests.clone() });
                if batch.candidates.is_empty() {
                    queue.pop_front();
                }
            }
            break;
        }
        taken
    }

    /// Appends the tokens that the prefill gave, and makes the sequence active unless it ends with them.
    fn start(&mut self, ready: Ready) -> Result<()> {
        let Ready { job, cache, first } = ready;
        let context = self.context;
        let request = &context.requests[job.1];
        let draft = context.draft(job.1);
        let mut active = Active {
            job,
            request,
            cache,
            sampler: Sampler::new(request.sampling, request.seed),
            tokens: Vec::new(),
            logprobs: Vec::new(),
            stop_token: None,
            thinking: Thinking::new(request),
            watch: LoopWatch::default(),
            draft: Draft::new(draft),
            bytes: context.cache_bytes(job),
        };
        let finish = match first {
            First::Greedy(choices) => {
                let (right, finish) = active.push_checked(&choices, draft, context)?;
                context.count_draft(draft.len(), right);
                finish
            }
            First::Logits(logits) if active.thinking.is_ending() => active.push_forced(&logits, context)?,
            First::Logits(logits) => {
                let choice = active.sampler.choose(&logits)?;
                active.push(choice, context)
            }
        };
        // Requests of one prompt share its prefill, and one may end its thought before another.
        active.cache.truncate(request.prompt.len() + active.tokens.len().saturating_sub(1));
        context.report(usize::from(finish.is_some()), active.tokens.len());
        match finish {
            Some(finish) => self.finish(active, finish)?,
            None => {
                self.reserved += active.bytes;
                self.active.push(active);
            }
        }
        Ok(())
    }

    /// Recomputes the caches of sequences whose keys are wrong from the next token on, because their rotary embedding
    /// depends on the length of the text.
    fn recompute_caches(&mut self) -> Result<()> {
        let DecodeContext { engine, candidates, .. } = *self.context;
        for active in &mut self.active {
            let past = active.cache.len();
            if !engine.model().needs_recompute(past, past + 1) {
                continue;
            }
            let kept = &candidates[active.job.0];
            let text: Vec<u32> = active.request.prompt.iter().chain(&active.tokens).copied().collect();
            let mut cache = SequenceCache::new(kept.len());
            let batch = Batch::new(&[&text[..past + 1]]);
            engine.forward().hidden_states(&batch, kept, self.threads, Some(&mut [&mut cache]), None)?;
            // The step itself reads the last token.
            cache.truncate(past);
            active.cache = cache;
        }
        Ok(())
    }

    /// One token, and what a draft adds to it, for every active sequence.
    fn step(&mut self) -> Result<()> {
        let context = self.context;
        let (engine, forward) = (context.engine, context.engine.forward());
        self.recompute_caches()?;
        let inputs: Vec<Vec<u32>> = self
            .active
            .iter()
            .map(|a| {
                let room = a.request.max_new_tokens.min(context.limit - a.request.prompt.len()) - a.tokens.len();
                let room = room.min(a.thinking.room(a.tokens.len()));
                let proposed = a.draft.propose(&a.tokens, room.saturating_sub(1));
                [&a.tokens[a.tokens.len() - 1..], proposed].concat()
            })
            .collect();
        let past = self.active.iter().map(|a| a.cache.len());
        let batch = forward.prepare(Batch::continued(inputs.iter().map(Vec::as_slice).zip(past)));
        let bounds = &batch.batch.bounds;
        let width = engine.model().config.hidden_size;
        let (mut x, mut out) = (Vec::new(), Vec::new());
        forward.embed(&batch.batch.tokens, &mut x);
        for layer in 0..engine.model().num_layers() {
            let (mut members, mut caches) = (Vec::new(), Vec::new());
            for (at, active) in self.active.iter_mut().enumerate() {
                if let Some(index) = context.cache_index(active.job.0, layer) {
                    members.push(at);
                    caches.push(&mut active.cache.layers_mut()[index]);
                }
            }
            if members.is_empty() {
                continue;
            }
            let past = Past::Caches(&mut caches);
            if members.len() == bounds.len() - 1 {
                forward.layer(LayerSlot(layer), &batch, &x, past, self.threads, &mut self.work, &mut out);
                std::mem::swap(&mut x, &mut out);
            } else {
                let values = |i: usize| bounds[i] * width..bounds[i + 1] * width;
                let gathered: Vec<f32> = members.iter().flat_map(|i| x[values(*i)].iter().copied()).collect();
                let part = batch.subset(&members);
                forward.layer(LayerSlot(layer), &part, &gathered, past, self.threads, &mut self.work, &mut out);
                for (&i, w) in members.iter().zip(part.batch.bounds.windows(2)) {
                    x[values(i)].copy_from_slice(&out[w[0] * width..w[1] * width]);
                }
            }
            forward.release_layer(LayerSlot(layer));
        }
        self.choose(&inputs, bounds, &x)
    }

    /// Chooses the next tokens from the hidden states after the step over `inputs`.
    fn choose(&mut self, inputs: &[Vec<u32>], bounds: &[usize], hidden: &[f32]) -> Result<()> {
        let context = self.context;
        let forward = context.engine.forward();
        let vocab = context.engine.model().config.vocab_size;
        let normed = |greedy: bool| {
            let chosen = self.active.iter().enumerate().filter(move |(_, a)| a.is_greedy() == greedy);
            forward.normed_rows(hidden, chosen.flat_map(|(i, _)| bounds[i]..bounds[i + 1]))
        };
        let choices = forward.greedy(self.threads, &normed(true));
        let sampled = normed(false);
        if sampled.is_empty() {
            self.logits.clear();
        } else {
            forward.logits(self.threads, &sampled, &mut self.logits);
        }
        let mut drawn = draw(self.threads, &mut self.active, self.logits.chunks_exact(vocab)).into_iter();
        let (mut choices, mut logits) = (choices.as_slice(), self.logits.chunks_exact(vocab));
        let (mut ended, mut tokens) = (Vec::new(), 0);
        for (at, active) in self.active.iter_mut().enumerate() {
            let before = active.tokens.len();
            let row = if active.is_greedy() { &[][..] } else { logits.next().unwrap_or_default() };
            let finish = if active.thinking.is_ending() {
                active.push_forced(row, context)?
            } else if active.is_greedy() {
                let (own, rest) = choices.split_at(inputs[at].len());
                choices = rest;
                let draft = &inputs[at][1..];
                let (right, finish) = active.push_checked(own, draft, context)?;
                let right = right.min(draft.len());
                active.draft.checked(draft.len(), right);
                context.count_draft(draft.len(), right);
                finish
            } else {
                let choice = drawn.next().context("a draw for each sequence that samples")??;
                active.push(choice, context)
            };
            tokens += active.tokens.len() - before;
            // The newest token has not been read yet; the cache entries of wrong draft tokens are dropped.
            active.cache.set_len(active.cache.len() + inputs[at].len());
            active.cache.truncate(active.request.prompt.len() + active.tokens.len() - 1);
            active.cache.forget_unseen(context.windows(active.job.0));
            ended.extend(finish.map(|finish| (at, finish)));
        }
        context.report(ended.len(), tokens);
        // From the last to the first, so that a finished one can be replaced by the last.
        for (at, finish) in ended.into_iter().rev() {
            let active = self.active.swap_remove(at);
            self.reserved -= active.bytes;
            self.finish(active, finish)?;
        }
        Ok(())
    }

    fn finish(&mut self, active: Active<'_>, finish: Finish) -> Result<()> {
        let Active { job, tokens, logprobs, stop_token, thinking, .. } = active;
        let thought_cut = thinking.has_ended();
        let generation = Generation { tokens, logprobs, finish, stop_token, thought_cut };
        (self.context.finished)(job, &generation)?;
        self.finished.push((job, generation));
        Ok(())
    }
}

/// The next tokens of the sequences that sample, in their order; `logits` has a row for each that is not greedy.
fn draw<'l>(
    threads: Threads,
    active: &mut [Active<'_>],
    logits: impl Iterator<Item = &'l [f32]>,
) -> Vec<Result<(u32, f32)>> {
    let rows = active.iter_mut().filter(|active| !active.is_greedy()).zip(logits);
    let jobs: Vec<(&mut Sampler, &[f32])> = rows
        .filter(|(active, _)| !active.thinking.is_ending())
        .map(|(active, logits)| (&mut active.sampler, logits))
        .collect();
    let mut drawn: Vec<Option<Result<(u32, f32)>>> = jobs.iter().map(|_| None).collect();
    let draws = jobs.into_iter().zip(&mut drawn).collect();
    threads.for_each_of(draws, |((sampler, logits), drawn): ((&mut Sampler, &[f32]), &mut Option<_>)| {
        *drawn = Some(sampler.choose(logits));
    });
    drawn.into_iter().flatten().collect()
}
