//! From task names to outcomes: items are drawn, or read, and turned into tokens once, then asked of
//! any number of candidates.

mod generated;
pub mod lm_eval;
mod rows;

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::time::Instant;

use anyhow::{Result, ensure};
use lopper_infer::{GenerateOptions, Generation, Loglik, LoglikRequest, Progress, Request, Sampling, TextModel};
use lopper_pocket::{Example, Group, Split};
use lopper_record::{Fault, Score};
use serde::{Deserialize, Serialize};

use crate::benchmark::BenchOptions;
use crate::benchmark::items::{Item, question_id};
use crate::benchmark::spec::Spec;
use crate::outcome::{ItemResult, TaskOutcome, Timing};
use crate::registry::{Task, resolve};
use generated::GeneratedTask;
use lopper_stats as stats;
use rows::{AskedItem, RowTask};

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

/// The requests of all tasks, as they are collected.
#[derive(Default)]
struct Requests {
    choices: Vec<LoglikRequest>,
    generations: Vec<Request>,
}

/// What the engine gave back for [`Requests`].
struct Replies<'a> {
    choices: &'a [Vec<Loglik>],
    generations: &'a [Generation],
    given: Option<&'a GivenResponses>,
}

/// Responses that were generated elsewhere, by task and row.
pub type GivenResponses = BTreeMap<(String, usize), Vec<String>>;

/// A task with its items in tokens.
enum Prepared {
    Generated(GeneratedTask),
    Rows(RowTask),
}

/// The items of several tasks and their requests in one model's tokens.
///
/// Serves every candidate that shares the tokenizer and the chat template: all depths of a model and
/// its healed descendants.
pub struct Suite {
    options: EvalOptions,
    tasks: Vec<Prepared>,
    requests: Requests,
}

/// What a call of the engine took: seconds for each token of it.
#[derive(Clone, Copy, Default)]
struct Pace {
    choices: f64,
    generations: f64,
}

impl Suite {
    /// Draws the items of `tasks` (names of tasks or groups, or paths of tasks' files) and turns them
    /// into tokens. Rows come from the data root that the environment names.
    ///
    /// # Errors
    /// A [`Fault`] for an unknown task, for a split without items, and for tasks that are asked in
    /// conversation where the model has no chat template.
    pub fn prepare(text: &TextModel, tasks: &[impl AsRef<str>], options: &EvalOptions) -> Result<Self> {
        Self::prepare_with(text, tasks, options, &BenchOptions::default())
    }

    /// As [`Suite::prepare`], with what tasks over rows may be told besides.
    ///
    /// # Errors
    /// Also for rows that are not there, and for tasks that run what the model wrote where that has not
    /// been allowed.
    pub fn prepare_with(
        text: &TextModel,
        tasks: &[impl AsRef<str>],
        options: &EvalOptions,
        bench: &BenchOptions,
    ) -> Result<Self> {
        let tasks = resolve(tasks)?;
        options.sampling.check()?;
        // What is refused is refused before any row is read.
        for (_, task) in &tasks {
            refuse(text, task, bench)?;
        }
        let mut suite = Self { options: *options, tasks: vec![], requests: Requests::default() };
        for (_, task) in tasks {
            let prepared = match task {
                Task::Pocket(task) => {
                    Prepared::Generated(GeneratedTask::prepare(text, task, options, &mut suite.requests)?)
                }
                Task::Bench(spec) => Prepared::Rows(RowTask::prepare(text, spec, options, bench, &mut suite.requests)?),
            };
            suite.tasks.push(prepared);
        }
        Ok(suite)
    }

    /// The names of the tasks, in order.
    pub fn tasks(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().map(Prepared::name)
    }

    /// The group that each task counts towards, in order.
    pub fn groups(&self) -> impl Iterator<Item = Group> {
        self.tasks.iter().map(|task| match task {
            Prepared::Generated(task) => task.group(),
            Prepared::Rows(task) => task.spec.group,
        })
    }

    /// Number of items of each task, in order.
    pub fn items(&self) -> impl Iterator<Item = usize> {
        self.tasks.iter().map(|task| task.slots().count())
    }

    /// The suite of those tasks that `wanted` names, with the same items.
    pub fn only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        self.part(wanted, |items| 0..items)
    }

    /// What a task asks of a model and compares with: the hash of its file, its rows and their tokens. None for a
    /// generated task, whose name, version and seed say it.
    pub fn identity(&self, task: &str) -> Result<Option<String>> {
        self.tasks
            .iter()
            .find_map(|found| match found {
                Prepared::Rows(rows) if rows.name() == task => Some(rows.identity(&self.requests)),
                _ => None,
            })
            .transpose()
    }

    /// The items `range` of every task alone, as far as a task has them.
    pub fn subset(&self, range: Range<usize>) -> Self {
        self.part(|_| true, |items| range.start.min(items)..range.end.min(items))
    }

    fn part(&self, wanted: impl Fn(&str) -> bool, range: impl Fn(usize) -> Range<usize>) -> Self {
        let mut suite = Self { options: self.options, tasks: vec![], requests: Requests::default() };
        let Requests { choices, generations } = &mut suite.requests;
        let mut moved = |slots: &mut Vec<Slot>| {
            for slot in slots {
                *slot = match *slot {
                    Slot::Loglikelihood(at) => {
                        choices.push(self.requests.choices[at].clone());
                        Slot::Loglikelihood(choices.len() - 1)
                    }
                    Slot::Generation(at) => {
                        generations.push(self.requests.generations[at].clone());
                        Slot::Generation(generations.len() - 1)
                    }
                };
            }
        };
        for task in self.tasks.iter().filter(|task| wanted(task.name())) {
            suite.tasks.push(match task {
                Prepared::Generated(task) => {
                    let mut part = task.clone();
                    part.items = task.items[range(task.items.len())].to_vec();
                    part.items.iter_mut().for_each(|(_, slots)| moved(slots));
                    Prepared::Generated(part)
                }
                Prepared::Rows(task) => {
                    let mut part = task.clone();
                    part.items = task.items[range(task.items.len())].to_vec();
                    part.items.iter_mut().for_each(|(_, asked)| moved(&mut asked.slots));
                    Prepared::Rows(part)
                }
            });
        }
        suite
    }

    /// Number of requests that one candidate answers.
    pub fn requests(&self) -> usize {
        self.requests.choices.len() + self.requests.generations.len()
    }

    /// The identities of all items, by task.
    pub fn item_ids(&self) -> BTreeMap<&str, Vec<&str>> {
        self.tasks.iter().map(|task| (task.name(), task.ids())).collect()
    }

    /// How many items of each task are among texts that were used before, and how many there are: tasks without any are
    /// left out. `used` holds items' identities, and [`crate::question_id`]s of texts; an item is known by its identity,
    /// by its question as it is asked, and by each text that its identity is made of.
    pub fn items_among(&self, used: &HashSet<String>) -> Vec<(&str, usize, usize)> {
        let has = |text: &str| used.contains(&question_id([text]));
        let mut found = Vec::new();
        for task in &self.tasks {
            let (count, all) = match task {
                Prepared::Generated(task) => {
                    let shared = |(item, _): &&(Example, Vec<Slot>)| used.contains(&item.id) || has(item.prompt.text());
                    (task.items.iter().filter(shared).count(), task.items.len())
                }
                Prepared::Rows(task) => {
                    let texts = |item: &Item| {
                        let columns = task.spec.rows.identity.iter().filter_map(|name| item.doc.get(name)?.as_str());
                        columns.chain(item.prompts.iter().map(|prompt| prompt.question.content.as_str())).any(has)
                    };
                    let shared = |(item, _): &&(Item, AskedItem)| used.contains(&item.id) || texts(item);
                    (task.items.iter().filter(shared).count(), task.items.len())
                }
            };
            if count > 0 {
                found.push((task.name(), count, all));
            }
        }
        found
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
        let begun = Instant::now();
        let choices = match self.requests.choices.is_empty() {
            true => vec![],
            false => engine.loglikelihood(kept, &self.requests.choices, &|p: Progress| {
                observer(EvalProgress { done: p.done, total });
            })?,
        };
        let scored = begun.elapsed();
        let before = choices.len();
        let generations = match self.requests.generations.is_empty() {
            true => vec![],
            false => {
                engine.generate(kept, &self.requests.generations, &GenerateOptions::default(), &|p: Progress| {
                    observer(EvalProgress { done: before + p.done, total });
                })?
            }
        };
        let generated = begun.elapsed() - scored;
        let read: usize = self.requests.choices.iter().map(tokens_of).sum();
        let made: usize = generations.iter().map(|generation| generation.tokens.len()).sum();
        let prompts: usize = self.requests.generations.iter().map(|request| request.prompt.len()).sum();
        let pace = Pace {
            choices: scored.as_secs_f64() / read.max(1) as f64,
            generations: generated.as_secs_f64() / (made + prompts).max(1) as f64,
        };
        self.grade_at(text, &choices, &generations, pace)
    }

    /// The multiple-choice requests of all tasks: what [`lopper_infer::Engine::loglikelihood`] takes.
    pub fn loglik_requests(&self) -> &[LoglikRequest] {
        &self.requests.choices
    }

    /// The generations of all tasks: what [`lopper_infer::Engine::generate`] takes.
    pub fn generation_requests(&self) -> &[Request] {
        &self.requests.generations
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
        self.grade_at(text, choices, generations, Pace::default())
    }

    fn grade_at(
        &self,
        text: &TextModel,
        choices: &[Vec<Loglik>],
        generations: &[Generation],
        pace: Pace,
    ) -> Result<Vec<TaskOutcome>> {
        ensure!(
            choices.len() == self.requests.choices.len() && generations.len() == self.requests.generations.len(),
            "the engine left requests unanswered"
        );
        if choices.iter().flatten().any(|choice| !choice.sum.is_finite()) {
            return Err(Fault::new("a log-likelihood is not finite")
                .expected("finite weights")
                .got("infinity or not-a-number in a forward pass")
                .hint("the checkpoint is damaged, or its training diverged")
                .into());
        }
        self.outcomes(text, &Replies { choices, generations, given: None }, pace)
    }

    /// Grades responses that were generated elsewhere instead of the engine's.
    ///
    /// # Errors
    /// A [`Fault`] for a task that is not answered by text, and for an item without a response.
    pub fn grade_given(&self, text: &TextModel, given: &GivenResponses) -> Result<Vec<TaskOutcome>> {
        self.outcomes(text, &Replies { choices: &[], generations: &[], given: Some(given) }, Pace::default())
    }

    fn outcomes(&self, text: &TextModel, replies: &Replies<'_>, pace: Pace) -> Result<Vec<TaskOutcome>> {
        self.tasks
            .iter()
            .map(|task| {
                let mut outcome = match task {
                    Prepared::Generated(task) if replies.given.is_some() => return Err(not_text(task.name())),
                    Prepared::Rows(task) if replies.given.is_some() && !task.is_generated() => {
                        return Err(not_text(task.name()));
                    }
                    Prepared::Generated(task) => task.outcome(text, replies, self.options.seed)?,
                    Prepared::Rows(task) => task.outcome(text, replies, self.options.seed)?,
                };
                if replies.given.is_none() {
                    outcome.timings = task.slots().map(|slots| self.timing(slots, replies.generations, pace)).collect();
                }
                Ok(outcome)
            })
            .collect()
    }

    fn timing(&self, slots: &[Slot], generations: &[Generation], pace: Pace) -> Timing {
        let mut timing = Timing::default();
        for slot in slots {
            match *slot {
                Slot::Loglikelihood(at) => {
                    let tokens = tokens_of(&self.requests.choices[at]);
                    timing.read_tokens += tokens;
                    timing.seconds += tokens as f64 * pace.choices;
                }
                Slot::Generation(at) => {
                    let (read, made) = (self.requests.generations[at].prompt.len(), generations[at].tokens.len());
                    timing.read_tokens += read;
                    timing.new_tokens += made;
                    timing.seconds += (read + made) as f64 * pace.generations;
                }
            }
        }
        timing
    }
}

fn not_text(task: &str) -> anyhow::Error {
    Fault::new(format!("{task} is not answered by text over rows, so given responses say nothing of it"))
        .expected("tasks over rows whose answers are generated")
        .got(task)
        .hint("leave it out of --tasks")
        .into()
}

/// A request's place in the engine's call of its kind.
#[derive(Clone, Copy)]
enum Slot {
    Loglikelihood(usize),
    Generation(usize),
}

fn tokens_of(request: &LoglikRequest) -> usize {
    request.context.len() + request.continuations.iter().map(Vec::len).sum::<usize>()
}

impl Prepared {
    fn name(&self) -> &str {
        match self {
            Self::Generated(task) => task.name(),
            Self::Rows(task) => task.name(),
        }
    }

    fn ids(&self) -> Vec<&str> {
        match self {
            Self::Generated(task) => task.items.iter().map(|(item, _)| item.id.as_str()).collect(),
            Self::Rows(task) => task.items.iter().map(|(item, _)| item.id.as_str()).collect(),
        }
    }

    fn slots(&self) -> Box<dyn Iterator<Item = &[Slot]> + '_> {
        match self {
            Self::Generated(task) => Box::new(task.items.iter().map(|(_, slots)| slots.as_slice())),
            Self::Rows(task) => Box::new(task.items.iter().map(|(_, asked)| asked.slots.as_slice())),
        }
    }
}

/// Refuses what cannot be asked of this model, or has not been allowed.
fn refuse(text: &TextModel, task: &Task, bench: &BenchOptions) -> Result<()> {
    match task {
        Task::Pocket(task) if bench.shots.is_some_and(|shots| shots > 0) => {
            Err(Fault::new("the pocket tasks take no worked examples")
                .expected("--shots 0")
                .got(format!("--shots {} for {}", bench.shots.unwrap_or_default(), task.info.name))
                .hint("leave --shots out; where a task has worked examples, they belong to it")
                .into())
        }
        Task::Pocket(task) if bench.repeats > 1 => Err(Fault::new("the pocket tasks are answered once")
            .expected("one response to each item")
            .got(format!("{} for {}", bench.repeats, task.info.name))
            .hint("leave --responses out")
            .into()),
        Task::Bench(spec) if spec.runs_code() && bench.code.is_none() => {
            Err(Fault::new(format!("{} runs programs that the model writes", spec.name))
                .expected("your permission")
                .got("none")
                .hint("--allow-code-execution permits it; docs/reference/sandbox.md says what protects this machine")
                .into())
        }
        Task::Bench(spec) if text.chat.is_none() && (bench.chat || spec.prompt.conversation) => {
            Err(Fault::new(format!("{} is asked in conversation, and the model has no chat template", spec.name))
                .expected("chat_template.jinja, or `chat_template` in tokenizer_config.json")
                .hint("base models have none; take the instruction-tuned model, or tasks in plain text")
                .into())
        }
        Task::Bench(spec) => match lacking(spec, bench)? {
            Some(package) => Err(Fault::new(format!("the tests of {} import {package}", spec.name))
                .expected(format!("a Python that has {package}"))
                .got("none, or one that programs cannot read")
                .hint(format!("install {package} for that Python, or name another with --python PATH"))
                .into()),
            None => Ok(()),
        },
        Task::Pocket(_) => Ok(()),
    }
}

/// A package that a task's tests import and that programs lack: every verdict would be wrong.
fn lacking(spec: &Spec, bench: &BenchOptions) -> Result<Option<String>> {
    match (&spec.answer, &bench.code) {
        (Some(answer), Some(runner)) => Ok(runner.lacks(&answer.needs)?.map(str::to_owned)),
        _ => Ok(None),
    }
}

/// The scores of the metrics that any item has.
fn scores(items: &[ItemResult], seed: u64) -> BTreeMap<String, Score> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, value) in items.iter().flat_map(|item| &item.metrics) {
        values.entry(name).or_default().push(*value);
    }
    values.into_iter().map(|(name, values)| (name.to_owned(), stats::score(&values, seed))).collect()
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
