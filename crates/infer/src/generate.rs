//! Generation by continuous batching (Orca, Yu et al., OSDI 2022): all active sequences, whichever prompt and candidate
//! they belong to, take each decoding step together, leave as they finish, and waiting ones enter in their place.
//!
//! Several samples of one prompt (requests whose prompts are identical) share one prefill, and candidates that agree on
//! their first layers share those layers of it. What a request draws depends on its own seed only, not on the batch.
//!
//! **Drafts.** The greedy answers of models that differ by a few layers mostly begin alike. The tokens of the first
//! candidate's answer are checked in one parallel pass, as far as they are what this candidate would have generated
//! itself, and again later where the texts agree: speculative decoding (Leviathan et al., arXiv 2211.17192) without a
//! draft model, lossless because only the candidate's own choices are kept.

use crate::decode_context::{Counts, DecodeContext, Finished, PrefillBatch};
use crate::engine::Engine;
use crate::layer_trie::check_candidates;
use crate::loops::LoopStop;
use crate::reasoning::ThinkingBudget;
use crate::sampling::Sampling;
use crate::stop::StopCheck;
use crate::thinking::Thinking;
use crate::worker::Worker;
use lopper_model::Threads;
use lopper_record::{Context, LayerSet, LayerSlot, Progress, Result, Step, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

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
    /// How long the model may think; none: as long as it likes.
    pub thinking: Option<ThinkingBudget>,
}

impl Request {
    /// A greedy continuation by at most `max_new_tokens`, without stop tokens or strings.
    pub fn greedy(prompt: impl Into<Vec<u32>>, max_new_tokens: usize) -> Self {
        Self {
            prompt: prompt.into(),
            max_new_tokens,
            sampling: Sampling::Greedy,
            seed: 0,
            stop_tokens: vec![],
            stop: None,
            thinking: None,
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
    /// It repeated itself ([`LoopStop`]).
    Loop,
}

impl Finish {
    /// Whether the model ended it, and not a limit.
    pub fn is_complete(self) -> bool {
        matches!(self, Self::Stop | Self::StopString)
    }
}

/// The continuation of one prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Generated tokens, without the stop token; where a stop string ended it, up to and including
    /// the token that completed the string.
    pub tokens: Vec<u32>,
    /// Natural log-probability of each of `tokens` under the model itself (temperature 1, no cuts).
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
    /// The stop token that ended it, if one did.
    #[serde(default)]
    pub stop_token: Option<u32>,
    /// Whether a [`ThinkingBudget`] ended a thought; its end marker is among `tokens`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub thought_cut: bool,
}

/// How a call of [`Engine::generate`] uses the machine, and where a generation ends.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Sequences that decode together; of a small model, on each thread.
    pub batch: usize,
    /// Prompt tokens in one prefill pass (a longer prompt goes alone).
    pub prefill_tokens: usize,
    /// Bytes that all keys and values together may take; one sequence always runs.
    pub cache_bytes: usize,
    /// Most tokens of prompt and generation together; `None`: the model's own limit.
    pub context_limit: Option<usize>,
    /// When an answer that repeats itself is stopped; `None`: never.
    pub loops: Option<LoopStop>,
    /// Whether the first candidate's greedy answers are drafts for the others.
    pub draft_from_first: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            batch: 64,
            prefill_tokens: 2048,
            cache_bytes: 2 << 30,
            context_limit: None,
            loops: None,
            draft_from_first: true,
        }
    }
}

/// What a call generated, and how.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generations {
    /// `candidates[candidate][request]`.
    pub candidates: Vec<Vec<Generation>>,
    /// Generated tokens.
    pub tokens: usize,
    /// Draft tokens that were checked.
    pub drafted: usize,
    /// Draft tokens that were what the candidate would have generated.
    pub accepted: usize,
}

/// Nobody wants to know of single generations.
const UNHEARD: Finished<'static> = &|_, _| Ok(());

impl Engine {
    /// Continues every request with only the layers `kept`; the results are in the requests' order.
    ///
    /// # Errors
    /// Empty prompts, tokens outside the vocabulary, layers that the model does not have, a [`lopper_record::Fault`]
    /// for sampling settings out of range, logits that are not finite, and [`lopper_record::Interrupted`]. The same
    /// holds for all methods here.
    pub fn generate(
        &self,
        kept: &LayerSet<LayerSlot>,
        requests: &[Request],
        options: &GenerateOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Generation>> {
        self.generate_each(kept, requests, options, &|_, _| Ok(()), progress)
    }

    /// As [`Engine::generate`], and calls `finished` with each request's index and generation as soon as it ends, from
    /// the thread that made it and in whichever order they end. An error of `finished` ends the call.
    pub fn generate_each(
        &self,
        kept: &LayerSet<LayerSlot>,
        requests: &[Request],
        options: &GenerateOptions,
        finished: &(dyn Fn(usize, &Generation) -> Result<()> + Sync),
        progress: &dyn Progress,
    ) -> Result<Vec<Generation>> {
        let step = progress.step(Step::new("generating", "answers", requests.len()));
        let (kept, no_drafts) = (std::slice::from_ref(kept), vec![None; requests.len()]);
        let each: Finished<'_> = &|(_, request), generation| finished(request, generation);
        let mut made = self.decode(kept, requests, &no_drafts, options, each, (&*step, 0))?;
        Ok(made.candidates.pop().unwrap_or_default())
    }

    /// [`Engine::generate`] for each of `candidates` (the layers each keeps): the same tokens as each of them alone.
    pub fn generate_many(
        &self,
        candidates: &[LayerSet<LayerSlot>],
        requests: &[Request],
        options: &GenerateOptions,
        progress: &dyn Progress,
    ) -> Result<Generations> {
        let no_drafts = vec![None; requests.len()];
        if !options.draft_from_first || candidates.len() < 2 {
            return self.generate_drafted(candidates, requests, &no_drafts, options, progress);
        }
        let step = progress.step(Step::new("generating", "answers", candidates.len() * requests.len()));
        let mut made = self.decode(&candidates[..1], requests, &no_drafts, options, UNHEARD, (&*step, 0))?;
        let drafts: Vec<Option<Vec<u32>>> =
            made.candidates[0].iter().map(|g| (!g.tokens.is_empty()).then(|| g.tokens.clone())).collect();
        let rest = self.decode(&candidates[1..], requests, &drafts, options, UNHEARD, (&*step, requests.len()))?;
        made.candidates.extend(rest.candidates);
        made.tokens += rest.tokens;
        made.drafted += rest.drafted;
        made.accepted += rest.accepted;
        Ok(made)
    }

    /// [`Engine::generate_many`] with a draft or none for each request: a text that its greedy answers may resemble.
    pub fn generate_drafted(
        &self,
        candidates: &[LayerSet<LayerSlot>],
        requests: &[Request],
        drafts: &[Option<Vec<u32>>],
        options: &GenerateOptions,
        progress: &dyn Progress,
    ) -> Result<Generations> {
        let step = progress.step(Step::new("generating", "answers", candidates.len() * requests.len()));
        self.decode(candidates, requests, drafts, options, UNHEARD, (&*step, 0))
    }

    /// As [`Engine::generate_drafted`], as part of a step of which some answers are finished already.
    fn decode(
        &self,
        candidates: &[LayerSet<LayerSlot>],
        requests: &[Request],
        drafts: &[Option<Vec<u32>>],
        options: &GenerateOptions,
        finished: Finished<'_>,
        (progress, before): (&dyn Progress, usize),
    ) -> Result<Generations> {
        check_candidates(self, candidates)?;
        ensure!(drafts.len() == requests.len(), "one draft or none for each request");
        for request in requests {
            ensure!(
                !request.prompt.is_empty(),
                "an empty prompt cannot be continued; begin with the model's BOS token"
            );
            self.model().check_tokens(&request.prompt)?;
            request.sampling.check()?;
        }
        for budget in requests.iter().filter_map(|request| request.thinking.as_ref()) {
            ensure!(!budget.end.is_empty(), "a thought is ended by at least one token");
            self.model().check_tokens(&budget.end)?;
        }
        for draft in drafts.iter().flatten() {
            self.model().check_tokens(draft)?;
        }
        let limit = options.context_limit.unwrap_or(self.model().config.max_position_embeddings);
        let mut results: Vec<Vec<Option<Generation>>> = vec![vec![None; requests.len()]; candidates.len()];
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
            let nothing = Generation { tokens: vec![], logprobs: vec![], finish, stop_token: None, thought_cut: false };
            for (candidate, results) in results.iter_mut().enumerate() {
                finished((candidate, index), &nothing)?;
                results[index] = Some(nothing.clone());
            }
        }
        let jobs = waiting.len() * candidates.len();
        let workers = self.parallel_batches(jobs);
        // An even division, so that a short list still uses every thread.
        let capacity = options.batch.min(jobs.div_ceil(workers)).max(1);
        let prefill = |requests| PrefillBatch { candidates: (0..candidates.len()).collect(), requests };
        let context = DecodeContext {
            engine: self,
            candidates,
            requests,
            drafts,
            options,
            limit,
            finished,
            progress,
            before: before + (requests.len() - waiting.len()) * candidates.len(),
            queue: Mutex::new(same_prompt(requests, &waiting, capacity).into_iter().map(prefill).collect()),
            counts: Counts::default(),
        };
        progress.set(context.before);
        let run = |threads| Worker::new(&context, threads, capacity, workers).run();
        let made: Vec<_> = self.pool_install(|| {
            if workers > 1 {
                (0..workers).into_par_iter().with_max_len(1).map(|_| run(Threads::One)).collect::<Result<_>>()
            } else {
                run(if self.splits() { Threads::One } else { Threads::Team }).map(|list| vec![list])
            }
        })?;
        for ((candidate, index), generation) in made.into_iter().flatten() {
            results[candidate][index] = Some(generation);
        }
        let all = |list: Vec<Option<Generation>>| list.into_iter().collect::<Option<Vec<_>>>();
        let generations =
            results.into_iter().map(all).collect::<Option<_>>().context("a request was left unfinished")?;
        Ok(context.counts.into_generations(generations))
    }
}

/// The waiting requests of each prompt, in order of first appearance and in lists of at most `capacity`; those whose
/// thought is ended at once apart.
fn same_prompt(requests: &[Request], waiting: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut open: HashMap<(&[u32], bool), usize> = HashMap::new();
    let mut lists: Vec<Vec<usize>> = Vec::new();
    for &index in waiting {
        let prompt = (requests[index].prompt.as_slice(), Thinking::new(&requests[index]).is_ending());
        match open.get(&prompt) {
            Some(&at) if lists[at].len() < capacity => lists[at].push(index),
            _ => {
                open.insert(prompt, lists.len());
                lists.push(vec![index]);
            }
        }
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_prompt_form_lists_of_bounded_size() {
        let requests: Vec<Request> = [1, 2, 1, 1, 3, 2].iter().map(|t| Request::greedy(vec![*t], 4)).collect();
        assert_eq!(same_prompt(&requests, &[0, 1, 2, 3, 4, 5], 2), [vec![0, 2], vec![1, 5], vec![3], vec![4]]);
        assert_eq!(same_prompt(&requests, &[1, 2, 3], 9), [vec![1], vec![2, 3]]);
    }
}
