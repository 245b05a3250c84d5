//! Evaluating candidates, task by task as cells, and comparing them with the uncut model.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use lopper_infer::TextModel;
use lopper_measure::{Execution, Outcomes, evaluate};
use lopper_pocket::Split;
use lopper_record::{LayerSet, NoProgress, Progress, Step, Store};
use lopper_tasks::{GenerationPolicy, Resources, Suite, TaskOutcome};

use crate::Recipe;
use crate::identity::{EvalKey, HealKey, REVISION};
use crate::observer::StudyObserver;
use crate::tasks::StudyTasks;

/// A model to evaluate: which weights, which layers.
#[derive(Clone)]
pub struct Candidate<'a> {
    pub text: &'a TextModel,
    /// Hash of the uncut model.
    pub model: &'a str,
    /// Original indices of the layers that stay.
    pub kept: &'a [usize],
    /// Layers to run of `text`'s model: `kept`, unless its weights are already a cut's.
    pub run: &'a [usize],
    pub healed: Option<HealKey<'a>>,
}

/// The study's tasks on one division's items, asked of every candidate.
pub struct Questions {
    suite: Suite,
    tasks: Vec<Task>,
    execution: Execution,
}

/// What identifies a task's cells.
struct Task {
    name: String,
    version: u32,
    rows: Option<String>,
    policy: GenerationPolicy,
}

impl Questions {
    /// Draws items, or reads rows.
    pub fn prepare(
        text: &TextModel,
        tasks: &StudyTasks,
        recipe: &Recipe,
        resources: &Resources,
        split: Split,
    ) -> Result<Self> {
        let (selection, policy) = (recipe.item_selection(split), recipe.generation_policy());
        let suite = Suite::prepare(text, &tasks.references, &selection, &policy, resources)?;
        let tasks = (tasks.entries.iter())
            .map(|entry| {
                let (rows, name) = (suite.identity(&entry.name)?, entry.name.clone());
                let policy = suite.policy_of(&name).cloned().unwrap_or_default();
                Ok(Task { name, version: entry.version, rows, policy })
            })
            .collect::<Result<_>>()?;
        Ok(Self { suite, tasks, execution: Execution::default() })
    }

    /// The identities of all items, by task.
    pub fn item_ids(&self) -> BTreeMap<&str, Vec<&str>> {
        self.suite.item_ids()
    }

    /// How many items of each task are among texts that were used before; see [`Suite::items_among`].
    pub fn items_among(&self, used: &HashSet<String>) -> Vec<(&str, usize, usize)> {
        self.suite.items_among(used)
    }

    fn key<'a>(&'a self, candidate: &Candidate<'a>, task: &'a Task) -> EvalKey<'a> {
        EvalKey {
            revision: REVISION,
            model: candidate.model,
            kept: candidate.kept,
            healed: candidate.healed.clone(),
            task: &task.name,
            version: task.version,
            rows: task.rows.as_deref(),
            items: *self.suite.selection(),
            policy: &task.policy,
        }
    }

    /// The tasks whose cells are not there; whether a cell can be read shows when it is asked for.
    pub fn missing(&self, store: &Store, candidate: &Candidate<'_>) -> Result<Vec<&str>> {
        let mut missing = Vec::new();
        for task in &self.tasks {
            if !store.path("eval", &self.key(candidate, task), "json")?.exists() {
                missing.push(task.name.as_str());
            }
        }
        Ok(missing)
    }

    /// Outcomes of one candidate. What is missing is evaluated now, the tasks together.
    pub fn outcomes(&self, store: &Store, candidate: &Candidate<'_>, observer: &dyn StudyObserver) -> Result<Measured> {
        let (mut found, mut missing, mut wall) = (Outcomes::new(), Vec::new(), 0.0);
        for task in &self.tasks {
            match store.get::<Timed>("eval", &self.key(candidate, task))? {
                Some(cell) => {
                    wall += cell.seconds;
                    found.insert(task.name.clone(), cell.outcome);
                }
                None => missing.push(task.name.as_str()),
            }
        }
        let cached = missing.is_empty();
        if !cached {
            let computed = self.evaluate(store, std::slice::from_ref(candidate), &missing, observer)?;
            for (outcome, seconds) in computed.into_iter().flatten() {
                wall += seconds;
                found.insert(outcome.task.clone(), outcome);
            }
        }
        Ok(Measured { outcomes: found, seconds: wall, cached })
    }

    /// Evaluates candidates of one model together on some of the tasks, and records them.
    pub fn measure(
        &self,
        store: &Store,
        candidates: &[Candidate<'_>],
        tasks: &[&str],
        observer: &dyn StudyObserver,
    ) -> Result<()> {
        self.evaluate(store, candidates, tasks, observer).map(drop)
    }

    fn evaluate(
        &self,
        store: &Store,
        candidates: &[Candidate<'_>],
        names: &[&str],
        observer: &dyn StudyObserver,
    ) -> Result<Vec<Vec<(TaskOutcome, f64)>>> {
        let Some(first) = candidates.first() else { return Ok(vec![]) };
        let began = std::time::Instant::now();
        let runs: Vec<_> = candidates.iter().map(|candidate| LayerSet::from(candidate.run.to_vec())).collect();
        let part = (names.len() < self.tasks.len()).then(|| self.suite.only(|task| names.contains(&task)));
        let suite = part.as_ref().unwrap_or(&self.suite);
        let all = evaluate(first.text, suite, &runs, &self.execution, &Work(observer))?.outcomes;
        let seconds = began.elapsed().as_secs_f64() / (candidates.len() * names.len()) as f64;
        let mut computed = Vec::with_capacity(all.len());
        for (candidate, outcomes) in candidates.iter().zip(all) {
            let mut of_candidate = Vec::with_capacity(outcomes.len());
            for outcome in outcomes {
                let cell = Timed { seconds, outcome };
                if let Some(task) = self.tasks.iter().find(|task| task.name == cell.outcome.task) {
                    store.put("eval", &self.key(candidate, task), &cell, seconds)?;
                }
                of_candidate.push((cell.outcome, seconds));
            }
            computed.push(of_candidate);
        }
        Ok(computed)
    }
}

/// Outcomes of one model, and what they cost.
pub struct Measured {
    pub outcomes: Outcomes,
    /// Wall time when they were computed.
    pub seconds: f64,
    /// Whether all were found finished.
    pub cached: bool,
}

/// An outcome with the share of the evaluation's wall time that its task took.
#[derive(serde::Serialize, serde::Deserialize)]
struct Timed {
    seconds: f64,
    outcome: TaskOutcome,
}

/// Passes the work inside a cell on to the study's observer.
struct Work<'a>(&'a dyn StudyObserver);

impl Progress for Work<'_> {
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_> {
        Box::new(WorkStep(self.0, step.total))
    }
}

struct WorkStep<'a>(&'a dyn StudyObserver, usize);

impl Progress for WorkStep<'_> {
    fn step(&self, _: Step<'_>) -> Box<dyn Progress + '_> {
        Box::new(NoProgress)
    }

    fn set(&self, done: usize) {
        self.0.work(done, self.1);
    }
}
