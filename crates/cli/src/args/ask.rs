//! Which tasks and items candidates are evaluated on.

use std::num::NonZeroUsize;

use clap::Args;

use super::{BenchArgs, SplitArg};

/// Tasks and items.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// Tasks to evaluate on, such as `pocket_word,arc_easy`; groups such as `pocket`; files of your own,
    /// such as `./own.toml`. `lopper tasks` lists them
    #[arg(long, value_name = "TASKS", value_delimiter = ',', required = true)]
    pub tasks: Vec<String>,

    /// Take the first N items of each task
    #[arg(long, value_name = "N", default_value = "100")]
    pub limit: NonZeroUsize,

    /// Items that layers are chosen by, or those that scores are reported on
    #[arg(long, value_enum, default_value_t = SplitArg::Select)]
    pub split: SplitArg,

    /// Seed of the items and their order, and of bootstrap intervals
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Decode every candidate token by token, without trying the uncut model's answers as drafts
    /// (which changes no token)
    #[arg(long)]
    pub no_drafts: bool,

    #[command(flatten)]
    pub bench: BenchArgs,
}
