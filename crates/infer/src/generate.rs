//! Generation by continuous batching (Orca, Yu et al., OSDI 2022): all active sequences take each
//! step together, leave as they finish, and waiting ones enter in their place.
//!
//! Several samples of one prompt (requests whose prompts are identical) share one prefill. What a
//! request draws depends on its own seed only, whatever runs beside it.

use crate::engine::{Engine, Progress};
use crate::sampling::Sampling;
use crate::stop::StopCheck;
use crate::worker::{Shared, Worker};
use anyhow::{Result, ensure};
use lopper_model::Par;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// One prompt to continue.
#[derive(Debug, Clone)]
pub struct Request {
    /// Token ids to continue; at least one.
    pub prompt: Vec<u32>,
    /// Most tokens to generate.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Seed of this request's draws.
    pub seed: u64,
    /// Tokens that end the generation and are not part of it.
    pub stop_tokens: Vec<u32>,
    /// Looks for stop strings after each token.
    pub stop: Option<Arc<dyn StopCheck>>,
}

impl Request {
    /// A greedy continuation by at most `max_new_tokens`, without stops.
    pub fn greedy(prompt: impl Into<Vec<u32>>, max_new_tokens: usize) -> Self {
        Self {
            prompt: prompt.into(),
            max_new_tokens,
            sampling: Sampling::Greedy,
            seed: 0,
            stop_tokens: vec![],
            stop: None,
        }
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// A stop token came.
    Stop,
    /// A stop string was completed.
    StopString,
    /// `max_new_tokens` were generated.
    Length,
    /// Prompt and generation fill the context.
    ContextFull,
}

/// What came after one prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Generated tokens, without the stop token; where a stop string ended it, up to and including
    /// the token that completed the string.
    pub tokens: Vec<u32>,
    /// Natural log-probability of each of `tokens` under the model itself (temperature 1, no cuts).
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

impl Generation {
    /// Mean of the tokens' log-probabilities; none where nothing was generated.
    pub fn mean_logprob(&self) -> Option<f64> {
        let sum: f64 = self.logprobs.iter().map(|v| f64::from(*v)).sum();
        (!self.logprobs.is_empty()).then(|| sum / self.logprobs.len() as f64)
    }
}

/// How a call of [`Engine::generate`] uses the machine, and where the context ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateOptions {
    /// Sequences that decode together, on each of the threads where those work apart.
    pub batch: usize,
    /// Prompt tokens read in one pass (a longer prompt goes alone).
    pub prefill_tokens: usize,
    /// Bytes that all keys and values together may take; one sequence always runs.
    pub cache_bytes: usize,
    /// Most tokens of prompt and generation together; `None`: the model's own limit.
    pub context_limit: Option<usize>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { batch: 64, prefill_tokens: 2048, cache_bytes: 2 << 30, context_limit: None }
    }
}

/// Requests with one prompt that a worker takes together.
#[derive(Debug)]
pub(crate) struct Unit {
    /// Indices of the requests, in order.
    pub requests: Vec<usize>,
}

impl Engine {
    /// Continues every request over the kept layers; the results stand in the requests' order.
    ///
    /// `observer` is told how far the call has come, from whichever thread is at work.
    pub fn generate(
        &self,
        kept: &[usize],
        requests: &[Request],
        options: &GenerateOptions,
        observer: &(dyn Fn(Progress) + Sync),
    ) -> Result<Vec<Generation>> {
        for request in requests {
            ensure!(
                !request.prompt.is_empty(),
                "an empty prompt cannot be continued; begin with the model's BOS token"
            );
            self.model().check(&request.prompt, kept)?;
            request.sampling.check()?;
        }
        let lanes = self.lanes(requests.len());
        // Not more in one lane than its fair share, so that a short list still uses every thread.
        let capacity = options.batch.min(requests.len().div_ceil(lanes)).max(1);
        let limit = options.context_limit.unwrap_or(self.model().config.max_position_embeddings);
        let mut results: Vec<Option<Generation>> = vec![None; requests.len()];
        let mut waiting = Vec::with_capacity(requests.len());
        for (index, request) in requests.iter().enumerate() {
            // What cannot generate anything is not worth a prefill.
            let finish = match request {
                r if r.max_new_tokens == 0 => Finish::Length,
                r if r.prompt.len() >= limit => Finish::ContextFull,
                _ => {
                    waiting.push(index);
                    continue;
                }
            };
            results[index] = Some(Generation { tokens: vec![], logprobs: vec![], finish });
        }
        let shared = Shared::new(self, kept, requests, options, limit, observer, units(requests, &waiting, capacity));
        shared.skip(requests.len() - waiting.len());
        let run = |par| Worker::new(&shared, par, capacity, lanes).run();
        let finished: Vec<_> = self.pool_install(|| {
            if lanes > 1 {
                (0..lanes).into_par_iter().with_max_len(1).map(|_| run(Par::Sequential)).collect::<Result<_>>()
            } else {
                run(Par::Pool).map(|list| vec![list])
            }
        })?;
        for (index, generation) in finished.into_iter().flatten() {
            results[index] = Some(generation);
        }
        results.into_iter().map(|r| r.ok_or_else(|| anyhow::anyhow!("a request was left unfinished"))).collect()
    }
}

/// Groups requests with identical prompts, in order of first appearance and in pieces of at most
/// `capacity` requests.
fn units(requests: &[Request], waiting: &[usize], capacity: usize) -> VecDeque<Unit> {
    let mut open: HashMap<&[u32], usize> = HashMap::new();
    let mut units: Vec<Unit> = Vec::new();
    for &index in waiting {
        let prompt = requests[index].prompt.as_slice();
        match open.get(prompt) {
            Some(&at) if units[at].requests.len() < capacity => units[at].requests.push(index),
            _ => {
                open.insert(prompt, units.len());
                units.push(Unit { requests: vec![index] });
            }
        }
    }
    units.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identical_prompts_form_units_of_bounded_size() {
        let requests: Vec<Request> = [1, 2, 1, 1, 3, 2].iter().map(|t| Request::greedy(vec![*t], 4)).collect();
        let units = units(&requests, &[0, 1, 2, 3, 4, 5], 2);
        let lists: Vec<_> = units.into_iter().map(|u| u.requests).collect();
        assert_eq!(lists, [vec![0, 2], vec![1, 5], vec![3], vec![4]]);
    }
}
