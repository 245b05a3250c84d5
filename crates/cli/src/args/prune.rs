//! Arguments of `lopper prune`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::InputArgs;

/// `lopper prune`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["drop", "drop_one_based", "plan", "criterion"]))]
pub struct PruneArgs {
    /// A model directory, an id of the hub, or `pocket`
    pub model: String,

    /// Remove these layers, such as `21-28` or `3,8,19`
    #[arg(long, value_name = "LAYERS")]
    pub drop: Option<String>,

    /// Remove these layers, counted from 1 as NeMo's `--drop_layers` counts
    #[arg(long, value_name = "LAYERS")]
    pub drop_one_based: Option<String>,

    /// Remove the layers that this plan removes: a cut.json, or a mergekit configuration (`passthrough`
    /// of slices of one model)
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,

    /// Let a criterion choose: bi, angular, angular-mean, relative-magnitude, perplexity, linear,
    /// taylor, reverse, reverse-keep-1, reverse-keep-2, random
    #[arg(long, value_name = "NAME", requires = "remove")]
    pub criterion: Option<String>,

    /// How many layers the criterion removes
    #[arg(long, value_name = "N", requires = "criterion")]
    pub remove: Option<usize>,

    #[command(flatten)]
    pub input: InputArgs,

    /// Seed of `random`
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Cut only so that each layer stands where the uncut model has one of its kind, which programs
    /// that know windows or positions by their period need
    #[arg(long)]
    pub keep_pattern: bool,

    /// Do not run what was written beside its source to compare their logits (every tensor is
    /// compared all the same)
    #[arg(long)]
    pub no_verify: bool,

    /// Directory to write the pruned model to
    #[arg(short, long, value_name = "OUT")]
    pub out: PathBuf,

    /// Replace OUT if it exists
    #[arg(long)]
    pub force: bool,
}
