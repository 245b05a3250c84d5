//! Arguments of `lopper search`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lopper_prune::search::Racing;

use super::{RunArgs, TaskSelectionArgs, nonzero};

/// `lopper search`
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Model: a Hugging Face directory, a hub id, or `pocket`
    pub model: String,

    /// Remove N layers; the first layer is always kept
    #[arg(long, value_name = "N")]
    pub remove: usize,

    /// Search with this strategy
    #[arg(long, value_enum, default_value_t = StrategyArg::Greedy)]
    pub strategy: StrategyArg,

    /// `racing`: evaluate N items of each task first, then twice as many, and so on
    #[arg(long, value_name = "N", default_value_t = nonzero(Racing::default().first))]
    pub first_sample: NonZeroUsize,

    /// `evolution`: try N sets in each generation
    #[arg(long, value_name = "N", default_value = "16")]
    pub population: NonZeroUsize,

    /// `evolution`: run N generations
    #[arg(long, value_name = "N", default_value = "10")]
    pub generations: NonZeroUsize,

    /// `evolution`: seed for the mutations
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub search_seed: u64,

    /// Do not run the sentinels, short probes of arithmetic, brackets and perplexity that end the search when nothing
    /// is left of the model
    #[arg(long)]
    pub no_sentinels: bool,

    /// Remove layers from the model with this adapter; each layer's part of it goes with the layer
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,

    /// Warn when the retention of classification exceeds that of generation by more than SHARE
    #[arg(long, value_name = "SHARE", default_value_t = lopper_diagnose::sentinel::GAP_THRESHOLD)]
    pub gap: f64,

    #[command(flatten)]
    pub run: RunArgs,

    /// Write the record of the search (`search.json`) and its plan (`cut.json`) to DIR; a search that is already there
    /// is continued
    #[arg(short, long, value_name = "DIR", default_value = "lopper-search")]
    pub out: PathBuf,

    /// Start over if DIR holds another search
    #[arg(long)]
    pub force: bool,

    /// Print the record of the search as one JSON document
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub selection: TaskSelectionArgs,
}

/// Search strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StrategyArg {
    /// Remove the layer that costs least, round by round
    Greedy,
    /// Like `greedy`, on growing samples of items and without candidates that can no longer win
    Racing,
    /// Remove the layers whose single removals cost least, all at once
    OneShot,
    /// Remove the contiguous block that costs least
    Block,
    /// Mutate sets of layers and keep the best
    Evolution,
}
