//! `lopper search`: which layers to remove, by evaluating candidates on tasks.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use lopper_eval::diagnostics::sentinel::{Floor, SentinelOptions, Sentinels};
use lopper_infer::TextModel;
use lopper_prune::search::{Problem, Racing, State, Strategy, search};
use lopper_prune::{Choice, Plan};
use lopper_record::study::SentinelReading;
use lopper_record::{Fault, format_layers, write_atomic};
use lopper_study::search::SuiteEvaluator;
use serde::{Deserialize, Serialize};

use super::ask;
use crate::args::{SearchArgs, StrategyArg};
use crate::env::Env;
use crate::loaded::Loaded;
use crate::table;

/// The record in the output directory.
const RECORD: &str = "search.json";
/// The plan that comes of it.
const PLAN: &str = "cut.json";

/// A search as it is recorded. Layers are positions in the model that was searched; `layers` are
/// their original numbers.
#[derive(Serialize, Deserialize)]
struct Record {
    /// What decides the answer.
    spec: Spec,
    /// Original numbers of the model's layers.
    layers: Vec<usize>,
    state: State,
    /// What the sentinels read of the uncut model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uncut: Option<SentinelReading>,
    /// What they read of the winner of each round.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    readings: Vec<SentinelReading>,
    /// Why the search ended before its last round, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
    /// Original numbers of the layers to remove, once the search is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removed: Option<Vec<usize>>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Spec {
    model: String,
    hash: String,
    problem: Problem,
    strategy: Strategy,
    tasks: Vec<(String, u32)>,
    options: serde_json::Value,
    loop_stop: bool,
    dtype: String,
    version: String,
}

pub fn run(env: &Env, args: &SearchArgs) -> Result<()> {
    let loaded = Loaded::open(env, &args.model)?;
    let numbering = loaded.numbering()?;
    let problem = Problem::new(loaded.config().num_hidden_layers, args.remove)?;
    let text = TextModel::new(loaded.engine(env, &args.run)?, &loaded.checkpoint)?;
    let (suite, options) = ask::suite(env, &text, &args.ask)?;
    let spec = Spec {
        model: loaded.name.clone(),
        hash: loaded.checkpoint.hash().to_owned(),
        problem,
        strategy: strategy(args),
        tasks: suite.tasks().map(|task| (task.to_owned(), lopper_eval::task_version(task))).collect(),
        options: ask::identity(&args.ask, &options)?,
        loop_stop: !args.ask.no_loop_stop,
        dtype: format!("{:?}", args.run.dtype).to_lowercase(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let path = args.out.join(RECORD);
    let mut record = open(&path, spec, numbering.present(), args.force)?;
    if !record.state.rounds.is_empty() {
        env.printer.note(&format!("{} rounds are there already", record.state.rounds.len()));
    }
    std::fs::create_dir_all(&args.out).with_context(|| format!("creating {}", args.out.display()))?;

    let problem = record.spec.problem.clone();
    let progress = env.progress("searching", "requests", 0);
    let watch = |p: lopper_eval::EvalProgress| progress.set_of(p.done, p.total);
    let evaluator = SuiteEvaluator::new(&text, &suite, ask::many(&args.ask), &watch);
    let names = |layers: &[usize]| numbering.originals(layers).map(|layers| format_layers(&layers));
    let state = std::mem::take(&mut record.state);
    let mut told = state.rounds.len();
    let sentinels = match args.no_sentinels {
        true => None,
        false => Some(Sentinels::prepare(&text, &SentinelOptions::default())?),
    };
    if let Some(sentinels) = sentinels.as_ref().filter(|_| record.uncut.is_none()) {
        record.uncut = sentinels.read(&text, &[text.engine.all_layers()], &|_, _| {})?.pop();
    }
    record.readings.truncate(told);
    record.stopped = None;
    let state = search(&problem, record.spec.strategy, &evaluator, state, &mut |state| {
        record.state = state.clone();
        let mut hopeless = None;
        if let Some(sentinels) = &sentinels {
            for round in &state.rounds[record.readings.len().min(state.rounds.len())..] {
                let cut: Vec<usize> = round.kept.iter().copied().filter(|l| !round.removed.contains(l)).collect();
                let reading = sentinels.read(&text, &[cut], &|_, _| {})?.pop();
                let reading = reading.context("one cut was read")?;
                hopeless = record.uncut.as_ref().and_then(|uncut| Floor::default().hopeless(uncut, &reading));
                record.readings.push(reading);
            }
        }
        write_atomic(&path, (serde_json::to_string_pretty(&record)? + "\n").as_bytes())?;
        for round in &state.rounds[told.min(state.rounds.len())..] {
            let mut line = format!(
                "round {}: without {} {:.1} % of the uncut model's score",
                state.rounds.len(),
                names(&round.removed)?,
                100.0 * round.score
            );
            if !round.ties.is_empty() {
                let ties = round.ties.iter().take(5).map(|tie| names(tie)).collect::<Result<Vec<_>>>()?;
                let more = if round.ties.len() > 5 { ", …" } else { "" };
                line += &format!("; the items cannot tell it from {}{more}", ties.join(", "));
            }
            env.printer.note(&line);
        }
        told = state.rounds.len();
        Ok(match hopeless {
            Some(why) => {
                env.printer.warn(&format!("nothing is left of the model ({why}); the search ends here"));
                record.stopped = Some(why);
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        })
    })?;
    let cost = evaluator.cost();

    let kept = state.kept(&problem);
    let dropped: Vec<usize> = (0..problem.layers).filter(|layer| !kept.contains(layer)).collect();
    let dropped = numbering.originals(&dropped)?;
    record.state = state;
    record.removed = Some(dropped.clone());
    write_atomic(&path, (serde_json::to_string_pretty(&record)? + "\n").as_bytes())?;
    let choice =
        Choice { criterion: format!("search-{}", name(args.strategy)), seed: Some(options.seed), ..Choice::given() };
    let plan = Plan::new(&loaded.checkpoint, &loaded.name, &dropped, choice)?;
    write_atomic(&args.out.join(PLAN), plan.to_json()?.as_bytes())?;
    if args.json {
        return env.printer.json(&record);
    }
    let evaluations = table::count(record.state.evaluations as u64);
    env.printer.note(&format!("{evaluations} items were asked; {}", ask::told(&cost)));
    env.printer.note(&format!("to cut: lopper prune {} --plan {} -o OUT", loaded.name, args.out.join(PLAN).display()));
    env.printer.result(&format_layers(&dropped))
}

/// The record to go on from: what is there, or a new one.
fn open(path: &Path, spec: Spec, layers: &[usize], force: bool) -> Result<Record> {
    let new = |spec| Record {
        spec,
        layers: layers.to_vec(),
        state: State::default(),
        uncut: None,
        readings: vec![],
        stopped: None,
        removed: None,
    };
    let bytes = match std::fs::read(path) {
        Ok(bytes) if !force => bytes,
        _ => return Ok(new(spec)),
    };
    let fault = |got: String| {
        Fault::new("another search is recorded here")
            .file(path)
            .expected("the same model, tasks, items and strategy, or nothing")
            .got(got)
            .hint("name another directory with --out, or replace this one with --force")
    };
    let record: Record = serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))?;
    if record.spec != spec {
        return Err(
            fault(format!("a search of {} for {} layers", record.spec.model, record.spec.problem.remove)).into()
        );
    }
    Ok(record)
}

fn strategy(args: &SearchArgs) -> Strategy {
    match args.strategy {
        StrategyArg::Greedy => Strategy::Greedy,
        StrategyArg::Racing => Strategy::Racing(Racing { first: args.first_sample.get(), ..Racing::default() }),
        StrategyArg::OneShot => Strategy::OneShot,
        StrategyArg::Block => Strategy::Block,
        StrategyArg::Evolution => Strategy::Evolution {
            population: args.population.get(),
            generations: args.generations.get(),
            seed: args.search_seed,
        },
    }
}

fn name(strategy: StrategyArg) -> &'static str {
    match strategy {
        StrategyArg::Greedy => "greedy",
        StrategyArg::Racing => "racing",
        StrategyArg::OneShot => "one-shot",
        StrategyArg::Block => "block",
        StrategyArg::Evolution => "evolution",
    }
}
