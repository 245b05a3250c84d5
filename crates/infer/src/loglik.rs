//! Log-likelihoods: of continuations after a context that its choices share (multiple choice), and
//! of every token of whole sequences (perplexity).
//!
//! A context is read once; its choices are then read one after another from its cache, which is
//! cut back in between, while the same choice of all other contexts goes through in the same
//! batch. The context limit of the model is not enforced, as transformers does not either.

use crate::engine::{Engine, Progress, runs};
use anyhow::{Result, ensure};
use lopper_model::kernels::loss::log_sum_exp;
use lopper_model::{Batch, Par, SequenceCache};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Tokens read in one pass; a longer sequence goes alone.
pub(crate) const PASS_TOKENS: usize = 2048;
/// Logits held at a time, in values.
const CHUNK_VALUES: usize = 1 << 20;

/// A context and what may come after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoglikRequest {
    /// Tokens that are given; at least one.
    pub context: Vec<u32>,
    /// Tokens to score after the context; at least one each.
    pub continuations: Vec<Vec<u32>>,
}

/// How probable one continuation is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loglik {
    /// Sum of the tokens' natural log-probabilities.
    pub sum: f64,
    /// Number of tokens scored.
    pub tokens: usize,
    /// Whether each token was the most probable one (the lowest id wins a tie).
    pub greedy: bool,
}

impl Loglik {
    const EMPTY: Self = Self { sum: 0.0, tokens: 0, greedy: true };

    fn add(&mut self, row: &[f32], token: u32) {
        let value = row[token as usize];
        self.sum += f64::from(value - log_sum_exp(row));
        self.tokens += 1;
        self.greedy &= crate::sampling::argmax(row) == token;
    }
}

impl Engine {
    /// Log-likelihood of each continuation of each request, over the kept layers.
    pub fn loglikelihood(
        &self,
        kept: &[usize],
        requests: &[LoglikRequest],
        observer: &(dyn Fn(Progress) + Sync),
    ) -> Result<Vec<Vec<Loglik>>> {
        for request in requests {
            ensure!(!request.context.is_empty(), "an empty context predicts nothing; begin with the model's BOS token");
            ensure!(request.continuations.iter().all(|c| !c.is_empty()), "a continuation without tokens has no score");
            self.model().check(&request.context, kept)?;
            for continuation in &request.continuations {
                self.model().check(continuation, kept)?;
            }
        }
        let (done, tokens, total) = (AtomicUsize::new(0), AtomicUsize::new(0), requests.len());
        let jobs = runs(requests.iter().map(|r| r.context.len()), PASS_TOKENS);
        let results = self.each(jobs, |range, par| {
            let requests = &requests[range];
            let result = self.score_run(kept, requests, par)?;
            let read: usize =
                requests.iter().map(|r| r.context.len() + r.continuations.iter().map(Vec::len).sum::<usize>()).sum();
            let tokens = tokens.fetch_add(read, Ordering::Relaxed) + read;
            let done = done.fetch_add(requests.len(), Ordering::Relaxed) + requests.len();
            observer(Progress { done, total, tokens });
            Ok(result)
        })?;
        Ok(results.into_iter().flatten().collect())
    }

    /// Scores the requests of one pass.
    #[allow(clippy::needless_range_loop, reason = "`round` numbers choices of every request, not rows of `results`")]
    fn score_run(&self, kept: &[usize], requests: &[LoglikRequest], par: Par) -> Result<Vec<Vec<Loglik>>> {
        let model = self.model();
        let shares = |r: &LoglikRequest| {
            let longest = r.continuations.iter().map(Vec::len).max().unwrap_or(0);
            !model.depends_on_length(r.context.len(), r.context.len() + longest)
        };
        if !requests.iter().all(shares) {
            return requests.iter().map(|request| self.score_whole(kept, request, par)).collect();
        }
        let empty = Loglik::EMPTY;
        let mut results: Vec<Vec<Loglik>> = requests.iter().map(|r| vec![empty; r.continuations.len()]).collect();

        let batch = Batch::continued(requests.iter().map(|r| (r.context.as_slice(), 0)));
        let mut caches = vec![SequenceCache::new(kept.len()); requests.len()];
        let mut slots: Vec<_> = caches.iter_mut().collect();
        let hidden = model.hidden_states(&batch, kept, par, Some(&mut slots), None)?;
        let last = batch.bounds[1..].iter().map(|end| end - 1);
        self.for_each_row(&hidden, last, par, |at, row| {
            for (result, continuation) in results[at].iter_mut().zip(&requests[at].continuations) {
                result.add(row, continuation[0]);
            }
        });

        let rounds = requests.iter().map(|r| r.continuations.len()).max().unwrap_or(0);
        for round in 0..rounds {
            let tail = |r: &LoglikRequest| r.continuations.get(round).is_some_and(|c| c.len() > 1);
            let members: Vec<usize> = (0..requests.len()).filter(|i| tail(&requests[*i])).collect();
            if members.is_empty() {
                continue;
            }
            self.check_interrupt()?;
            let continuation = |i: usize| requests[i].continuations[round].as_slice();
            let batch = Batch::continued(members.iter().map(|&i| {
                let tokens = continuation(i);
                (&tokens[..tokens.len() - 1], requests[i].context.len())
            }));
            let mut slots: Vec<_> =
                caches.iter_mut().zip(requests).filter(|(_, r)| tail(r)).map(|(cache, _)| cache).collect();
            let hidden = model.hidden_states(&batch, kept, par, Some(&mut slots), None)?;
            let rows: Vec<(usize, u32)> =
                members.iter().flat_map(|&i| continuation(i)[1..].iter().map(move |t| (i, *t))).collect();
            self.for_each_row(&hidden, 0..rows.len(), par, |at, row| {
                let (member, token) = rows[at];
                results[member][round].add(row, token);
            });
            for (slot, &member) in slots.iter_mut().zip(&members) {
                slot.truncate(requests[member].context.len());
            }
        }
        Ok(results)
    }

    /// Scores each continuation with its context as one text, for models that read a context
    /// otherwise when more follows.
    fn score_whole(&self, kept: &[usize], request: &LoglikRequest, par: Par) -> Result<Vec<Loglik>> {
        let mut results = Vec::with_capacity(request.continuations.len());
        for continuation in &request.continuations {
            self.check_interrupt()?;
            let text: Vec<u32> = request.context.iter().chain(continuation).copied().collect();
            let read = text.len() - 1;
            let hidden = self.model().hidden_states(&Batch::new(&[&text[..read]]), kept, par, None, None)?;
            let mut result = Loglik::EMPTY;
            self.for_each_row(&hidden, request.context.len() - 1..read, par, |at, row| {
                result.add(row, continuation[at]);
            });
            results.push(result);
        }
        Ok(results)
    }

    /// Log-probability of every token of every sequence after the tokens before it; `None` for the
    /// first, which nothing predicts.
    pub fn token_logprobs(
        &self,
        kept: &[usize],
        sequences: &[Vec<u32>],
        observer: &(dyn Fn(Progress) + Sync),
    ) -> Result<Vec<Vec<Option<f32>>>> {
        for sequence in sequences {
            self.model().check(sequence, kept)?;
        }
        let (done, tokens) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let total = sequences.len();
        let results = self.each(runs(sequences.iter().map(Vec::len), PASS_TOKENS), |range, par| {
            let sequences = &sequences[range];
            let model = self.model();
            let batch = Batch::new(sequences);
            let hidden = model.hidden_states(&batch, kept, par, None, None)?;
            let rows = batch.bounds.windows(2).flat_map(|w| w[0]..w[1].saturating_sub(1).max(w[0]));
            let targets: Vec<u32> = sequences.iter().flat_map(|s| s.iter().skip(1).copied()).collect();
            let normed = model.normed_rows(&hidden, rows);
            let mut logprobs = model.token_logprobs(&normed, &targets, par).into_iter().map(|t| Some(t.logprob));
            let mut result = Vec::with_capacity(sequences.len());
            for sequence in sequences {
                let mut list = Vec::with_capacity(sequence.len());
                if !sequence.is_empty() {
                    list.push(None);
                    list.extend(logprobs.by_ref().take(sequence.len() - 1));
                }
                result.push(list);
            }
            let tokens = tokens.fetch_add(batch.len(), Ordering::Relaxed) + batch.len();
            let done = done.fetch_add(sequences.len(), Ordering::Relaxed) + sequences.len();
            observer(Progress { done, total, tokens });
            Ok(result)
        })?;
        Ok(results.into_iter().flatten().collect())
    }

    /// Calls `f` with the number and the logits of each of the given hidden rows, computing the
    /// logits in chunks.
    fn for_each_row(
        &self,
        hidden: &[f32],
        rows: impl IntoIterator<Item = usize>,
        par: Par,
        mut f: impl FnMut(usize, &[f32]),
    ) {
        let (model, vocab) = (self.model(), self.model().config.vocab_size);
        let rows: Vec<usize> = rows.into_iter().collect();
        let chunk = (CHUNK_VALUES / vocab).clamp(1, 256);
        for (c, rows) in rows.chunks(chunk).enumerate() {
            let logits = model.logits(&model.normed_rows(hidden, rows.iter().copied()), par);
            for (i, row) in logits.chunks_exact(vocab).enumerate() {
                f(c * chunk + i, row);
            }
        }
    }
}
