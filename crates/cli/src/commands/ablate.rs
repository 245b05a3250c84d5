//! `lopper ablate`: what the removal of every single layer, or block of layers, costs on each task.

use std::collections::BTreeMap;

use anyhow::Result;
use lopper_diagnose::program_outcomes;
use lopper_infer::TextModel;
use lopper_measure::Drafts;
use lopper_record::study::Programs;
use lopper_record::{Fault, Retention, Score, format_layers, kept};
use lopper_stats::{self as stats, RESAMPLES};
use lopper_tasks::TaskOutcome;
use serde::Serialize;

use super::ask::{self, CostRecord};
use crate::args::AblateArgs;
use crate::env::Env;
use crate::loaded::Loaded;
use crate::table;

/// The JSON document. Layers have their original numbers.
#[derive(Serialize)]
struct Ablation<'a> {
    model: &'a str,
    hash: &'a str,
    layers: &'a [usize],
    base: Candidate<'a>,
    removals: Vec<Candidate<'a>>,
    cost: CostRecord,
    seconds: f64,
    seed: u64,
}

#[derive(Serialize)]
struct Candidate<'a> {
    /// What is removed.
    layers: Vec<usize>,
    tasks: BTreeMap<&'a str, TaskScore<'a>>,
    /// Mean over tasks of the score divided by the uncut model's.
    mean_retention: f64,
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

pub fn run(env: &Env, args: &AblateArgs) -> Result<()> {
    let loaded = Loaded::open(env, &args.model)?;
    let numbering = loaded.numbering()?;
    let layers = loaded.config().num_hidden_layers;
    let removals = removals(&loaded, args)?;
    let text = TextModel::new(loaded.engine(env, &args.run)?, &loaded.checkpoint)?;
    let (suite, options) = ask::suite(env, &text, &args.ask)?;
    let mut candidates = vec![(0..layers).collect::<Vec<_>>()];
    candidates.extend(removals.iter().map(|removed| kept(layers, removed)));

    let begun = std::time::Instant::now();
    let progress = env.progress("ablating", "requests", candidates.len() * suite.requests());
    let drafts = Drafts::default();
    let watch = |p: lopper_tasks::EvalProgress| progress.set(p.done);
    let (outcomes, cost) =
        lopper_measure::run_many(&suite, &text, &candidates, &ask::many(&args.ask), &drafts, &watch)?;
    drop(progress);
    let seconds = begun.elapsed().as_secs_f64();

    let mut all = Vec::with_capacity(candidates.len());
    for (at, found) in outcomes.iter().enumerate() {
        let removed = if at == 0 { vec![] } else { numbering.originals(&removals[at - 1])? };
        all.push(candidate(removed, found, &outcomes[0], options.seed)?);
    }
    if args.json {
        let base = all.remove(0);
        let (hash, cost) = (loaded.checkpoint.hash(), cost.into());
        let (layers, seed) = (numbering.present(), options.seed);
        return env.printer.json(&Ablation {
            model: &loaded.name,
            hash,
            layers,
            base,
            removals: all,
            cost,
            seconds,
            seed,
        });
    }
    env.printer.note(&format!("{seconds:.1} s; {}", ask::told(&cost)));
    env.printer.result(&human(&all, suite.tasks()))
}

/// What is removed, by position: blocks of neighbours.
fn removals(loaded: &Loaded, args: &AblateArgs) -> Result<Vec<Vec<usize>>> {
    let (layers, block) = (loaded.config().num_hidden_layers, args.block.get());
    if block >= layers {
        return Err(Fault::new("the blocks are as large as the model")
            .expected(format!("--block below {layers}"))
            .got(block.to_string())
            .into());
    }
    let firsts = match &args.layers {
        None => (0..=layers - block).collect(),
        Some(spec) => loaded.numbering()?.positions(&loaded.layers(spec)?)?,
    };
    Ok(firsts
        .into_iter()
        .filter(|first| first + block <= layers)
        .map(|first| (first..first + block).collect())
        .collect())
}

fn candidate<'a>(
    layers: Vec<usize>,
    found: &'a [TaskOutcome],
    base: &[TaskOutcome],
    seed: u64,
) -> Result<Candidate<'a>> {
    let mut tasks = BTreeMap::new();
    let mut ratios = Vec::new();
    for (found, base) in found.iter().zip(base) {
        let retention = stats::retention(&base.scores(), &found.scores(), RESAMPLES, seed)?;
        if base.primary_score().value > 0.0 {
            ratios.push(found.primary_score().value / base.primary_score().value);
        }
        let (version, n, primary) = (found.version, found.n, found.primary.as_str());
        let (metrics, programs) = (&found.metrics, program_outcomes(found));
        tasks.insert(found.task.as_str(), TaskScore { version, n, primary, metrics, retention, programs });
    }
    Ok(Candidate { layers, tasks, mean_retention: stats::mean(&ratios) })
}

fn human<'a>(all: &[Candidate<'_>], tasks: impl Iterator<Item = &'a str>) -> String {
    let tasks: Vec<&str> = tasks.collect();
    let mut head = vec!["removed", "mean retention"];
    head.extend(&tasks);
    let percent = |value: f64| if value.is_nan() { "-".to_owned() } else { format!("{:.1}", 100.0 * value) };
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|candidate| {
            let removed = match candidate.layers.as_slice() {
                [] => "none".to_owned(),
                layers => format_layers(layers),
            };
            let scores = tasks.iter().map(|task| {
                let scores = candidate.tasks.get(task);
                let score = scores.and_then(|task| task.metrics.get(task.primary));
                score.map_or_else(|| "-".to_owned(), |score| percent(score.value))
            });
            [removed, percent(candidate.mean_retention)].into_iter().chain(scores).collect()
        })
        .collect();
    table::render_rows(&head, &rows)
}
