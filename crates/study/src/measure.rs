//! Evaluating one model, task by task as cells, and comparing it with the uncut model.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use lopper_eval::stats::{self, Pair, RESAMPLES};
use lopper_eval::{EvalOptions, Suite, TaskOutcome};
use lopper_infer::TextModel;
use lopper_record::Store;
use lopper_record::study::{GroupResult, TaskResult};

use crate::identity::{HealKey, eval_key};
use crate::observer::StudyObserver;

/// A model to evaluate: which weights, which layers.
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

/// Suites of tasks, prepared once and asked of every candidate.
#[derive(Default)]
pub struct Suites(Mutex<Vec<Prepared>>);

/// A suite and what it was prepared for.
type Prepared = (Vec<String>, EvalOptions, Arc<Suite>);

impl Suites {
    fn get(&self, text: &TextModel, tasks: &[String], options: &EvalOptions) -> Result<Arc<Suite>> {
        let mut suites = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, suite)) = suites.iter().find(|(t, o, _)| t == tasks && o == options) {
            return Ok(suite.clone());
        }
        let suite = Arc::new(Suite::prepare(text, tasks, options)?);
        suites.push((tasks.to_vec(), *options, suite.clone()));
        Ok(suite)
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

/// Whether every task's cell is there; whether it can be read shows when it is asked for.
pub fn finished(store: &Store, candidate: &Candidate<'_>, tasks: &[String], options: &EvalOptions) -> Result<bool> {
    for task in tasks {
        let key = eval_key(candidate.model, candidate.kept, candidate.healed.clone(), task, options);
        if !store.path("eval", &key, "json")?.exists() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is missing of `tasks` is evaluated together, so that the engine's batches are full, and
/// recorded task by task.
pub fn outcomes(
    store: &Store,
    suites: &Suites,
    candidate: &Candidate<'_>,
    tasks: &[String],
    options: &EvalOptions,
    observer: &dyn StudyObserver,
) -> Result<Measured> {
    let key = |task: &'_ str| -> Result<serde_json::Value> {
        let key = eval_key(candidate.model, candidate.kept, candidate.healed.clone(), task, options);
        Ok(serde_json::to_value(key)?)
    };
    let (mut found, mut missing, mut wall) = (Outcomes::new(), Vec::new(), 0.0);
    for task in tasks {
        match store.get::<Timed>("eval", &key(task)?)? {
            Some(cell) => {
                wall += cell.seconds;
                found.insert(task.clone(), cell.outcome);
            }
            None => missing.push(task.clone()),
        }
    }
    let cached = missing.is_empty();
    if !cached {
        let began = std::time::Instant::now();
        let progress = |p: lopper_eval::EvalProgress| observer.work(p.done, p.total);
        let suite = suites.get(candidate.text, &missing, options)?;
        let computed = suite.run(candidate.text, candidate.run, &progress)?;
        let seconds = began.elapsed().as_secs_f64() / missing.len() as f64;
        for outcome in computed {
            let cell = Timed { seconds, outcome };
            store.put("eval", &key(&cell.outcome.task)?, &cell, seconds)?;
            wall += seconds;
            found.insert(cell.outcome.task.clone(), cell.outcome);
        }
    }
    Ok(Measured { outcomes: found, seconds: wall, cached })
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
    groups: &[(&str, &[String])],
    seed: u64,
) -> Result<(Vec<TaskResult>, Vec<GroupResult>)> {
    let (mut tasks, mut results) = (Vec::new(), Vec::new());
    for (group, names) in groups {
        let (mut pairs, mut scores) = (Vec::new(), Vec::new());
        for name in *names {
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
pub fn mean_retention(base: &Outcomes, cut: &Outcomes, groups: &[(&str, &[String])]) -> f64 {
    let mut means = Vec::new();
    for (_, names) in groups {
        let ratios: Vec<f64> = names
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
