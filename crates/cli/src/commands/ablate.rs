//! `lopper ablate`: what the removal of every single layer, or block of layers, costs on each task.

use std::collections::BTreeMap;
use std::path::Path;

use lopper_diagnose::program_outcomes;
use lopper_infer::TextModel;
use lopper_measure::{RemovalEffect, RemovalTest, compare_removals, evaluate, group_mean_retention, retention};
use lopper_record::study::Programs;
use lopper_record::{Context as _, Fault, LayerPosition, LayerSet, Result, Retention, Score};
use lopper_tasks::{GenerationPolicy, ItemSelection, TaskOutcome};
use serde::Serialize;

use super::eval::{interval, p_value, percent};
use super::task_selection::{self, CostRecord};
use crate::args::AblateArgs;
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::table;

/// The JSON document. Layers have their original numbers.
#[derive(Serialize)]
struct Ablation<'a> {
    model: &'a str,
    hash: &'a str,
    /// The adapter that it had.
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<&'a Path>,
    layers: &'a LayerSet,
    base: Candidate<'a>,
    removals: Vec<Candidate<'a>>,
    /// How removals are compared with none.
    test: RemovalTest,
    items: &'a ItemSelection,
    policy: &'a GenerationPolicy,
    cost: CostRecord,
    seconds: f64,
    seed: u64,
}

#[derive(Serialize)]
struct Candidate<'a> {
    /// What is removed.
    layers: LayerSet,
    tasks: BTreeMap<&'a str, TaskScore<'a>>,
    /// The objective that removals are compared by: the mean over groups of tasks of their mean retention.
    group_mean_retention: Option<f64>,
    /// Its interval, and the test against removing nothing; absent for the uncut model.
    #[serde(skip_serializing_if = "Option::is_none")]
    group_mean_retention_ci95: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p_corrected: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    differs: Option<bool>,
}

#[derive(Serialize)]
struct TaskScore<'a> {
    version: u32,
    n: usize,
    primary: &'a str,
    metrics: &'a BTreeMap<String, Score>,
    /// Score divided by the uncut model's on the same items.
    retention: Option<Retention>,
    /// How the programs that it wrote ended, where it runs any.
    #[serde(skip_serializing_if = "Option::is_none")]
    programs: Option<Programs>,
}

pub fn run(context: &Context, args: &AblateArgs) -> Result<()> {
    let opened = OpenModel::open(context, &args.model)?;
    let numbering = opened.numbering()?;
    let layers = opened.config().num_hidden_layers;
    let removals = removals(&opened, args)?;
    let adapter = args.adapter.as_deref();
    let engine = opened.engine_with_adapter(context, &args.run, adapter, &LayerSet::all(layers))?;
    let text = TextModel::new(engine, &opened.checkpoint)?;
    let suite = task_selection::suite(context, &text, &args.selection)?;
    let mut candidates = vec![LayerSet::all(layers)];
    candidates.extend(removals.iter().map(|removed| removed.complement(layers).slots()));

    let begun = std::time::Instant::now();
    let evaluation =
        evaluate(&text, &suite, &candidates, &task_selection::execution(&args.selection), &context.progress)?;
    let (seconds, outcomes) = (begun.elapsed().as_secs_f64(), &evaluation.outcomes);

    let seed = suite.selection().seed;
    let (base, cuts) = outcomes.split_first().context("the uncut model was evaluated")?;
    let (test, effects) = compare_removals(base, cuts)?;
    let mut all = vec![candidate(LayerSet::default(), base, base, None)?];
    for ((removed, found), effect) in removals.iter().zip(cuts).zip(&effects) {
        all.push(candidate(numbering.originals(removed)?, found, base, Some(effect))?);
    }
    if args.json {
        let base = all.remove(0);
        return context.printer.json(&Ablation {
            model: &opened.name,
            hash: opened.checkpoint.hash(),
            adapter,
            layers: numbering.present(),
            base,
            removals: all,
            test,
            items: suite.selection(),
            policy: suite.policy(),
            cost: evaluation.cost.into(),
            seconds,
            seed,
        });
    }
    context.printer.note(&format!("{seconds:.1} s; {}", task_selection::summary(&evaluation.cost)));
    context.printer.result(&format!("{}\n\n{}", human(&all, suite.tasks()), test.sentences()))
}

/// What is removed, by position: blocks of neighbours.
fn removals(opened: &OpenModel, args: &AblateArgs) -> Result<Vec<LayerSet<LayerPosition>>> {
    let (layers, block) = (opened.config().num_hidden_layers, args.block.get());
    if block >= layers {
        return Err(Fault::new("the blocks are as large as the model")
            .expected(format!("--block below {layers}"))
            .got(block.to_string())
            .into());
    }
    let firsts = match &args.layers {
        None => LayerSet::<LayerPosition>::all(layers - block + 1),
        Some(spec) => opened.numbering()?.positions(&opened.layers(spec)?)?,
    };
    Ok(firsts.indices().filter(|first| first + block <= layers).map(|first| (first..first + block).collect()).collect())
}

fn candidate<'a>(
    layers: LayerSet,
    found: &'a [TaskOutcome],
    base: &'a [TaskOutcome],
    effect: Option<&RemovalEffect>,
) -> Result<Candidate<'a>> {
    let pairs: Vec<_> = base.iter().zip(found).collect();
    let mut retentions: BTreeMap<String, Option<Retention>> =
        retention(&pairs)?.0.into_iter().map(|result| (result.task, result.retention)).collect();
    let mut scores = |found: &'a TaskOutcome| TaskScore {
        version: found.version,
        n: found.n,
        primary: &found.primary,
        metrics: &found.metrics,
        retention: retentions.remove(&found.task).flatten(),
        programs: program_outcomes(found),
    };
    let tasks = found.iter().map(|found| (found.task.as_str(), scores(found))).collect();
    Ok(Candidate {
        layers,
        tasks,
        group_mean_retention: group_mean_retention(pairs),
        group_mean_retention_ci95: effect.and_then(|effect| effect.group_mean_retention_ci95),
        p_value: effect.map(|effect| effect.p_value),
        p_corrected: effect.map(|effect| effect.p_corrected),
        differs: effect.map(|effect| effect.differs),
    })
}

fn human<'a>(all: &[Candidate<'_>], tasks: impl Iterator<Item = &'a str>) -> String {
    let tasks: Vec<&str> = tasks.collect();
    let mut head = vec!["removed", "group mean retention", "95 % interval", "p", "differs"];
    head.extend(&tasks);
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|candidate| {
            let removed = if candidate.layers.is_empty() { "none".to_owned() } else { candidate.layers.to_string() };
            let scores = tasks.iter().map(|task| {
                let scores = candidate.tasks.get(task);
                let score = scores.and_then(|task| task.metrics.get(task.primary));
                score.map_or_else(|| "-".to_owned(), |score| percent(score.value))
            });
            let kept = percent(candidate.group_mean_retention.unwrap_or(f64::NAN));
            let bounds = candidate.group_mean_retention_ci95.map(interval);
            let p = candidate.p_corrected.map(p_value);
            let differs =
                candidate.differs.map(|differs| direction(differs, candidate.group_mean_retention).to_owned());
            let test = [bounds, p, differs].map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
            [removed, kept].into_iter().chain(test).chain(scores).collect()
        })
        .collect();
    table::render_rows(&head, &rows)
}

/// Whether a removal that differs from none is worse or better.
fn direction(differs: bool, group_mean_retention: Option<f64>) -> &'static str {
    match group_mean_retention {
        Some(kept) if differs && kept < 1.0 => "worse",
        Some(_) if differs => "better",
        _ => "no",
    }
}
