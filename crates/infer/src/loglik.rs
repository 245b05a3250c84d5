//! Log-likelihoods: of continuations after a context that its choices share (multiple choice), and of every token of
//! whole sequences (perplexity), for one candidate or many.
//!
//! What texts begin with is computed once: few-shot examples that neighbouring contexts share, a context for all its
//! choices, and a candidate's layers for all candidates that agree so far ([`crate::layer_trie`]). No result depends on
//! what is shared. The context limit of the model is not enforced, as in transformers.

use crate::engine::{Engine, ranges};
use crate::layer_trie::{BATCH_TOKENS, Hooks, LayerHook, State, Work, WorkMeter, check_candidates, trie_size};
use crate::prefix_tree::{Owner, ScoringBatch, scoring_batches};
use lopper_model::{Target, Threads, TokenLogprob};
use lopper_record::{LayerSet, LayerSlot, Progress, Result, Step, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A context and what may come after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoglikRequest {
    /// Token ids that are given; at least one.
    pub context: Vec<u32>,
    /// Token ids to score after the context; at least one each.
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

    fn add(&mut self, token: TokenLogprob) {
        self.sum += f64::from(token.logprob);
        self.tokens += 1;
        self.greedy &= token.greedy;
    }
}

/// Natural log-probability of each token of each sequence, by sequence; `None` for the first token, which nothing
/// predicts.
pub type TokenLogprobs = Vec<Vec<Option<f32>>>;

impl Engine {
    /// Log-likelihood of each continuation of each request, with only the layers `kept`: `results[request][choice]`.
    ///
    /// # Errors
    /// Empty contexts and continuations, tokens outside the vocabulary, layers that the model does not have, and
    /// [`lopper_record::Interrupted`]. The same holds for all methods here.
    pub fn loglikelihood(
        &self,
        kept: &LayerSet<LayerSlot>,
        requests: &[LoglikRequest],
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Loglik>>> {
        let (mut results, _) = self.loglikelihood_many(std::slice::from_ref(kept), requests, progress)?;
        Ok(results.pop().unwrap_or_default())
    }

    /// [`Engine::loglikelihood`] for each of `candidates` (the layers each keeps) in one pass, and what it cost:
    /// `results[candidate][request][choice]`.
    pub fn loglikelihood_many(
        &self,
        candidates: &[LayerSet<LayerSlot>],
        requests: &[LoglikRequest],
        progress: &dyn Progress,
    ) -> Result<(Vec<Vec<Vec<Loglik>>>, Work)> {
        for request in requests {
            ensure!(!request.context.is_empty(), "an empty context predicts nothing; begin with the model's BOS token");
            ensure!(request.continuations.iter().all(|c| !c.is_empty()), "a continuation without tokens has no score");
            self.model().check_tokens(&request.context)?;
            for continuation in &request.continuations {
                self.model().check_tokens(continuation)?;
            }
        }
        let step = progress.step(Step::new("scoring", "requests", requests.len() * candidates.len()));
        let blank: Vec<Vec<Loglik>> = requests.iter().map(|r| vec![Loglik::EMPTY; r.continuations.len()]).collect();
        let mut results = vec![blank; candidates.len()];
        let batches = scoring_batches(self.model(), requests);
        let work = self.score(candidates, &batches, requests.len(), None, &*step, |candidate, owner, token| {
            results[candidate][owner.request][owner.choice].add(token);
        })?;
        Ok((results, work))
    }

    /// Log-probability of every token of every sequence, with only the layers `kept`.
    pub fn token_logprobs(
        &self,
        kept: &LayerSet<LayerSlot>,
        sequences: &[Vec<u32>],
        progress: &dyn Progress,
    ) -> Result<TokenLogprobs> {
        let (mut results, _) = self.token_logprobs_many(std::slice::from_ref(kept), sequences, progress)?;
        Ok(results.pop().unwrap_or_default())
    }

    /// [`Engine::token_logprobs`] for each of `candidates` in one pass, and what it cost.
    pub fn token_logprobs_many(
        &self,
        candidates: &[LayerSet<LayerSlot>],
        sequences: &[Vec<u32>],
        progress: &dyn Progress,
    ) -> Result<(Vec<TokenLogprobs>, Work)> {
        self.token_logprobs_with_hook(candidates, sequences, None, progress)
    }

    /// [`Engine::token_logprobs_many`]; `hook` gets the hidden states into and out of each layer of the first
    /// candidate.
    pub fn token_logprobs_with_hook(
        &self,
        candidates: &[LayerSet<LayerSlot>],
        sequences: &[Vec<u32>],
        hook: Option<&LayerHook<'_>>,
        progress: &dyn Progress,
    ) -> Result<(Vec<TokenLogprobs>, Work)> {
        for sequence in sequences {
            self.model().check_tokens(sequence)?;
        }
        let step = progress.step(Step::new("scoring", "sequences", sequences.len() * candidates.len()));
        let batches: Vec<ScoringBatch> = ranges(sequences.iter().map(Vec::len), BATCH_TOKENS)
            .into_iter()
            .map(|range| ScoringBatch::of_sequences(&sequences[range.clone()], range.start))
            .collect();
        let blank: TokenLogprobs = sequences.iter().map(|s| s.first().map(|_| None).into_iter().collect()).collect();
        let mut results = vec![blank; candidates.len()];
        let work = self.score(candidates, &batches, sequences.len(), hook, &*step, |candidate, owner, token| {
            results[candidate][owner.request].push(Some(token.logprob));
        })?;
        Ok((results, work))
    }

    /// Scores the targets of all batches for all candidates; `take` gets a candidate's tokens in their order.
    fn score(
        &self,
        candidates: &[LayerSet<LayerSlot>],
        batches: &[ScoringBatch],
        requests: usize,
        hook: Option<&LayerHook<'_>>,
        progress: &dyn Progress,
        mut take: impl FnMut(usize, Owner, TokenLogprob),
    ) -> Result<Work> {
        check_candidates(self, candidates)?;
        let sizes: Vec<usize> = batches.iter().map(|scoring| scoring.batch.len()).collect();
        let (candidate_groups, batch_groups) = self.groups(candidates, &sizes);
        let tokens: u64 = sizes.iter().map(|tokens| *tokens as u64).sum();
        let layers: usize = candidate_groups.iter().map(|group| trie_size(&candidates[group.clone()])).sum();
        let meter = WorkMeter::new(tokens * layers as u64, requests * candidates.len(), progress);
        let mut head_tokens = 0;
        for range in batch_groups {
            let group_batches = &batches[range.clone()];
            for members in &candidate_groups {
                let scored = self.pool_install(|| {
                    let prepared = self.prepare(group_batches.iter().map(|scoring| scoring.batch.clone()));
                    let activations = hook.filter(|_| members.start == 0);
                    let hooks =
                        Hooks { activations, first_batch: range.start, meter: Some(&meter), ..Hooks::default() };
                    let states = self.run_candidates(&candidates[members.clone()], &prepared, progress, hooks)?;
                    self.targets(&states, group_batches)
                })?;
                for (state, batch, tokens) in scored {
                    let scoring = &group_batches[batch];
                    head_tokens += scoring.rows.len() as u64;
                    for member in &state {
                        for (owner, token) in scoring.owners.iter().zip(&tokens) {
                            take(members.start + member, *owner, *token);
                        }
                    }
                }
            }
        }
        let unshared_layer_tokens = candidates.iter().map(|kept| kept.len() as u64 * tokens).sum();
        Ok(Work { layer_tokens: meter.total(), head_tokens, unshared_layer_tokens })
    }

    /// The log-probabilities of each batch's targets after each state, batch by batch within a state: the state's
    /// members, the batch's number, its targets.
    #[allow(clippy::type_complexity, reason = "described above")]
    fn targets(
        &self,
        states: &[State],
        batches: &[ScoringBatch],
    ) -> Result<Vec<(Vec<usize>, usize, Vec<TokenLogprob>)>> {
        let forward = self.forward();
        let jobs: Vec<(usize, usize)> =
            (0..states.len()).flat_map(|state| (0..batches.len()).map(move |batch| (state, batch))).collect();
        let normed = |(state, batch): (usize, usize)| {
            forward.normed_rows(&states[state].hidden[batch], batches[batch].rows.iter().copied())
        };
        let result = |(state, batch): (usize, usize), tokens| (states[state].members.clone(), batch, tokens);
        let parallel = self.splits() || jobs.len() >= 2 * self.threads();
        if parallel && !self.model().is_streamed() {
            let score = |job: &(usize, usize)| {
                let tokens = forward.token_logprobs(Threads::One, &normed(*job), &batches[job.1].targets);
                result(*job, tokens)
            };
            return Ok(jobs.par_iter().with_max_len(1).map(score).collect());
        }
        // All at once, so that the head is read once.
        let (mut all, mut targets, mut spans): (Vec<f32>, Vec<Target>, Vec<Range<usize>>) = Default::default();
        let width = self.model().config.hidden_size;
        for job in &jobs {
            let (first, from) = (all.len() / width, targets.len());
            all.extend(normed(*job));
            targets.extend(batches[job.1].targets.iter().map(|t| Target { row: first + t.row, token: t.token }));
            spans.push(from..targets.len());
        }
        let tokens = forward.token_logprobs(Threads::Team, &all, &targets);
        Ok(jobs.into_iter().zip(spans).map(|(job, span)| result(job, tokens[span].to_vec())).collect())
    }
}

/// The mean of −log p in nats over all tokens that have a log-probability, and their number; no mean without any.
pub fn mean_nll(logprobs: &[Vec<Option<f32>>]) -> (Option<f64>, usize) {
    let predicted = || logprobs.iter().flatten().flatten();
    let count = predicted().count();
    let sum: f64 = predicted().map(|value| f64::from(*value)).sum();
    ((count > 0).then(|| -sum / count as f64), count)
}
