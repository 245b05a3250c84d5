//! Evaluating candidates, task by task as cells, and comparing them with the uncut model.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use lopper_infer::TextModel;
use lopper_measure::{Drafts, ManyOptions};
use lopper_pocket::Split;
use lopper_record::Store;
use lopper_record::study::{GroupResult, TaskResult};
use lopper_stats::{self as stats, Pair, RESAMPLES};
use lopper_tasks::{BenchOptions, EvalOptions, Suite, TaskOutcome};

use crate::Recipe;
use crate::identity::{EvalKey, HealKey, eval_key};
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
    options: EvalOptions,
    tasks: Vec<Task>,
    /// The first answers given, which are tried as the other candidates'.
    drafts: Drafts,
}

/// What identifies a task's cells.
struct Task {
    name: String,
    version: u32,
    rows: Option<String>,
}

impl Questions {
    /// Draws items, or reads rows.
    pub fn prepare(
        text: &TextModel,
        tasks: &StudyTasks,
        recipe: &Recipe,
        bench: &BenchOptions,
        split: Split,
    ) -> Result<Self> {
        let options = recipe.eval_options(split);
        let suite = Suite::prepare_with(text, &tasks.references, &options, bench)?;
        let tasks = (tasks.entries.iter())
            .map(|entry| {
                let rows = suite.identity(&entry.name)?;
                Ok(Task { name: entry.name.clone(), version: entry.version, rows })
            })
            .collect::<Result<_>>()?;
        Ok(Self { suite, options, tasks, drafts: Drafts::default() })
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
        let identity = (task.name.as_str(), task.version, task.rows.as_deref());
        eval_key(candidate.model, candidate.kept, candidate.healed.clone(), identity, &self.options)
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
        let progress = |p: lopper_tasks::EvalProgress| observer.work(p.done, p.total);
        let runs: Vec<Vec<usize>> = candidates.iter().map(|candidate| candidate.run.to_vec()).collect();
        let part = (names.len() < self.tasks.len()).then(|| self.suite.only(|task| names.contains(&task)));
        let suite = part.as_ref().unwrap_or(&self.suite);
        let (all, _) =
            lopper_measure::run_many(&suite, first.text, &runs, &ManyOptions::default(), &self.drafts, &progress)?;
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

/// Outcomes of one model by task.
pub type Outcomes = BTreeMap<String, TaskOutcome>;

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

/// Task and group results against the uncut model's outcomes on the same items.
pub fn compare(
    base: &Outcomes,
    cut: &Outcomes,
    groups: &[(&str, impl AsRef<[String]>)],
    seed: u64,
) -> Result<(Vec<TaskResult>, Vec<GroupResult>)> {
    let (mut tasks, mut results) = (Vec::new(), Vec::new());
    for (group, names) in groups {
        let (mut pairs, mut scores) = (Vec::new(), Vec::new());
        for name in names.as_ref() {
            let (Some(base), Some(cut)) = (base.get(name), cut.get(name)) else { continue };
            pairs.push((base.scores(), cut.scores()));
            scores.push(*cut.primary_score());
            let (base, cut) = &pairs[pairs.len() - 1];
            let retention = stats::retention(base, cut, RESAMPLES, seed)?;
            tasks.push(TaskResult { task: name.clone(), score: scores[scores.len() - 1], retention });
        }
        if pairs.is_empty() {
            continue;
        }
        let pairs: Vec<Pair<'_>> = pairs.iter().map(|(base, cut)| Pair { base, cut }).collect();
        let retention = stats::group_retention(&pairs, RESAMPLES, seed)?;
        results.push(GroupResult { group: (*group).to_owned(), score: stats::group_score(&scores), retention });
    }
    Ok((tasks, results))
}

/// Mean over the groups of the mean over their tasks of `cut / base`, without intervals: the figure
/// by which selection compares candidates. Tasks on which the uncut model scores nothing say
/// nothing and are left out.
pub fn mean_retention(base: &Outcomes, cut: &Outcomes, groups: &[(&str, impl AsRef<[String]>)]) -> f64 {
    let mut means = Vec::new();
    for (_, names) in groups {
        let ratios: Vec<f64> = names
            .as_ref()
            .iter()
            .filter_map(|name| Some((base.get(name)?.primary_score().value, cut.get(name)?.primary_score().value)))
            .filter(|(base, _)| *base > 0.0)
            .map(|(base, cut)| cut / base)
            .collect();
        if !ratios.is_empty() {
            means.push(stats::mean(&ratios));
        }
    }
    if means.is_empty() { 0.0 } else { stats::mean(&means) }
}
