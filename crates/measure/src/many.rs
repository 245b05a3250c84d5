//! Asking many candidates at once: what a suite costs once for a model costs little more for all its
//! cuts.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use anyhow::Result;
use lopper_infer::{GenerateOptions, Generation, LoopStop, Progress, Request, Sampling, TextModel, Work};

use lopper_tasks::TaskOutcome;
use lopper_tasks::{EvalProgress, Suite};

/// How many candidates are asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ManyOptions {
    /// When an answer that repeats itself is stopped; none: never.
    pub loops: Option<LoopStop>,
    /// Whether the first candidate's answers are drafts for the others'.
    pub drafts: bool,
    /// Sequences that decode together.
    pub batch: usize,
}

impl Default for ManyOptions {
    fn default() -> Self {
        Self { loops: Some(LoopStop::default()), drafts: true, batch: 128 }
    }
}

/// Answers that were given before, by prompt: drafts for later candidates.
#[derive(Debug, Default)]
pub struct Drafts(Mutex<HashMap<Vec<u32>, Vec<u32>>>);

impl Drafts {
    fn known(&self) -> MutexGuard<'_, HashMap<Vec<u32>, Vec<u32>>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A draft or none for each request; nothing where a request has never been answered.
    fn of(&self, requests: &[Request]) -> Option<Vec<Option<Vec<u32>>>> {
        let known = self.known();
        let draft = |request: &Request| known.get(&request.prompt).map(|draft| Some(draft.clone()));
        requests.iter().map(draft).collect()
    }

    fn keep(&self, requests: &[Request], answers: &[Generation]) {
        let mut known = self.known();
        for (request, answer) in requests.iter().zip(answers).filter(|(r, _)| r.sampling == Sampling::Greedy) {
            known.entry(request.prompt.clone()).or_insert_with(|| answer.tokens.clone());
        }
    }
}

/// What it took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Rows that went through layers and head for multiple choice.
    pub work: Work,
    /// Tokens that were generated.
    pub tokens: usize,
    /// Draft tokens that were checked.
    pub drafted: usize,
    /// Draft tokens that were right.
    pub accepted: usize,
}

impl Cost {
    /// Adds what another call took.
    pub fn add(&mut self, other: &Self) {
        self.work.layer_rows += other.work.layer_rows;
        self.work.head_rows += other.work.head_rows;
        self.work.apart_rows += other.work.apart_rows;
        self.tokens += other.tokens;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
    }
}

/// As [`Suite::run`] for each of `candidates`, lists of kept layers, all at once. `drafts` keeps
/// the first candidate's answers for later calls.
pub fn run_many(
    suite: &Suite,
    text: &TextModel,
    candidates: &[Vec<usize>],
    options: &ManyOptions,
    drafts: &Drafts,
    observer: &(dyn Fn(EvalProgress) + Sync),
) -> Result<(Vec<Vec<TaskOutcome>>, Cost)> {
    let (asked, generated) = (suite.loglik_requests(), suite.generation_requests());
    let total = candidates.len() * suite.requests();
    observer(EvalProgress { done: 0, total });
    let told = |p: Progress| observer(EvalProgress { done: p.done, total });
    let (choices, work) = match asked.is_empty() {
        true => (vec![vec![]; candidates.len()], Work::default()),
        false => text.engine.loglikelihood_many(candidates, asked, &told)?,
    };
    let before = candidates.len() * asked.len();
    let generate = GenerateOptions {
        batch: options.batch,
        loops: options.loops,
        sibling_drafts: options.drafts,
        ..GenerateOptions::default()
    };
    let told = |p: Progress| observer(EvalProgress { done: before + p.done, total });
    let before = drafts.of(generated).filter(|_| options.drafts);
    let made = match (generated.is_empty(), before) {
        (true, _) => lopper_infer::Generations { candidates: vec![vec![]; candidates.len()], ..Default::default() },
        (_, Some(before)) => text.engine.generate_drafted(candidates, generated, &before, &generate, &told)?,
        (_, None) => text.engine.generate_many(candidates, generated, &generate, &told)?,
    };
    if let Some(first) = made.candidates.first() {
        drafts.keep(generated, first);
    }
    let graded = choices.iter().zip(&made.candidates).map(|(c, g)| suite.grade(text, c, g)).collect::<Result<_>>()?;
    let cost = Cost { work, tokens: made.tokens, drafted: made.drafted, accepted: made.accepted };
    Ok((graded, cost))
}
