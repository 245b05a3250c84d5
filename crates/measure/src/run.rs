//! Running requests: the only place that calls the engine for tasks and probes, so that loop stops, drafts and batches
//! are the same for all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use lopper_infer::{Engine, GenerateOptions, Generation, Generations, Request, Sampling, TextModel, Work};
use lopper_record::{LayerSet, LayerSlot, Progress, Result, Step};
use lopper_tasks::{Pace, Replies, Requests, Suite, TaskOutcome};

/// How requests are run; none of it changes a reply. Clones share the drafts.
#[derive(Debug, Clone)]
pub struct Execution {
    /// Sequences that decode together, on each of the threads where those work apart.
    pub batch: usize,
    /// Answers that are tried as drafts for other candidates'; none: every candidate decodes token by token.
    pub drafts: Option<Drafts>,
}

impl Default for Execution {
    fn default() -> Self {
        Self { batch: 128, drafts: Some(Drafts::default()) }
    }
}

/// The first greedy answer to each prompt. Answers of models that differ by a few layers mostly begin alike, so one
/// model's answer is a good draft for another's; only tokens that the other would have generated itself are kept.
#[derive(Debug, Clone, Default)]
pub struct Drafts(Arc<Mutex<HashMap<Vec<u32>, Vec<u32>>>>);

impl Drafts {
    fn known(&self) -> MutexGuard<'_, HashMap<Vec<u32>, Vec<u32>>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A draft for each request; nothing where a request has never been answered.
    fn of(&self, requests: &[Request]) -> Option<Vec<Option<Vec<u32>>>> {
        let known = self.known();
        requests.iter().map(|request| known.get(&request.prompt).map(|draft| Some(draft.clone()))).collect()
    }

    fn keep(&self, requests: &[Request], answers: &[Generation]) {
        let mut known = self.known();
        for (request, answer) in requests.iter().zip(answers).filter(|(r, _)| r.sampling == Sampling::Greedy) {
            known.entry(request.prompt.clone()).or_insert_with(|| answer.tokens.clone());
        }
    }
}

/// The work of one or several calls.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Tokens that went through layers and head for log-likelihoods.
    pub work: Work,
    /// Tokens that were generated.
    pub tokens: usize,
    /// Draft tokens that were checked.
    pub drafted: usize,
    /// Draft tokens that were right.
    pub accepted: usize,
}

impl Cost {
    /// Adds the work of another call.
    pub fn add(&mut self, other: &Self) {
        self.add_work(other.work);
        self.tokens += other.tokens;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
    }

    fn add_work(&mut self, other: Work) {
        self.work.layer_tokens += other.layer_tokens;
        self.work.head_tokens += other.head_tokens;
        self.work.unshared_layer_tokens += other.unshared_layer_tokens;
    }
}

/// What candidates scored, and the work it took.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// `outcomes[candidate][task]`.
    pub outcomes: Vec<Vec<TaskOutcome>>,
    /// The work of all candidates together.
    pub cost: Cost,
}

impl Evaluation {
    /// The outcomes of the first candidate, by task.
    pub fn into_first(mut self) -> Vec<TaskOutcome> {
        if self.outcomes.is_empty() { vec![] } else { self.outcomes.swap_remove(0) }
    }
}

/// Evaluates every candidate, a set of layers to run, on the tasks of `suite`. `text` must have the tokenizer and the
/// chat template that the suite was prepared with.
///
/// # Errors
/// A [`Fault`](lopper_record::Fault) where the model's output is not finite;
/// [`Interrupted`](lopper_record::Interrupted).
pub fn evaluate(
    text: &TextModel,
    suite: &Suite,
    candidates: &[LayerSet<LayerSlot>],
    execution: &Execution,
    progress: &dyn Progress,
) -> Result<Evaluation> {
    let (replies, cost) = run_requests(&text.engine, suite.requests(), candidates, execution, progress)?;
    let outcomes = replies.iter().map(|replies| suite.grade(text, replies)).collect::<Result<_>>()?;
    Ok(Evaluation { outcomes, cost })
}

/// Runs requests, of tasks or of probes, over every candidate; the replies of each, in order, and the work of all.
///
/// # Errors
/// Those of the engine; [`Interrupted`](lopper_record::Interrupted).
pub fn run_requests(
    engine: &Engine,
    requests: &Requests,
    candidates: &[LayerSet<LayerSlot>],
    execution: &Execution,
    progress: &dyn Progress,
) -> Result<(Vec<Replies>, Cost)> {
    let step = progress.step(Step::new("evaluating", "requests", candidates.len() * requests.len()));
    let run = Run { engine, candidates, step: &*step };
    let mut cost = Cost::default();
    let begun = Instant::now();
    let choices = run.choices(requests, &mut cost)?;
    let scored = begun.elapsed();
    let generations = run.generations(requests, execution, &mut cost)?;
    let generated = begun.elapsed() - scored;
    let sequences = run.sequences(requests, &mut cost)?;

    let of_choice = |request: &lopper_infer::LoglikRequest| {
        request.context.len() + request.continuations.iter().map(Vec::len).sum::<usize>()
    };
    let read = candidates.len() * requests.choices.iter().map(of_choice).sum::<usize>();
    let prompts = candidates.len() * requests.generations.iter().map(|request| request.prompt.len()).sum::<usize>();
    let made: usize = generations.iter().flatten().map(|generation| generation.tokens.len()).sum();
    let pace = Pace {
        choices: scored.as_secs_f64() / read.max(1) as f64,
        generations: generated.as_secs_f64() / (made + prompts).max(1) as f64,
    };
    let replies = choices.into_iter().zip(generations).zip(sequences);
    let replies =
        replies.map(|((choices, generations), sequences)| Replies { choices, generations, sequences, pace }).collect();
    Ok((replies, cost))
}

/// A step whose units count as those of a larger one, after the first `before` of it.
struct Part<'a> {
    whole: &'a dyn Progress,
    before: usize,
}

impl Progress for Part<'_> {
    fn step(&self, _: Step<'_>) -> Box<dyn Progress + '_> {
        Box::new(Self { ..*self })
    }

    fn set(&self, done: usize) {
        self.whole.set(self.before + done);
    }

    fn check(&self) -> Result<()> {
        self.whole.check()
    }
}

struct Run<'a> {
    engine: &'a Engine,
    candidates: &'a [LayerSet<LayerSlot>],
    step: &'a dyn Progress,
}

impl Run<'_> {
    /// The progress of a call that begins when `before` requests of each candidate are answered.
    fn watch(&self, before: usize) -> Part<'_> {
        Part { whole: self.step, before: before * self.candidates.len() }
    }

    fn nothing<T>(&self) -> Vec<Vec<T>> {
        self.candidates.iter().map(|_| vec![]).collect()
    }

    fn choices(&self, requests: &Requests, cost: &mut Cost) -> Result<Vec<Vec<Vec<lopper_infer::Loglik>>>> {
        if requests.choices.is_empty() {
            return Ok(self.nothing());
        }
        let (replies, work) = self.engine.loglikelihood_many(self.candidates, &requests.choices, &self.watch(0))?;
        cost.add_work(work);
        Ok(replies)
    }

    fn generations(&self, requests: &Requests, execution: &Execution, cost: &mut Cost) -> Result<Vec<Vec<Generation>>> {
        let generations = requests.generations.as_slice();
        if generations.is_empty() {
            return Ok(self.nothing());
        }
        let options = GenerateOptions {
            batch: execution.batch,
            loops: requests.loop_stop,
            draft_from_first: execution.drafts.is_some(),
            ..GenerateOptions::default()
        };
        let watch = self.watch(requests.choices.len());
        let (engine, candidates) = (self.engine, self.candidates);
        let made: Generations = match execution.drafts.as_ref().and_then(|drafts| drafts.of(generations)) {
            Some(drafts) => engine.generate_drafted(candidates, generations, &drafts, &options, &watch)?,
            None => engine.generate_many(candidates, generations, &options, &watch)?,
        };
        if let (Some(first), Some(drafts)) = (made.candidates.first(), &execution.drafts) {
            drafts.keep(generations, first);
        }
        cost.tokens += made.tokens;
        cost.drafted += made.drafted;
        cost.accepted += made.accepted;
        Ok(made.candidates)
    }

    fn sequences(&self, requests: &Requests, cost: &mut Cost) -> Result<Vec<Vec<Vec<Option<f32>>>>> {
        if requests.sequences.is_empty() {
            return Ok(self.nothing());
        }
        let watch = self.watch(requests.choices.len() + requests.generations.len());
        let (replies, work) = self.engine.token_logprobs_many(self.candidates, &requests.sequences, &watch)?;
        cost.add_work(work);
        Ok(replies)
    }
}
