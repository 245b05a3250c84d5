//! `lopper eval`: scores on tasks, at any depth, with intervals.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use lopper_eval::{EvalOptions, Group, ItemResult, Split, Suite, TaskOutcome, chance, stats};
use lopper_infer::{Finish, Sampling, TextModel};
use lopper_record::{Fault, Score, ensure_new, format_layers, write_atomic};
use serde::Serialize;

use crate::args::{EvalArgs, SplitArg};
use crate::env::Env;
use crate::loaded::Loaded;
use crate::table;

/// The JSON document.
#[derive(Serialize)]
struct Evaluation<'a> {
    tasks: BTreeMap<&'a str, TaskScores<'a>>,
    model: ModelId<'a>,
    split: Split,
    sampling: Sampling,
    seeds: Seeds,
}

#[derive(Serialize)]
struct TaskScores<'a> {
    version: u32,
    shots: usize,
    n: usize,
    group: Group,
    primary: &'a str,
    metrics: &'a BTreeMap<String, Score>,
}

/// What was evaluated; layers have their original numbers.
#[derive(Serialize)]
struct ModelId<'a> {
    name: &'a str,
    hash: &'a str,
    layers: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<&'a Path>,
}

#[derive(Serialize)]
struct Seeds {
    items: u64,
    sampling: u64,
}

/// One line of `--samples-out`.
#[derive(Serialize)]
struct SampleLine<'a> {
    task: &'a str,
    doc_id: usize,
    id: &'a str,
    prompt: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: &'a Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: &'a Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: &'a Option<String>,
    extracted: &'a Option<String>,
    target: &'a str,
    /// None where answers are graded; `metrics` has the grade.
    correct: Option<bool>,
    metrics: &'a BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish: &'a Option<Finish>,
}

pub fn run(env: &Env, args: &EvalArgs) -> Result<()> {
    if let Some(path) = &args.samples_out {
        ensure_new(path, args.force)?;
    }
    let tasks = lopper_eval::expand(&args.tasks)?;
    if args.shots != 0 {
        return Err(Fault::new("the pocket tasks take no worked examples")
            .expected("--shots 0")
            .got(format!("--shots {}", args.shots))
            .hint("leave --shots out; where a task has worked examples, they belong to it")
            .into());
    }
    let options = options(args)?;
    let loaded = Loaded::open(env, &args.model)?;
    let kept = loaded.kept(args.drop.as_deref())?;
    let mut model = loaded.model(env)?;
    if let Some(directory) = &args.adapter {
        lopper_heal::load_adapter(directory, &mut model, &kept)?;
        lopper_heal::merge(&mut model);
    }
    let text = TextModel::new(env.engine(model)?, &loaded.checkpoint)?;
    let suite = Suite::prepare(&text, &tasks, &options)?;
    let progress = env.progress("evaluating", "requests", suite.requests());
    let outcomes = suite.run(&text, &kept, &|p| progress.set(p.done))?;
    drop(progress);

    if let Some(path) = &args.samples_out {
        write_samples(path, &outcomes)?;
    }
    let layers = loaded.numbering()?.originals(&kept)?;
    if args.json {
        let tasks = outcomes.iter().map(|outcome| (outcome.task.as_str(), task_scores(outcome))).collect();
        let hash = loaded.checkpoint.hash();
        let model = ModelId { name: &loaded.name, hash, layers, adapter: args.adapter.as_deref() };
        let seeds = Seeds { items: options.seed, sampling: options.sampling_seed };
        return env.printer.json(&Evaluation { tasks, model, split: options.split, sampling: options.sampling, seeds });
    }
    env.printer.note(&format!(
        "{} with layers {}; items of the {} split, 95 % intervals",
        loaded.name,
        format_layers(&layers),
        options.split.name()
    ));
    env.printer.result(&human(&outcomes))
}

fn options(args: &EvalArgs) -> Result<EvalOptions> {
    let sampling = match args.temperature {
        None | Some(0.0) => Sampling::Greedy,
        Some(temperature) => {
            Sampling::Sample { temperature, top_k: args.top_k.map(std::num::NonZero::get), top_p: args.top_p }
        }
    };
    sampling.check()?;
    let split = match args.split {
        SplitArg::Report => Split::Report,
        SplitArg::Select => Split::Select,
    };
    let (limit, sampling_seed) = (args.limit.get(), args.sampling_seed);
    Ok(EvalOptions { split, limit, seed: args.seed, sampling, sampling_seed })
}

fn task_scores(outcome: &TaskOutcome) -> TaskScores<'_> {
    TaskScores {
        version: outcome.version,
        shots: outcome.shots,
        n: outcome.n,
        group: outcome.group,
        primary: &outcome.primary,
        metrics: &outcome.metrics,
    }
}

fn write_samples(path: &Path, outcomes: &[TaskOutcome]) -> Result<()> {
    let mut text = String::new();
    for outcome in outcomes {
        for item in &outcome.items {
            text.push_str(&serde_json::to_string(&sample_line(outcome, item))?);
            text.push('\n');
        }
    }
    write_atomic(path, text.as_bytes())
}

fn sample_line<'a>(outcome: &'a TaskOutcome, item: &'a ItemResult) -> SampleLine<'a> {
    SampleLine {
        task: &outcome.task,
        doc_id: item.doc_id,
        id: &item.id,
        prompt: &item.prompt,
        choices: &item.choices,
        logprobs: &item.logprobs,
        response: &item.response,
        extracted: &item.extracted,
        target: &item.target,
        correct: outcome.correct(item),
        metrics: &item.metrics,
        outcome: &item.outcome,
        finish: &item.finish,
    }
}

/// A row for each metric, the primary one of a task first, and the mean of each group of tasks.
fn human(outcomes: &[TaskOutcome]) -> String {
    let mut rows: Vec<[String; 7]> = Vec::new();
    for outcome in outcomes {
        let others = outcome.metrics.keys().filter(|name| **name != outcome.primary);
        for (at, name) in std::iter::once(&outcome.primary).chain(others).enumerate() {
            let Some(score) = outcome.metrics.get(name) else { continue };
            let guess = chance(&outcome.task).map_or_else(String::new, percent);
            rows.push(row(if at == 0 { &outcome.task } else { "" }, name, score, guess));
        }
    }
    for (group, name) in [(Group::Classification, "classification"), (Group::Generative, "generative")] {
        let scores: Vec<Score> =
            outcomes.iter().filter(|outcome| outcome.group == group).map(|outcome| *outcome.primary_score()).collect();
        if scores.len() > 1 {
            rows.push(row(name, &format!("mean of {}", scores.len()), &stats::group_score(&scores), String::new()));
        }
    }
    table::render(["task", "metric", "score", "stderr", "95 % interval", "n", "chance"], &rows)
}

fn row(task: &str, metric: &str, score: &Score, chance: String) -> [String; 7] {
    let interval = format!("{} to {}", percent(score.ci95[0]), percent(score.ci95[1]));
    [
        task.to_owned(),
        metric.to_owned(),
        percent(score.value),
        percent(score.stderr),
        interval,
        table::count(score.n as u64),
        chance,
    ]
}

/// A share in per cent; a dash where it is not defined. Rounding below zero shows no sign.
fn percent(value: f64) -> String {
    if value.is_nan() { "-".to_owned() } else { format!("{:.1}", (value * 100.0).max(0.0)) }
}
