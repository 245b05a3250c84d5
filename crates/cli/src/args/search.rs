//! Arguments of `lopper search`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{AskArgs, RunArgs};

/// `lopper search`
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// A model directory, an id of the hub, or `pocket`
    pub model: String,

    /// How many layers to remove; the first always stays
    #[arg(long, value_name = "N")]
    pub remove: usize,

    #[command(flatten)]
    pub ask: AskArgs,

    /// How candidates are tried
    #[arg(long, value_enum, default_value_t = StrategyArg::Greedy)]
    pub strategy: StrategyArg,

    /// `racing`: items of each task in the first sample, which doubles from then on
    #[arg(long, value_name = "N", default_value = "16")]
    pub first_sample: NonZeroUsize,

    /// `evolution`: sets tried in each generation
    #[arg(long, value_name = "N", default_value = "16")]
    pub population: NonZeroUsize,

    /// `evolution`: generations
    #[arg(long, value_name = "N", default_value = "10")]
    pub generations: NonZeroUsize,

    /// `evolution`: seed of the mutations
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub search_seed: u64,

    /// Go on where the sentinels (arithmetic, brackets, repetition, perplexity) find nothing left of the
    /// model
    #[arg(long)]
    pub no_sentinels: bool,

    /// Raise the alarm when classification keeps more than generation by this share
    #[arg(long, value_name = "SHARE", default_value_t = lopper_diagnose::sentinel::GAP_THRESHOLD)]
    pub gap: f64,

    #[command(flatten)]
    pub run: RunArgs,

    /// Where the search and its plan are recorded: `search.json` and `cut.json`; a search that is
    /// there already is continued
    #[arg(short, long, value_name = "DIR", default_value = "lopper-search")]
    pub out: PathBuf,

    /// Begin anew where DIR holds another search
    #[arg(long)]
    pub force: bool,

    /// One JSON document: the search as it is recorded
    #[arg(long)]
    pub json: bool,
}

/// How candidates are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StrategyArg {
    /// Round by round, the removal that costs least
    Greedy,
    /// The same on growing samples of items, without candidates that can no longer win
    Racing,
    /// The layers whose single removal costs least, all at once
    OneShot,
    /// The contiguous block that costs least
    Block,
    /// Mutation and selection of whole sets
    Evolution,
}
