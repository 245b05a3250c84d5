//! The tasks of a study on the items of one split; evaluations are cells, one for each model and task.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use lopper_infer::TextModel;
use lopper_measure::{Execution, Outcomes, evaluate, pooled};
use lopper_pocket::Split;
use lopper_record::{Claim, LayerPosition, LayerSet, LayerSlot, Progress, Result, Store};
use lopper_tasks::{GenerationPolicy, ItemSelection, Resources, Suite, TaskOutcome, Timing};
use serde::{Deserialize, Serialize};

use crate::Recipe;
use crate::identity::{EvalKey, HealKey, REVISION};
use crate::tasks::{Member, StudyTasks};

/// A model to evaluate: which weights, which layers.
pub struct Candidate<'a> {
    pub text: &'a TextModel,
    /// Hash of the uncut model.
    pub model: &'a str,
    /// The layers of the uncut model that stay.
    pub kept: &'a LayerSet<LayerPosition>,
    /// The layers to run of `text`'s model: those of `kept`, unless its weights are already a cut's.
    pub run: LayerSet<LayerSlot>,
    pub healed: Option<HealKey<'a>>,
}

/// The study's tasks on one split's items.
pub struct EvalSplit {
    pub suite: Suite,
    /// What is evaluated: the study's tasks, with the members of pooled ones in their stead.
    tasks: Vec<TaskIdentity>,
    pub execution: Execution,
}

/// What identifies a task's cells, besides the model.
#[derive(Serialize)]
pub struct TaskIdentity {
    pub name: String,
    version: u32,
    rows: Option<String>,
    items: ItemSelection,
    policy: GenerationPolicy,
    /// The study's task that it counts as.
    pub counts_as: String,
}

impl EvalSplit {
    /// Generates items, or reads rows, and turns them into tokens.
    pub fn prepare(
        text: &TextModel,
        tasks: &StudyTasks,
        recipe: &Recipe,
        resources: &Resources,
        split: Split,
    ) -> Result<Self> {
        let (selection, policy) = (recipe.item_selection(split), recipe.generation_policy());
        let own = recipe.task_settings(tasks, split);
        let suite = Suite::prepare_each(text, &tasks.references, (&selection, &policy), &own, resources)?;
        let tasks = (tasks.members.iter())
            .map(|Member { entry, counts_as, .. }| {
                let (rows, name) = (suite.identity(&entry.name)?, entry.name.clone());
                let policy = suite.policy_of(&name).cloned().unwrap_or_default();
                let items = suite.selection_of(&name).copied().unwrap_or(selection);
                Ok(TaskIdentity { name, version: entry.version, rows, items, policy, counts_as: counts_as.clone() })
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

    fn key<'a>(&'a self, candidate: &Candidate<'a>, task: &'a TaskIdentity) -> EvalKey<'a> {
        EvalKey {
            revision: REVISION,
            model: candidate.model,
            kept: candidate.kept,
            healed: candidate.healed.clone(),
            task: &task.name,
            version: task.version,
            rows_hash: task.rows.as_deref(),
            items: task.items,
            policy: &task.policy,
        }
    }

    /// What is evaluated for the study's task `name`: itself, or its members.
    pub fn members<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a TaskIdentity> {
        self.tasks.iter().filter(move |task| task.counts_as == name)
    }

    /// How many items the study's task `name` has, over all of its members.
    pub fn items_of(&self, name: &str) -> usize {
        let is_member = |task: &str| self.tasks.iter().any(|own| own.name == task && own.counts_as == name);
        self.suite.tasks().zip(self.suite.items()).filter(|(task, _)| is_member(task)).map(|(_, items)| items).sum()
    }

    /// The outcomes of the study's tasks `names` from cells; none where one is missing.
    pub fn finished(&self, store: &Store, candidate: &Candidate<'_>, names: &[String]) -> Result<Option<Outcomes>> {
        let mut outcomes = Outcomes::new();
        for task in self.tasks.iter().filter(|task| names.contains(&task.counts_as)) {
            let Some(cell) = store.get::<EvalCell>("eval", &self.key(candidate, task))? else { return Ok(None) };
            outcomes.insert(task.name.clone(), cell.outcome);
        }
        self.pooled(outcomes).map(Some)
    }

    /// The outcomes of what was evaluated as those of the study's tasks.
    fn pooled(&self, mut outcomes: Outcomes) -> Result<Outcomes> {
        let mut all = Outcomes::new();
        for task in &self.tasks {
            if task.counts_as == task.name {
                outcomes
                    .remove(&task.name)
                    .into_iter()
                    .for_each(|outcome| drop(all.insert(task.name.clone(), outcome)));
            } else if !all.contains_key(&task.counts_as) {
                let members = self.members(&task.counts_as).filter_map(|member| outcomes.remove(&member.name));
                let members: Vec<TaskOutcome> = members.collect();
                if !members.is_empty() {
                    all.insert(task.counts_as.clone(), pooled(&task.counts_as, members)?);
                }
            }
        }
        Ok(all)
    }

    /// The tasks without a cell; whether a cell can be read shows when it is used.
    pub fn missing(&self, store: &Store, candidate: &Candidate<'_>) -> Result<Vec<&str>> {
        let mut missing = Vec::new();
        for task in &self.tasks {
            if !store.path("eval", &self.key(candidate, task), "json")?.exists() {
                missing.push(task.name.as_str());
            }
        }
        Ok(missing)
    }

    /// Claims a candidate's evaluation for this process; none where another process does it.
    pub fn claim(&self, store: &Store, candidate: &Candidate<'_>) -> Result<Option<Claim>> {
        // One claim serves all tasks: they are evaluated together.
        let Some(first) = self.tasks.first() else { return Ok(None) };
        store.claim("eval", &self.key(candidate, first))
    }

    /// Outcomes of one candidate. What is missing is evaluated now, the tasks together, or waited for where another
    /// process does it.
    pub fn outcomes(&self, store: &Store, candidate: &Candidate<'_>, progress: &dyn Progress) -> Result<CellOutcomes> {
        let mut claim = None;
        while claim.is_none() && !self.missing(store, candidate)?.is_empty() {
            claim = self.claim(store, candidate)?;
            if claim.is_none() {
                Store::wait(progress)?;
            }
        }
        let (mut outcomes, mut missing, mut seconds) = (Outcomes::new(), Vec::new(), 0.0);
        for task in &self.tasks {
            match store.get::<EvalCell>("eval", &self.key(candidate, task))? {
                Some(cell) => {
                    seconds += cell.seconds;
                    outcomes.insert(task.name.clone(), cell.outcome());
                }
                None => missing.push(task.name.as_str()),
            }
        }
        let cached = missing.is_empty();
        if !cached {
            let computed = self.evaluate(store, std::slice::from_ref(candidate), &missing, progress)?;
            for cell in computed.into_iter().flatten() {
                seconds += cell.seconds;
                outcomes.insert(cell.outcome.task.clone(), cell.outcome());
            }
        }
        Ok(CellOutcomes { outcomes: self.pooled(outcomes)?, seconds, cached })
    }

    /// Evaluates candidates of one model together on some of the tasks, and records them.
    pub fn evaluate(
        &self,
        store: &Store,
        candidates: &[Candidate<'_>],
        names: &[&str],
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<EvalCell>>> {
        let Some(first) = candidates.first() else { return Ok(vec![]) };
        let began = Instant::now();
        let runs: Vec<_> = candidates.iter().map(|candidate| candidate.run.clone()).collect();
        let part = (names.len() < self.tasks.len()).then(|| self.suite.only(|task| names.contains(&task)));
        let suite = part.as_ref().unwrap_or(&self.suite);
        let all = evaluate(first.text, suite, &runs, &self.execution, progress)?.outcomes;
        let seconds = began.elapsed().as_secs_f64() / (candidates.len() * names.len()) as f64;
        let mut computed = Vec::with_capacity(all.len());
        for (candidate, outcomes) in candidates.iter().zip(all) {
            let cells: Vec<_> = outcomes.into_iter().map(|outcome| EvalCell::new(seconds, outcome)).collect();
            for cell in &cells {
                if let Some(task) = self.tasks.iter().find(|task| task.name == cell.outcome.task) {
                    store.put("eval", &self.key(candidate, task), cell, seconds)?;
                }
            }
            computed.push(cells);
        }
        Ok(computed)
    }
}

/// An outcome with its part of the evaluation's wall time.
#[derive(Serialize, Deserialize)]
pub struct EvalCell {
    seconds: f64,
    outcome: TaskOutcome,
    /// Tokens read and generated for each item, which an outcome does not record.
    tokens: Vec<(usize, usize)>,
}

impl EvalCell {
    fn new(seconds: f64, outcome: TaskOutcome) -> Self {
        let tokens = outcome.timings.iter().map(|timing| (timing.read_tokens, timing.new_tokens)).collect();
        Self { seconds, outcome, tokens }
    }

    /// The outcome with its items' tokens; their times are not kept.
    fn outcome(self) -> TaskOutcome {
        let timing = |(read_tokens, new_tokens)| Timing { read_tokens, new_tokens, seconds: 0.0 };
        TaskOutcome { timings: self.tokens.into_iter().map(timing).collect(), ..self.outcome }
    }
}

/// Outcomes of one model, from cells.
pub struct CellOutcomes {
    pub outcomes: Outcomes,
    /// Wall time of computing them.
    pub seconds: f64,
    /// Whether all cells were there.
    pub cached: bool,
}
