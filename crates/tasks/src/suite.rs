//! From task names to outcomes: items are generated or read and turned into tokens once, then any number of candidates
//! replies to them.
//!
//! [`Suite::prepare`] makes the requests, `lopper-measure` runs them, [`Suite::grade`] turns replies into outcomes.

mod generated;
mod grading;
pub mod lm_eval;
mod refusals;
mod rows;

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use lopper_infer::{LoglikRequest, Request, StopStrings, TextModel};
use lopper_pocket::{Check, Example, Group};
use lopper_record::Result;
use serde_json::json;

use crate::benchmark::items::question_id;
use crate::policy::{GenerationPolicy, ItemSelection, Resources, TaskSettings};
use crate::registry::{PocketTask, Task, TaskEntry, resolve};
use crate::requests::{Requests, stop_strings};
use rows::Rows;

use grading::ItemReplies;
pub use grading::{GivenResponse, GivenResponses};

/// The items of several tasks and their requests in one model's tokens.
///
/// Serves every candidate that shares the tokenizer and the chat template: all cuts of a model and their healed
/// descendants.
pub struct Suite {
    selection: ItemSelection,
    policy: GenerationPolicy,
    tasks: Vec<Prepared>,
    requests: Requests,
}

/// A task with its items in tokens.
struct Prepared {
    entry: TaskEntry,
    items: Items,
    /// Where the replies to each item are found.
    slots: Vec<Vec<Slot>>,
    stop: Option<Arc<StopStrings>>,
    /// Which items it holds.
    selection: ItemSelection,
    /// The part of the suite's policy that applies to this task.
    policy: GenerationPolicy,
}

enum Items {
    Generated(PocketTask, Vec<Example>),
    Rows(Rows),
}

/// A reply's index among those of its kind.
#[derive(Clone, Copy)]
enum Slot {
    Loglikelihood(usize),
    Generation(usize),
}

impl Requests {
    fn add_choice(&mut self, request: LoglikRequest) -> Slot {
        self.choices.push(request);
        Slot::Loglikelihood(self.choices.len() - 1)
    }

    fn add_generation(&mut self, request: Request) -> Slot {
        self.generations.push(request);
        Slot::Generation(self.generations.len() - 1)
    }
}

impl Suite {
    /// Makes the requests of `tasks`: names of tasks or groups, or paths of task files.
    ///
    /// # Errors
    /// A [`Fault`](lopper_record::Fault) for an unknown task, a selection without items, rows that are not there, tasks
    /// that need a chat template where the model has none, and tasks that run what the model writes where `resources`
    /// has nothing to run it.
    pub fn prepare(
        text: &TextModel,
        tasks: &[impl AsRef<str>],
        selection: &ItemSelection,
        policy: &GenerationPolicy,
        resources: &Resources,
    ) -> Result<Self> {
        Self::prepare_each(text, tasks, (selection, policy), &BTreeMap::new(), resources)
    }

    /// As [`Suite::prepare`], with `own` settings of some tasks, by their names.
    pub fn prepare_each(
        text: &TextModel,
        tasks: &[impl AsRef<str>],
        (selection, policy): (&ItemSelection, &GenerationPolicy),
        own: &BTreeMap<String, TaskSettings>,
        resources: &Resources,
    ) -> Result<Self> {
        let tasks = resolve(tasks)?;
        policy.check()?;
        let text = &text.with_template_variables(&policy.template_variables)?;
        let settings = |task: &Task| own.get(task.name()).copied().unwrap_or_default().applied(selection, policy);
        // What is refused is refused before any row is read.
        for (_, task) in &tasks {
            refusals::check(text, task, &settings(task).1, resources)?;
        }
        let mut suite =
            Self { selection: *selection, policy: policy.clone(), tasks: vec![], requests: Requests::new(policy) };
        for (_, task) in tasks {
            let (selection, policy) = &settings(&task);
            let prepared = match &task {
                Task::Pocket(own) => generated::prepare(text, *own, selection, policy, &mut suite.requests)?,
                Task::Benchmark(spec) => rows::prepare(text, spec, selection, policy, resources, &mut suite.requests)?,
            };
            suite.tasks.push(prepared);
        }
        Ok(suite)
    }

    /// Which items it holds, of tasks without settings of their own.
    pub fn selection(&self) -> &ItemSelection {
        &self.selection
    }

    /// Which items of a task it holds.
    pub fn selection_of(&self, task: &str) -> Option<&ItemSelection> {
        self.tasks.iter().find(|prepared| prepared.name() == task).map(|prepared| &prepared.selection)
    }

    /// How answers are produced.
    pub fn policy(&self) -> &GenerationPolicy {
        &self.policy
    }

    /// The part of the policy that applies to a task.
    pub fn policy_of(&self, task: &str) -> Option<&GenerationPolicy> {
        self.tasks.iter().find(|prepared| prepared.name() == task).map(|prepared| &prepared.policy)
    }

    /// The names of the tasks, in order.
    pub fn tasks(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().map(Prepared::name)
    }

    /// The group that each task counts towards, in order.
    pub fn groups(&self) -> impl Iterator<Item = Group> {
        self.tasks.iter().map(|prepared| prepared.entry.group)
    }

    /// The score of guessing on each item of each task, in order; empty for a task that a guess scores nothing on.
    pub fn chance_levels(&self) -> impl Iterator<Item = Vec<f64>> {
        self.tasks.iter().map(Prepared::chance_levels)
    }

    /// The version of each task's definition, in order.
    pub fn versions(&self) -> impl Iterator<Item = u32> {
        self.tasks.iter().map(|prepared| prepared.entry.version)
    }

    /// Number of items of each task, in order.
    pub fn items(&self) -> impl Iterator<Item = usize> {
        self.tasks.iter().map(|prepared| prepared.slots.len())
    }

    /// What one candidate is to compute.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The identities of all items, by task.
    pub fn item_ids(&self) -> BTreeMap<&str, Vec<&str>> {
        self.tasks.iter().map(|prepared| (prepared.name(), prepared.ids())).collect()
    }

    /// The hash of a benchmark's file, rows and prompts in tokens; none for a task with generated items, which its
    /// name, version and the item selection identify.
    pub fn identity(&self, task: &str) -> Result<Option<String>> {
        let found = self.tasks.iter().find(|prepared| prepared.name() == task);
        let Some((prepared, Items::Rows(rows))) = found.map(|prepared| (prepared, &prepared.items)) else {
            return Ok(None);
        };
        let tokens = |slot: &Slot| match *slot {
            Slot::Loglikelihood(at) => {
                let LoglikRequest { context, continuations } = &self.requests.choices[at];
                json!([context, continuations])
            }
            Slot::Generation(at) => {
                let request = &self.requests.generations[at];
                json!([request.prompt, request.max_new_tokens])
            }
        };
        let tokens = prepared.slots.iter().map(|slots| slots.iter().map(tokens).collect()).collect();
        rows.identity(tokens).map(Some)
    }

    /// The tasks for which `wanted` holds, with the same items.
    pub fn only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        self.part(|task| wanted(task).then_some(0..usize::MAX))
    }

    /// The items `range` of every task, as far as a task has them.
    pub fn subset(&self, range: Range<usize>) -> Self {
        self.part(|_| Some(range.clone()))
    }

    /// The items of each task that `range` gives for its name, as far as the task has them; tasks for which it gives
    /// none are left out.
    pub fn part(&self, range: impl Fn(&str) -> Option<Range<usize>>) -> Self {
        let mut requests = Requests::new(&self.policy);
        let mut copied = |slot: &Slot| match *slot {
            Slot::Loglikelihood(at) => requests.add_choice(self.requests.choices[at].clone()),
            Slot::Generation(at) => requests.add_generation(self.requests.generations[at].clone()),
        };
        let mut tasks = Vec::new();
        for prepared in &self.tasks {
            let Some(Range { start, end }) = range(prepared.name()) else { continue };
            let range = start.min(prepared.slots.len())..end.min(prepared.slots.len());
            let slots = prepared.slots[range.clone()].iter();
            let slots = slots.map(|slots| slots.iter().map(&mut copied).collect()).collect();
            let items = match &prepared.items {
                Items::Generated(task, items) => Items::Generated(*task, items[range].to_vec()),
                Items::Rows(rows) => Items::Rows(rows.part(range)),
            };
            let Prepared { entry, stop, selection, policy, .. } = prepared;
            let (entry, stop, selection, policy) = (entry.clone(), stop.clone(), *selection, policy.clone());
            tasks.push(Prepared { entry, items, slots, stop, selection, policy });
        }
        Self { selection: self.selection, policy: self.policy.clone(), tasks, requests }
    }

    /// How many items of each task are among texts that were used before, and how many there are: tasks without any are
    /// left out. `used` holds items' identities, and [`crate::question_id`]s of texts; an item is recognised by its
    /// identity, by its question as the prompt has it, and by each text that its identity is made of.
    pub fn items_among(&self, used: &HashSet<String>) -> Vec<(&str, usize, usize)> {
        let has = |text: &str| used.contains(&question_id([text]));
        let mut found = Vec::new();
        for prepared in &self.tasks {
            let count = match &prepared.items {
                Items::Generated(_, items) => {
                    items.iter().filter(|item| used.contains(&item.id) || has(item.prompt.text())).count()
                }
                Items::Rows(rows) => {
                    let texts = |row: &rows::PreparedRow| row.identifying_texts(&rows.spec).any(has);
                    rows.items.iter().filter(|row| used.contains(&row.item.id) || texts(row)).count()
                }
            };
            if count > 0 {
                found.push((prepared.name(), count, prepared.slots.len()));
            }
        }
        found
    }

    /// The texts that give each item away, with the name of its task: its question as the prompt has it, and each text
    /// that its identity is made of.
    pub fn evaluated_texts(&self) -> Vec<(&str, Vec<&str>)> {
        let mut found = Vec::new();
        for prepared in &self.tasks {
            found.extend(prepared.texts().into_iter().map(|texts| (prepared.name(), texts)));
        }
        found
    }
}

/// How many choices an item offers; 0 where it offers none.
fn choices(item: &Example) -> usize {
    match &item.check {
        Check::Choice { choices, .. } => choices.len(),
        _ => 0,
    }
}

impl Prepared {
    fn name(&self) -> &str {
        &self.entry.name
    }

    fn chance_levels(&self) -> Vec<f64> {
        let Some(of_task) = self.entry.chance else { return vec![] };
        let of = |choices: usize| if choices == 0 { of_task } else { 1.0 / choices as f64 };
        match &self.items {
            Items::Generated(_, items) => items.iter().map(|item| of(choices(item))).collect(),
            Items::Rows(rows) => rows.items.iter().map(|row| of(row.item.choices.len())).collect(),
        }
    }

    fn texts(&self) -> Vec<Vec<&str>> {
        match &self.items {
            Items::Generated(_, items) => items.iter().map(|item| vec![item.prompt.text()]).collect(),
            Items::Rows(rows) => rows.items.iter().map(|row| row.identifying_texts(&rows.spec).collect()).collect(),
        }
    }

    fn ids(&self) -> Vec<&str> {
        match &self.items {
            Items::Generated(_, items) => items.iter().map(|item| item.id.as_str()).collect(),
            Items::Rows(rows) => rows.items.iter().map(|row| row.item.id.as_str()).collect(),
        }
    }
}
