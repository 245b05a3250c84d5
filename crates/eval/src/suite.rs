//! From task names to outcomes: items are drawn and turned into tokens once, then asked of any
//! number of candidates.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, ensure};
use lopper_infer::{GenerateOptions, Generation, Loglik, Progress, Request, Sampling, StopStrings, TextModel};
use lopper_pocket::{Example, Split};
use lopper_record::{Fault, Score};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::outcome::{ItemResult, TaskOutcome};
use crate::registry::{Task, resolve};
use crate::request::{Ask, Reply, engine_request, stop_strings};
use crate::stats;

/// Which items are asked, and how answers are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EvalOptions {
    /// The division that items come from. `Train` never ends, so it needs a limit.
    pub split: Split,
    /// Most items of each task: the first of its order.
    pub limit: usize,
    /// Seed of the items and their order, and of bootstrap intervals.
    pub seed: u64,
    /// How tokens are chosen; greedy is the usual choice.
    pub sampling: Sampling,
    /// Seed of the draws, where tokens are drawn.
    pub sampling_seed: u64,
}

/// How far an evaluation has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EvalProgress {
    /// Requests answered.
    pub done: usize,
    /// Requests in all.
    pub total: usize,
}

/// A request's place in the engine's call of its kind.
#[derive(Clone, Copy)]
enum Slot {
    Loglikelihood(usize),
    Generation(usize),
}

#[derive(Clone)]
struct Prepared {
    task: Task,
    stop: Option<Arc<StopStrings>>,
    items: Vec<(Example, Vec<Slot>)>,
}

/// The items of several tasks and their requests in one model's tokens.
///
/// Serves every candidate that shares the tokenizer and the chat template: all depths of a model and
/// its healed descendants.
pub struct Suite {
    options: EvalOptions,
    tasks: Vec<Prepared>,
    choices: Vec<lopper_infer::LoglikRequest>,
    generations: Vec<Request>,
}

impl Suite {
    /// Draws the items of `tasks` (names of tasks or groups) and turns them into tokens.
    ///
    /// # Errors
    /// A [`Fault`] for an unknown task, for a split without items, and for tasks that are asked in
    /// conversation where the model has no chat template.
    pub fn prepare(text: &TextModel, tasks: &[impl AsRef<str>], options: &EvalOptions) -> Result<Self> {
        let tasks = resolve(tasks)?;
        options.sampling.check()?;
        let mut suite = Self { options: *options, tasks: vec![], choices: vec![], generations: vec![] };
        for task in tasks {
            suite.add(text, task)?;
        }
        Ok(suite)
    }

    fn add(&mut self, text: &TextModel, task: Task) -> Result<()> {
        let EvalOptions { split, limit, seed, sampling, sampling_seed } = self.options;
        let stop = stop_strings(text, task.info);
        let drawn: Vec<Example> = lopper_pocket::examples(task.info.name, split, seed).take(limit).collect();
        // Tokenising is most of the work: the arithmetic probe alone takes twelve texts for each item.
        let asked: Vec<Vec<Ask>> =
            drawn.par_iter().map(|item| task.family.asks(text, item, task.info)).collect::<Result<_>>()?;
        let mut items = Vec::with_capacity(drawn.len());
        for (item, asks) in drawn.into_iter().zip(asked) {
            let mut slots = Vec::with_capacity(asks.len());
            for ask in asks {
                slots.push(match ask {
                    Ask::Loglikelihood(request) => {
                        self.choices.push(request);
                        Slot::Loglikelihood(self.choices.len() - 1)
                    }
                    Ask::Generate { prompt, max_new_tokens } => {
                        let ask = (prompt.as_slice(), max_new_tokens);
                        let request = engine_request(text, ask, &item, stop.as_ref(), sampling, sampling_seed)?;
                        self.generations.push(request);
                        Slot::Generation(self.generations.len() - 1)
                    }
                });
            }
            items.push((item, slots));
        }
        if items.is_empty() {
            return Err(Fault::new(format!("there are no items of {} to ask", task.info.name))
                .expected("at least one item")
                .got(format!("a limit of {limit}"))
                .hint("raise the limit")
                .into());
        }
        self.tasks.push(Prepared { task, stop, items });
        Ok(())
    }

    /// The names of the tasks, in order.
    pub fn tasks(&self) -> impl Iterator<Item = &'static str> {
        self.tasks.iter().map(|prepared| prepared.task.info.name)
    }

    /// Number of items of each task, in order.
    pub fn items(&self) -> impl Iterator<Item = usize> {
        self.tasks.iter().map(|prepared| prepared.items.len())
    }

    /// Number of requests that one candidate answers.
    pub fn requests(&self) -> usize {
        self.choices.len() + self.generations.len()
    }

    /// Asks everything of `text`'s model with only the layers in `kept`; an outcome for each task, in
    /// order. `text` must have the tokenizer and chat template that the suite was prepared with.
    ///
    /// # Errors
    /// A [`Fault`] where the model's output is not finite.
    pub fn run(
        &self,
        text: &TextModel,
        kept: &[usize],
        observer: &(dyn Fn(EvalProgress) + Sync),
    ) -> Result<Vec<TaskOutcome>> {
        let total = self.requests();
        observer(EvalProgress { done: 0, total });
        let engine = &text.engine;
        let choices = match self.choices.is_empty() {
            true => vec![],
            false => engine
                .loglikelihood(kept, &self.choices, &|p: Progress| observer(EvalProgress { done: p.done, total }))?,
        };
        let before = choices.len();
        let generations = match self.generations.is_empty() {
            true => vec![],
            false => engine.generate(kept, &self.generations, &GenerateOptions::default(), &|p: Progress| {
                observer(EvalProgress { done: before + p.done, total })
            })?,
        };
        self.grade(text, &choices, &generations)
    }

    /// The suite of some of each task's items: those that `range` gives for their number.
    pub(crate) fn with_items(&self, range: impl Fn(usize) -> Range<usize>) -> Self {
        let mut suite = Self { options: self.options, tasks: vec![], choices: vec![], generations: vec![] };
        for prepared in &self.tasks {
            let mut items = prepared.items[range(prepared.items.len())].to_vec();
            for slot in items.iter_mut().flat_map(|(_, slots)| slots) {
                *slot = match *slot {
                    Slot::Loglikelihood(at) => {
                        suite.choices.push(self.choices[at].clone());
                        Slot::Loglikelihood(suite.choices.len() - 1)
                    }
                    Slot::Generation(at) => {
                        suite.generations.push(self.generations[at].clone());
                        Slot::Generation(suite.generations.len() - 1)
                    }
                };
            }
            suite.tasks.push(Prepared { items, ..prepared.clone() });
        }
        suite
    }

    /// The multiple-choice requests of all tasks: what [`lopper_infer::Engine::loglikelihood`] takes.
    pub fn loglik_requests(&self) -> &[lopper_infer::LoglikRequest] {
        &self.choices
    }

    /// The generations of all tasks: what [`lopper_infer::Engine::generate`] takes.
    pub fn generation_requests(&self) -> &[Request] {
        &self.generations
    }

    /// Grades what the engine returned for [`Suite::loglik_requests`] and
    /// [`Suite::generation_requests`]; an outcome for each task, in order.
    ///
    /// # Errors
    /// A [`Fault`] where the model's output is not finite.
    pub fn grade(
        &self,
        text: &TextModel,
        choices: &[Vec<Loglik>],
        generations: &[Generation],
    ) -> Result<Vec<TaskOutcome>> {
        ensure!(
            choices.len() == self.choices.len() && generations.len() == self.generations.len(),
            "the engine left requests unanswered"
        );
        if choices.iter().flatten().any(|choice| !choice.sum.is_finite()) {
            return Err(Fault::new("a log-likelihood is not finite")
                .expected("finite weights")
                .got("infinity or not-a-number in a forward pass")
                .hint("the checkpoint is damaged, or its training diverged")
                .into());
        }

        let reply = |prepared: &Prepared, slot: &Slot| -> Result<Reply> {
            Ok(match *slot {
                Slot::Loglikelihood(at) => Reply::Loglikelihood(choices[at].iter().map(|choice| choice.sum).collect()),
                Slot::Generation(at) => {
                    let generation = &generations[at];
                    let mut response = text.decode(&generation.tokens)?;
                    if let Some(end) = prepared.stop.as_ref().and_then(|stop| stop.find(&response)) {
                        response.truncate(end);
                    }
                    Reply::Generated { text: response, finish: generation.finish }
                }
            })
        };
        let grade = |prepared: &Prepared, doc_id: usize| -> Result<ItemResult> {
            let (item, slots) = &prepared.items[doc_id];
            let replies = slots.iter().map(|slot| reply(prepared, slot)).collect::<Result<Vec<_>>>()?;
            prepared.grade(doc_id, item, &replies)
        };
        self.tasks
            .iter()
            .map(|prepared| {
                // Generated programs are run here, which takes long enough to share out.
                let items =
                    (0..prepared.items.len()).into_par_iter().map(|at| grade(prepared, at)).collect::<Result<_>>()?;
                Ok(prepared.outcome(items, self.options.seed))
            })
            .collect()
    }
}

impl Prepared {
    fn grade(&self, doc_id: usize, item: &Example, replies: &[Reply]) -> Result<ItemResult> {
        let grade = self.task.family.grade(item, replies)?;
        let names = self.task.family.metrics();
        ensure!(grade.values.len() == names.len(), "{} has a value for each of its metrics", self.task.info.name);
        Ok(ItemResult {
            doc_id,
            id: item.id.clone(),
            score: grade.values[0],
            metrics: names.iter().map(|name| (*name).to_owned()).zip(grade.values).collect(),
            prompt: item.prompt.text().to_owned(),
            choices: grade.choices,
            response: grade.response,
            extracted: grade.extracted,
            target: grade.target,
            logprobs: grade.logprobs,
            outcome: grade.outcome,
            finish: grade.finish,
        })
    }

    fn outcome(&self, items: Vec<ItemResult>, seed: u64) -> TaskOutcome {
        let names = self.task.family.metrics();
        let metrics: BTreeMap<String, Score> = names
            .iter()
            .map(|name| {
                let values: Vec<f64> = items.iter().filter_map(|item| item.metrics.get(*name).copied()).collect();
                ((*name).to_owned(), stats::score(&values, seed))
            })
            .collect();
        TaskOutcome {
            task: self.task.info.name.to_owned(),
            group: self.task.info.group,
            version: self.task.version,
            shots: 0,
            n: items.len(),
            metrics,
            primary: names[0].to_owned(),
            items,
        }
    }
}

/// Evaluates one candidate: [`Suite::prepare`], then [`Suite::run`]. Where several candidates answer
/// the same items, prepare once.
pub fn evaluate(
    text: &TextModel,
    kept: &[usize],
    tasks: &[String],
    options: &EvalOptions,
    observer: &(dyn Fn(EvalProgress) + Sync),
) -> Result<Vec<TaskOutcome>> {
    Suite::prepare(text, tasks, options)?.run(text, kept, observer)
}
