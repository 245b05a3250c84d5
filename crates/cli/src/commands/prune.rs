//! `lopper prune`: writes a model without some of its layers. The layers are named, taken from a
//! plan, or chosen by a criterion.

use anyhow::{Context, Result};
use lopper_prune::criteria::{self, Request};
use lopper_prune::{CalibrationId, Choice, Plan, WriteOptions, write_pruned};
use lopper_record::{ensure_new, format_layers};

use super::score;
use crate::args::PruneArgs;
use crate::env::Env;
use crate::loaded::Loaded;
use crate::table;

/// Progress is told in units of this many bytes, so that counts stay readable.
const MEGABYTE: u64 = 1_000_000;

pub fn run(env: &Env, args: &PruneArgs) -> Result<()> {
    // Before the work, so that a forgotten --force does not cost it.
    ensure_new(&args.out, args.force)?;
    let loaded = Loaded::open(env, &args.model)?;
    let plan = plan(env, &loaded, args)?;
    let progress = env.progress("writing", "MB", (2 * loaded.checkpoint.weight_bytes() / MEGABYTE) as usize);
    let options = WriteOptions { force: args.force, ..WriteOptions::default() };
    let report = write_pruned(&loaded.checkpoint, &plan, &args.out, &options, &|done, _| {
        progress.set((done / MEGABYTE) as usize);
    })?;
    drop(progress);
    env.printer.note(&format!(
        "dropped layers {} of {} ({}); {} left in {} layers",
        format_layers(&plan.dropped),
        loaded.name,
        plan.choice.criterion,
        table::bytes(report.weight_bytes),
        report.num_hidden_layers
    ));
    env.printer.result(&report.directory.display().to_string())
}

fn plan(env: &Env, loaded: &Loaded, args: &PruneArgs) -> Result<Plan> {
    if let Some(path) = &args.plan {
        return Plan::read(path);
    }
    if let Some(spec) = &args.drop {
        return Plan::new(&loaded.checkpoint, &loaded.name, &loaded.layers(spec)?, Choice::given());
    }
    let criterion = criteria::criterion(args.criterion.as_deref().context("no layers were named")?)?;
    let num_layers = loaded.config().num_hidden_layers;
    let remove = args.remove.context("--remove was not given")?;
    criteria::check_removal(num_layers, remove)?;
    let mut choice = Choice { criterion: criterion.name.to_owned(), ..Choice::given() };
    let mut scores = None;
    if criterion.needs_scores {
        let calibration = score::calibration(env, loaded, &args.input)?;
        scores = Some(score::measure(env, &loaded.model(env)?, &calibration)?);
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
    Plan::new(&loaded.checkpoint, &loaded.name, &dropped, choice)
}
