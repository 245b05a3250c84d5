//! Log-likelihoods: of continuations after a context that its choices share (multiple choice), and
//! of every token of whole sequences (perplexity), for one candidate or many.
//!
//! Texts form trees: what the contexts of neighbouring requests begin with (worked examples) is
//! computed once for all of them, a context once for all its choices, and a candidate's layers once
//! for all candidates that agree so far ([`crate::depths`]). No result depends on what is shared.
//! The context limit of the model is not enforced, as transformers does not either.

use crate::depths::{CHUNK_TOKENS, Meter, State, Taps, Visit, Work, check_candidates, layers_of_work};
use crate::engine::{Engine, Progress, runs};
use crate::forest::{Chunk, chunks};
use anyhow::{Result, ensure};
use lopper_model::{Batch, Par, Target, TokenLogprob};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

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

    fn add(&mut self, token: TokenLogprob) {
        self.sum += f64::from(token.logprob);
        self.tokens += 1;
        self.greedy &= token.greedy;
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
        let (mut results, _) = self.loglikelihood_many(&[kept.to_vec()], requests, observer)?;
        Ok(results.pop().unwrap_or_default())
    }

    /// As [`Engine::loglikelihood`] for each of `candidates`, lists of kept layers, in one pass; and
    /// what it cost. `results[c][r]` are the continuations of request `r` for candidate `c`.
    pub fn loglikelihood_many(
        &self,
        candidates: &[Vec<usize>],
        requests: &[LoglikRequest],
        observer: &(dyn Fn(Progress) + Sync),
    ) -> Result<(Vec<Vec<Vec<Loglik>>>, Work)> {
        for request in requests {
            ensure!(!request.context.is_empty(), "an empty context predicts nothing; begin with the model's BOS token");
            ensure!(request.continuations.iter().all(|c| !c.is_empty()), "a continuation without tokens has no score");
            self.model().check(&request.context, &[])?;
            for continuation in &request.continuations {
                self.model().check(continuation, &[])?;
            }
        }
        let blank: Vec<Vec<Loglik>> = requests.iter().map(|r| vec![Loglik::EMPTY; r.continuations.len()]).collect();
        let mut results = vec![blank; candidates.len()];
        let chunks = chunks(self.model(), requests);
        let work = self.score(candidates, &chunks, requests.len(), None, observer, |candidate, owner, token| {
            results[candidate][owner.request][owner.choice].add(token);
        })?;
        Ok((results, work))
    }

    /// Log-probability of every token of every sequence after the tokens before it; `None` for the
    /// first, which nothing predicts.
    pub fn token_logprobs(
        &self,
        kept: &[usize],
        sequences: &[Vec<u32>],
        observer: &(dyn Fn(Progress) + Sync),
    ) -> Result<Vec<Vec<Option<f32>>>> {
        let (mut results, _) = self.token_logprobs_many(&[kept.to_vec()], sequences, observer)?;
        Ok(results.pop().unwrap_or_default())
    }

    /// As [`Engine::token_logprobs`] for each of `candidates` in one pass, and what it cost.
    #[allow(clippy::type_complexity, reason = "a list for each candidate, sequence and token")]
    pub fn token_logprobs_many(
        &self,
        candidates: &[Vec<usize>],
        sequences: &[Vec<u32>],
        observer: &(dyn Fn(Progress) + Sync),
    ) -> Result<(Vec<Vec<Vec<Option<f32>>>>, Work)> {
        self.visited_logprobs(candidates, sequences, None, observer)
    }

    /// As [`Engine::token_logprobs_many`]; `visit` sees what each layer does in the first candidate.
    #[allow(clippy::type_complexity, reason = "a list for each candidate, sequence and token")]
    pub fn visited_logprobs(
        &self,
        candidates: &[Vec<usize>],
        sequences: &[Vec<u32>],
        visit: Option<&Visit<'_>>,
        observer: &(dyn Fn(Progress) + Sync),
    ) -> Result<(Vec<Vec<Vec<Option<f32>>>>, Work)> {
        for sequence in sequences {
            self.model().check(sequence, &[])?;
        }
        let chunks: Vec<Chunk> = runs(sequences.iter().map(Vec::len), CHUNK_TOKENS)
            .into_iter()
            .map(|range| Chunk::of_sequences(&sequences[range.clone()], range.start))
            .collect();
        let blank: Vec<Vec<Option<f32>>> =
            sequences.iter().map(|s| s.first().map(|_| None).into_iter().collect()).collect();
        let mut results = vec![blank; candidates.len()];
        let work = self.score(candidates, &chunks, sequences.len(), visit, observer, |candidate, owner, token| {
            results[candidate][owner.request].push(Some(token.logprob));
        })?;
        Ok((results, work))
    }

    /// Scores the targets of all chunks for all candidates; `take` gets every token of a candidate
    /// in its order.
    fn score(
        &self,
        candidates: &[Vec<usize>],
        chunks: &[Chunk],
        requests: usize,
        visit: Option<&Visit<'_>>,
        observer: &(dyn Fn(Progress) + Sync),
        mut take: impl FnMut(usize, crate::forest::Owner, TokenLogprob),
    ) -> Result<Work> {
        check_candidates(self, candidates)?;
        let sizes: Vec<usize> = chunks.iter().map(|chunk| chunk.batch.len()).collect();
        let (groups, waves) = self.waves(candidates, &sizes);
        let rows: u64 = sizes.iter().map(|rows| *rows as u64).sum();
        let layers: usize = groups.iter().map(|group| layers_of_work(&candidates[group.clone()])).sum();
        let meter = Meter::new(rows * layers as u64, requests * candidates.len(), observer);
        let mut head_rows = 0;
        for wave in &waves {
            let batches: Vec<Batch> = chunks[wave.clone()].iter().map(|chunk| chunk.batch.clone()).collect();
            for group in &groups {
                let members = &candidates[group.clone()];
                let scored = self.pool_install(|| {
                    let readings = self.readings(batches.clone());
                    let visit = visit.filter(|_| group.start == 0);
                    let taps = Taps { visit, first_chunk: wave.start, ..Taps::default() };
                    let states = self.run_depths(members, &readings, taps, &|rows| meter.advance(rows))?;
                    self.targets(&states, &chunks[wave.clone()])
                })?;
                for (state, chunk, tokens) in scored {
                    let chunk = &chunks[wave.start + chunk];
                    head_rows += chunk.rows.len() as u64;
                    for member in &state {
                        for (owner, token) in chunk.owners.iter().zip(&tokens) {
                            take(group.start + member, *owner, *token);
                        }
                    }
                }
            }
        }
        let apart = candidates.iter().map(|kept| kept.len() as u64 * rows).sum();
        Ok(Work { layer_rows: meter.rows(), head_rows, apart_rows: apart })
    }

    /// The log-probabilities of each chunk's targets after each state, chunk by chunk within a state.
    #[allow(clippy::type_complexity, reason = "members, number of the chunk, its targets")]
    fn targets(&self, states: &[State], chunks: &[Chunk]) -> Result<Vec<(Vec<usize>, usize, Vec<TokenLogprob>)>> {
        let forward = self.forward();
        let jobs: Vec<(usize, usize)> =
            (0..states.len()).flat_map(|state| (0..chunks.len()).map(move |chunk| (state, chunk))).collect();
        let normed = |(state, chunk): (usize, usize)| {
            forward.normed_rows(&states[state].hidden[chunk], chunks[chunk].rows.iter().copied())
        };
        let result = |(state, chunk): (usize, usize), tokens| (states[state].members.clone(), chunk, tokens);
        let parallel = self.splits() || jobs.len() >= 2 * self.threads();
        if parallel && !self.model().is_streamed() {
            let score = |job: &(usize, usize)| {
                let tokens = forward.token_logprobs(Par::Sequential, &normed(*job), &chunks[job.1].targets);
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
            targets.extend(chunks[job.1].targets.iter().map(|t| Target { row: first + t.row, token: t.token }));
            spans.push(from..targets.len());
        }
        let tokens = forward.token_logprobs(Par::Pool, &all, &targets);
        Ok(jobs.into_iter().zip(spans).map(|(job, span)| result(job, tokens[span].to_vec())).collect())
    }
}
