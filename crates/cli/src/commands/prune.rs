//! `lopper prune`: writes a model without some of its layers. The layers are named, taken from a
//! plan, or chosen by a criterion.

use anyhow::{Context, Result};
use lopper_model::Model;
use lopper_model::checkpoint::torch_name;
use lopper_prune::criteria::{self, Measures, Request};
use lopper_prune::{CalibrationId, Choice, MergekitCut, Plan, WriteOptions, write_pruned};
use lopper_record::{Fault, LayerSet, ensure_new};

use super::score;
use crate::args::PruneArgs;
use crate::env::Env;
use crate::loaded::Loaded;
use crate::progress::Progress;
use crate::{quote, table};

pub fn run(env: &Env, args: &PruneArgs) -> Result<()> {
    // Before the work, so that a forgotten --force does not cost it.
    ensure_new(&args.out, args.force)?;
    let loaded = Loaded::open(env, &args.model)?;
    let plan = Plan { command: Some(quote::command_line()), ..plan(env, &loaded, args)? };
    let progress = Progress::of_bytes(env.printer, "writing", 0).with_interrupt(env.interrupted.clone());
    let options = WriteOptions {
        force: args.force,
        keep_pattern: args.keep_pattern,
        verify: !args.no_verify,
        ..WriteOptions::default()
    };
    let report = write_pruned(&loaded.checkpoint, &plan, &args.out, &options, &progress)?;
    drop(progress);
    env.printer.note(&format!(
        "dropped layers {} of {} ({}); {} left in {} layers",
        plan.dropped,
        loaded.name,
        plan.choice.criterion,
        table::bytes(report.weight_bytes),
        report.num_hidden_layers
    ));
    if let Some(verification) = &report.plan.verification {
        env.printer.note(&format!(
            "same logits as {} with those layers skipped: largest difference {:.1e} over {} tokens",
            loaded.name, verification.max_logit_difference, verification.tokens
        ));
    }
    let changed: Vec<&str> = report.plan.config_changes.iter().map(|change| change.key.as_str()).collect();
    env.printer.note(&format!("changed in config.json: {}", changed.join(", ")));
    report.warnings.iter().for_each(|warning| env.printer.warn(warning));
    env.printer.result(&report.directory.display().to_string())
}

fn plan(env: &Env, loaded: &Loaded, args: &PruneArgs) -> Result<Plan> {
    let given = |dropped: &LayerSet| Plan::unhashed(&loaded.checkpoint, &loaded.name, dropped, Choice::given());
    if let Some(path) = &args.plan {
        let Some(cut) = MergekitCut::read(path)? else { return Plan::read(path) };
        let stored = loaded.checkpoint.dtype();
        if let Some(dtype) = cut.dtype.as_deref().filter(|dtype| torch_name(stored).ok() != Some(*dtype)) {
            env.printer.warn(&format!("the weights stay {stored}: Lopper copies them and does not convert to {dtype}"));
        }
        return given(&cut.dropped(&loaded.numbering()?, path)?);
    }
    if let Some(spec) = &args.drop {
        return given(&loaded.layers(spec)?);
    }
    if let Some(spec) = &args.drop_one_based {
        return given(&one_based(loaded, spec)?);
    }
    let criterion = criteria::criterion(args.criterion.as_deref().context("no layers were named")?)?;
    let num_layers = loaded.config().num_hidden_layers;
    let remove = args.remove.context("--remove was not given")?;
    criteria::check_removal(num_layers, remove)?;
    let mut choice = Choice { criterion: criterion.name.to_owned(), ..Choice::given() };
    let mut scores = None;
    if criterion.needs_scores {
        let calibration = score::calibration(env, loaded, &args.input)?;
        // No more than the criterion reads.
        let what = Measures { perplexity: criterion.name == "perplexity", linear: criterion.name == "linear" };
        let engine = env.engine(Model::mapped(&loaded.checkpoint)?)?;
        let mut measured = score::measure(env, &engine, &calibration, what)?;
        if criterion.name == "taylor" {
            measured.taylor = Some(score::gradients(env, loaded, &calibration)?);
        }
        scores = Some(measured);
        choice.calibration = Some(CalibrationId {
            hash: calibration.hash(),
            sequences: calibration.sequences().len(),
            tokens: calibration.tokens(),
        });
    }
    let request = Request { num_layers, remove, scores: scores.as_ref(), seed: args.seed };
    let selection = criteria::select(criterion, &request)?;
    choice.seed = criterion.needs_seed.then_some(args.seed);
    choice.scores = selection.scores;
    let dropped = loaded.numbering()?.originals(&selection.dropped)?;
    Plan::unhashed(&loaded.checkpoint, &loaded.name, &dropped, choice)
}

/// The layers that `spec` lists from 1, by their original numbers from 0.
fn one_based(loaded: &Loaded, spec: &str) -> Result<LayerSet> {
    let layers = loaded.numbering()?.original_layers();
    let wrong = |got: String| {
        Fault::new("layers were to be counted from 1")
            .expected(format!("layers from 1 to {layers}"))
            .got(got)
            .hint("--drop counts from 0")
    };
    // NeMo separates by spaces.
    let listed = match spec.contains([',', '-']) {
        true => spec.to_owned(),
        false => spec.split_whitespace().collect::<Vec<_>>().join(","),
    };
    let mut shifted = String::with_capacity(listed.len());
    for part in listed.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
        match digits.parse::<usize>() {
            Ok(number) if (1..=layers).contains(&number) => shifted.push_str(&(number - 1).to_string()),
            Err(_) if digits.is_empty() => {}
            _ => return Err(wrong(digits.chars().take(40).collect()).into()),
        }
        shifted.push_str(&part[digits.len()..]);
    }
    // Every number is in range now: what is left to refuse is the form of the list.
    loaded.layers(&shifted)
}
