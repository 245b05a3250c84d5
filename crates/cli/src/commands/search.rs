//! `lopper search`: which layers to remove, by evaluating candidates on tasks.

mod record;

use std::ops::ControlFlow;

use clap::ValueEnum;
use lopper_diagnose::sentinel::{CollapseThresholds, SentinelOptions, Sentinels};
use lopper_infer::TextModel;
use lopper_prune::search::{Problem, Racing, Round, State, Strategy, SuiteEvaluator, search};
use lopper_prune::{Choice, Plan};
use lopper_record::{Context as _, LayerNumbering, LayerPosition, LayerSet, OriginalLayer, Result, write_atomic};
use lopper_study::search::gap;

use self::record::{PLAN, Spec};
use super::prune::adapter_id;
use super::task_selection;
use crate::args::{SearchArgs, StrategyArg};
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::table;

pub fn run(context: &Context, args: &SearchArgs) -> Result<()> {
    record::check_directory(&args.out, args.force)?;
    let opened = OpenModel::open(context, &args.model)?;
    let numbering = opened.numbering()?;
    let problem = Problem::new(opened.config().num_hidden_layers, args.remove)?;
    let (adapter, all) = (args.adapter.as_deref(), LayerSet::all(problem.layers));
    let chosen_with = adapter.map(adapter_id).transpose()?;
    let text = TextModel::new(opened.engine_with_adapter(context, &args.run, adapter, &all)?, &opened.checkpoint)?;
    let suite = task_selection::suite(context, &text, &args.selection)?;
    let seed = suite.selection().seed;
    let spec = Spec {
        model: opened.name.clone(),
        hash: opened.checkpoint.hash().to_owned(),
        adapter: chosen_with.as_ref().map(|adapter| adapter.hash.clone()),
        problem,
        strategy: strategy(args),
        tasks: suite.tasks().map(str::to_owned).zip(suite.versions()).collect(),
        items: *suite.selection(),
        policy: suite.policy().clone(),
        dtype: format!("{:?}", args.run.dtype).to_lowercase(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut record = record::open(&args.out, spec, numbering.present(), args.force)?;
    if !record.state.rounds.is_empty() {
        context.printer.note(&format!("continuing after {} finished rounds", record.state.rounds.len()));
    }
    std::fs::create_dir_all(&args.out).with_context(|| format!("creating {}", args.out.display()))?;

    let problem = record.spec.problem.clone();
    let evaluator = SuiteEvaluator::new(&text, &suite, task_selection::execution(&args.selection));
    let sentinels = match args.no_sentinels {
        true => None,
        false => {
            let template_variables = suite.policy().template_variables.clone();
            Some(Sentinels::prepare(&text, &SentinelOptions { template_variables, ..SentinelOptions::default() })?)
        }
    };
    if let Some(sentinels) = sentinels.as_ref().filter(|_| record.uncut.is_none()) {
        record.uncut = sentinels.measure(&text, &[LayerSet::all(problem.layers)], &context.progress)?.pop();
    }
    let state = std::mem::take(&mut record.state);
    let mut reported = state.rounds.len();
    // Where nothing was left, nothing more is to be found, unless sentinels are switched off.
    if sentinels.is_none() {
        record.stopped = None;
    }
    let over = record.stopped.is_some();
    let mut each = |state: &State| -> Result<ControlFlow<()>> {
        record.state = state.clone();
        for (at, round) in state.rounds.iter().enumerate().skip(reported) {
            context.printer.note(&line(at + 1, round, &numbering)?);
            let base = state.base.as_ref().context("the uncut model comes first")?;
            if let Some(gap) = gap(&suite, base, &round.scores, args.gap)? {
                context.printer.warn(&format!("gap alarm: {}", gap.sentence()));
                record.gaps.insert(at + 1, gap);
            }
            if let Some(sentinels) = &sentinels {
                let cut = round.kept.without(&round.removed).slots();
                let reading = sentinels.measure(&text, &[cut], &context.progress)?.pop().context("one cut was read")?;
                record.stopped =
                    record.uncut.as_ref().and_then(|uncut| CollapseThresholds::default().collapsed(uncut, &reading));
                record.readings.insert(at + 1, reading);
            }
        }
        reported = state.rounds.len();
        record.write(&args.out)?;
        Ok(if record.stopped.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    let strategy = strategy(args);
    let state = if over { state } else { search(&problem, strategy, &evaluator, state, &context.progress, &mut each)? };
    let cost = evaluator.cost();

    let kept = state.kept(&problem);
    let dropped = numbering.originals(&kept.complement(problem.layers))?;
    record.state = state;
    record.removed = Some(dropped.clone());
    record.write(&args.out)?;
    if let Some(why) = &record.stopped {
        let (found, wanted) = (dropped.len(), args.remove);
        context.printer.warn(&format!(
            "nothing is left of the model ({why}): the search ended after {found} of {wanted} layers (--no-sentinels goes on)"
        ));
    }
    let strategy = args.strategy.to_possible_value().context("every strategy has a name")?;
    let criterion = format!("search-{}", strategy.get_name());
    let order = record.state.order().map(|order| order_of(&order, &numbering)).transpose()?;
    let choice = Choice { criterion, seed: Some(seed), order, adapter: chosen_with, ..Choice::given() };
    let plan = Plan::new(&opened.checkpoint, &opened.name, &dropped, choice)?;
    write_atomic(&args.out.join(PLAN), plan.to_json()?.as_bytes())?;
    if args.json {
        return context.printer.json(&record);
    }
    let evaluations = table::count(record.state.evaluations as u64);
    context.printer.note(&format!("{evaluations} items were evaluated; {}", task_selection::summary(&cost)));
    let with = adapter.map_or_else(String::new, |directory| format!(" --adapter {}", directory.display()));
    context.printer.note(&format!(
        "to prune: lopper prune {} --plan {}{with} -o OUT",
        opened.name,
        args.out.join(PLAN).display()
    ));
    context.printer.result(&dropped.to_string())
}

/// Layers in the order in which they went, by their original numbers.
fn order_of(order: &[LayerPosition], numbering: &LayerNumbering) -> Result<Vec<OriginalLayer>> {
    let one = |layer: &LayerPosition| numbering.originals(&LayerSet::from_iter([*layer]));
    Ok(order.iter().map(one).collect::<Result<Vec<_>>>()?.iter().flat_map(LayerSet::iter).collect())
}

/// What a round found, in a line.
fn line(number: usize, round: &Round, numbering: &LayerNumbering) -> Result<String> {
    let names = |layers: &LayerSet<LayerPosition>| numbering.originals(layers).map(|layers| layers.to_string());
    let (removed, score) = (names(&round.removed)?, 100.0 * round.score);
    let mut line = format!("round {number}: without {removed} {score:.1} % of the uncut model's score");
    if !round.ties.is_empty() {
        let ties = round.ties.iter().take(5).map(names).collect::<Result<Vec<_>>>()?;
        let more = if round.ties.len() > 5 { ", …" } else { "" };
        line += &format!("; the items cannot tell it from {}{more}", ties.join(", "));
    }
    Ok(line)
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
