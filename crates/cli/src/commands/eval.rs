//! `lopper eval`: scores on tasks, at any depth, with intervals.

mod budgets;
mod compare;
mod samples;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::SystemTime;

use lopper_infer::{Sampling, TextModel};
use lopper_measure::{Comparisons, Execution, compare_all, evaluate, group_scores};
use lopper_record::{Fault, LayerSet, Result, Score, ensure_new_file, ensure_writable};
use lopper_tasks::{
    BadRow, GenerationPolicy, Group, ItemSelection, RowChoice, RowSource, RunFacts, Split, Suite, TaskOutcome,
    ThoughtCounts, families,
};
use serde::Serialize;

use super::benchmark;
use crate::args::{EvalArgs, GENERATED_ITEMS, SplitArg};
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::table;
use budgets::{BudgetPoint, Sweep};

/// The JSON document.
#[derive(Serialize)]
struct Evaluation<'a> {
    tasks: BTreeMap<&'a str, TaskScores<'a>>,
    /// Tasks that are scored together, every item weighing the same.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    groups: BTreeMap<String, GroupScores>,
    model: ModelId<'a>,
    /// The split of generated items.
    split: Split,
    /// Whether rows of benchmarks are divided so, too.
    rows: RowChoice,
    sampling: Sampling,
    seeds: Seeds,
    /// How answers were produced.
    policy: &'a GenerationPolicy,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparisons>,
}

/// The JSON document of `--thinking-budgets`.
#[derive(Serialize)]
struct BudgetSweep<'a> {
    budgets: &'a [BudgetPoint],
    model: ModelId<'a>,
    seeds: Seeds,
    /// How answers were produced, but for the budget.
    policy: &'a GenerationPolicy,
}

#[derive(Serialize)]
struct GroupScores {
    tasks: usize,
    #[serde(flatten)]
    score: Score,
}

#[derive(Serialize)]
struct TaskScores<'a> {
    version: u32,
    shots: usize,
    n: usize,
    group: Group,
    primary: &'a str,
    metrics: &'a BTreeMap<String, Score>,
    /// What was thought before the responses.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<ThoughtCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a RowSource>,
    /// How many items are of the rows that layers are chosen by.
    #[serde(skip_serializing_if = "Option::is_none")]
    selection_items: Option<usize>,
    /// How many rows were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<usize>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    bad_rows: &'a [BadRow],
    /// Rows whose prompt lost its beginning.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    truncated: &'a [usize],
}

/// What was evaluated; layers have their original numbers.
#[derive(Serialize)]
struct ModelId<'a> {
    name: &'a str,
    hash: &'a str,
    layers: LayerSet,
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<&'a Path>,
}

#[derive(Serialize)]
struct Seeds {
    items: u64,
    sampling: u64,
}

pub fn run(context: &Context, args: &EvalArgs) -> Result<()> {
    let began = SystemTime::now();
    if let Some(path) = &args.samples_out {
        ensure_new_file(path, args.force)?;
    }
    if let Some(directory) = &args.lm_eval_out {
        ensure_writable(directory)?;
    }
    let tasks = lopper_tasks::expand(&args.tasks)?;
    let policy = policy(args);
    policy.check()?;
    let whole = args.drop.is_none() && args.adapter.is_none();
    if args.compare && whole {
        return Err(Fault::new("there is nothing to compare the model with")
            .expected("--drop LAYERS or --adapter DIR together with --compare")
            .got("neither")
            .hint("--compare evaluates the model also without them, on the same items")
            .into());
    }
    let resources = benchmark::resources(context, &args.benchmark)?;
    let opened = OpenModel::open(context, &args.model)?;
    let kept = opened.kept(args.drop.as_deref())?;
    let uncut = TextModel::new(opened.engine(context, &args.run)?, &opened.checkpoint)?;
    let all = LayerSet::all(opened.config().num_hidden_layers);
    let (text, cut) = match &args.adapter {
        None => (uncut, kept.slots()),
        Some(directory) => {
            let mut model = uncut.engine.model().clone();
            opened.add_adapter(context, directory, &mut model, &kept)?;
            // The adapted layers come after the model's own, so that both models can be evaluated together.
            match uncut.engine.with_adapted_layers(&model, &kept) {
                Ok((engine, adapted)) => (TextModel { engine, ..uncut }, adapted),
                // What changes more than layers is a model of its own.
                Err(error) if args.compare => return Err(error),
                Err(_) => (uncut.with_model(model), kept.slots()),
            }
        }
    };
    let selection = selection(args);
    let layers = opened.numbering()?.originals(&kept)?;
    if !args.thinking_budgets.is_empty() {
        let models = if whole { vec![("uncut", all)] } else { vec![("uncut", all), ("cut", cut)] };
        let (tasks, selection, resources) = (&tasks, &selection, &resources);
        let sweep = Sweep { text: &text, tasks, selection, policy: &policy, resources, models: &models };
        let points = sweep.run(context, &args.thinking_budgets)?;
        if args.json {
            let hash = opened.checkpoint.hash();
            let model = ModelId { name: &opened.name, hash, layers, adapter: args.adapter.as_deref() };
            let seeds = Seeds { items: selection.seed, sampling: policy.sampling_seed };
            return context.printer.json(&BudgetSweep { budgets: &points, model, seeds, policy: &policy });
        }
        return context.printer.result(&budgets::human(&points));
    }
    let suite = Suite::prepare(&text, &tasks, &selection, &policy, &resources)?;
    if args.responses_from.is_none() && !suite.requests().generations.is_empty() {
        opened.warn_of_generation_settings(context)?;
    }
    if let Some(path) = &args.disjoint_from {
        samples::refuse_shared(path, &suite)?;
    }
    let candidates = if args.compare { vec![all, cut] } else { vec![cut] };
    let mut outcomes = match &args.responses_from {
        Some(path) => vec![suite.grade_given(&text, &samples::responses(path)?)?],
        None => evaluate(&text, &suite, &candidates, &Execution::default(), &context.progress)?.outcomes,
    };
    let base = args.compare.then(|| outcomes.remove(0));
    let outcomes = outcomes.pop().unwrap_or_default();
    outcomes.iter().flat_map(TaskOutcome::warnings).for_each(|warning| context.printer.warn(&warning));
    let comparison = match &base {
        Some(base) => {
            compare::caution(base).iter().for_each(|line| context.printer.warn(line));
            Some(compare_all(base, &outcomes, selection.seed)?)
        }
        None => None,
    };

    if let Some(path) = &args.samples_out {
        samples::write(path, &outcomes)?;
    }
    if let Some(directory) = &args.lm_eval_out {
        let facts = RunFacts {
            model: opened.name.clone(),
            model_args: serde_json::json!({"pretrained": opened.name, "layers": layers.to_string(),
                "hash": opened.checkpoint.hash(), "adapter": args.adapter}),
            limit: args.limit.map(NonZeroUsize::get),
            began,
            took: began.elapsed().unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        suite.lm_eval(&outcomes, &facts).write(directory)?;
    }
    if args.json {
        let tasks = outcomes.iter().map(|outcome| (outcome.task.as_str(), task_scores(outcome))).collect();
        let groups = families(&outcomes);
        let groups = groups.into_iter().map(|(name, tasks, score)| (name, GroupScores { tasks: tasks.len(), score }));
        let hash = opened.checkpoint.hash();
        let model = ModelId { name: &opened.name, hash, layers, adapter: args.adapter.as_deref() };
        let seeds = Seeds { items: selection.seed, sampling: policy.sampling_seed };
        return context.printer.json(&Evaluation {
            tasks,
            groups: groups.collect(),
            model,
            split: selection.split,
            rows: selection.rows,
            sampling: policy.sampling,
            seeds,
            policy: &policy,
            comparison,
        });
    }
    context.printer.note(&format!(
        "{} with layers {}; {}, 95 % intervals",
        opened.name,
        layers,
        items_in_words(&outcomes, &selection)
    ));
    if let Some(sentence) = selection_items(&outcomes, &selection) {
        context.printer.note(&sentence);
    }
    context.printer.result(&human(&outcomes))?;
    match comparison {
        Some(comparison) => context.printer.result(&format!("\n{}", compare::human(&comparison))),
        None => Ok(()),
    }
}

/// Which items were evaluated, in words.
fn items_in_words(outcomes: &[TaskOutcome], selection: &ItemSelection) -> String {
    let ItemSelection { rows, split, .. } = *selection;
    let of_rows = outcomes.iter().filter(|outcome| outcome.source.is_some()).count();
    match (of_rows, rows) {
        (0, _) | (_, RowChoice::Divided) => format!("items of the {} split", split.name()),
        (n, RowChoice::All) if n == outcomes.len() => "all rows of the benchmarks".to_owned(),
        (_, RowChoice::All) => format!("generated items of the {} split, all rows of the benchmarks", split.name()),
    }
}

/// Says so where all rows are reported on, those among them by which layers are chosen.
fn selection_items(outcomes: &[TaskOutcome], selection: &ItemSelection) -> Option<String> {
    let of_rows = || outcomes.iter().filter_map(|outcome| Some((outcome.selection_items()?, outcome.n)));
    let (among, all) = of_rows().fold((0, 0), |(among, all), (own, n)| (among + own, all + n));
    (selection.rows == RowChoice::All && among > 0).then(|| {
        format!(
            "{} of {} items are selection items, by which `ablate`, `search` and `study` choose layers; `--split \
             report` leaves them out",
            table::count(among as u64),
            table::count(all as u64)
        )
    })
}

fn policy(args: &EvalArgs) -> GenerationPolicy {
    let sampling = match args.temperature {
        None | Some(0.0) => Sampling::Greedy,
        Some(temperature) => {
            Sampling::Sample { temperature, top_k: args.top_k.map(NonZeroUsize::get), top_p: args.top_p }
        }
    };
    let (sampling_seed, responses) = (args.sampling_seed, args.responses.get());
    GenerationPolicy { sampling, sampling_seed, responses, ..benchmark::policy(&args.benchmark) }
}

fn selection(args: &EvalArgs) -> ItemSelection {
    let (split, rows) = match args.split {
        None | Some(SplitArg::All) => (Split::Report, RowChoice::All),
        Some(SplitArg::Report) => (Split::Report, RowChoice::Divided),
        Some(SplitArg::Select) => (Split::Select, RowChoice::Divided),
    };
    let row_limit = args.limit.map(NonZeroUsize::get);
    ItemSelection { split, rows, limit: row_limit.unwrap_or(GENERATED_ITEMS), row_limit, seed: args.seed }
}

fn task_scores(outcome: &TaskOutcome) -> TaskScores<'_> {
    TaskScores {
        version: outcome.version,
        shots: outcome.shots(),
        n: outcome.n,
        group: outcome.group,
        primary: &outcome.primary,
        metrics: &outcome.metrics,
        reasoning: outcome.thoughts(),
        source: outcome.source.as_ref(),
        selection_items: outcome.selection_items(),
        skipped: outcome.source.as_ref().map(|_| outcome.bad_rows.len()),
        bad_rows: &outcome.bad_rows,
        truncated: &outcome.truncated,
    }
}

/// A row for each metric, the primary one of a task first, and the mean of each group of tasks.
fn human(outcomes: &[TaskOutcome]) -> String {
    let mut rows: Vec<[String; 7]> = Vec::new();
    for outcome in outcomes {
        let others = outcome.metrics.keys().filter(|name| **name != outcome.primary);
        for (at, name) in std::iter::once(&outcome.primary).chain(others).enumerate() {
            let Some(score) = outcome.metrics.get(name) else { continue };
            let guess = outcome.chance.map_or_else(String::new, percent);
            rows.push(row(if at == 0 { &outcome.task } else { "" }, name, score, guess));
        }
    }
    for (name, tasks, score) in families(outcomes) {
        rows.push(row(&name, &format!("{} tasks", tasks.len()), &score, String::new()));
    }
    for (group, tasks, score) in group_scores(outcomes).into_iter().filter(|(_, tasks, _)| *tasks > 1) {
        rows.push(row(group.name(), &format!("mean of {tasks}"), &score, String::new()));
    }
    let scores = table::render(["task", "metric", "score", "stderr", "95 % interval", "n", "chance"], &rows);
    let thoughts: Vec<[String; 6]> = outcomes.iter().filter_map(thoughts).collect();
    if thoughts.is_empty() {
        return scores;
    }
    let header = ["task", "responses", "with reasoning", "unfinished", "ended by the budget", "tokens"];
    format!("{scores}\n\n{}", table::render(header, &thoughts))
}

/// How much was thought before the responses to a task, where anything was.
fn thoughts(outcome: &TaskOutcome) -> Option<[String; 6]> {
    let ThoughtCounts { responses, thoughts, unfinished, cut, mean_tokens } = outcome.thoughts()?;
    let count = |n: usize| table::count(n as u64);
    let tokens = mean_tokens.map_or_else(|| "-".to_owned(), |mean| format!("{mean:.1}"));
    Some([outcome.task.clone(), count(responses), count(thoughts), count(unfinished), count(cut), tokens])
}

fn row(task: &str, metric: &str, score: &Score, chance: String) -> [String; 7] {
    [
        task.to_owned(),
        metric.to_owned(),
        percent(score.value),
        percent(score.stderr),
        interval(score.ci95),
        table::count(score.n as u64),
        chance,
    ]
}

/// The least p-value that is shown as a number.
const LEAST_P: f64 = 0.001;

/// A p-value with three decimals, or that it is below the least of them.
pub fn p_value(p: f64) -> String {
    if p < LEAST_P { format!("< {LEAST_P}") } else { format!("{p:.3}") }
}

/// The two ends of an interval in per cent.
pub fn interval(ci95: [f64; 2]) -> String {
    format!("{} to {}", percent(ci95[0]), percent(ci95[1]))
}

/// A share in per cent; a dash where it is not defined. Rounding below zero shows no sign.
pub fn percent(value: f64) -> String {
    if value.is_nan() { "-".to_owned() } else { format!("{:.1}", (value * 100.0).max(0.0)) }
}
