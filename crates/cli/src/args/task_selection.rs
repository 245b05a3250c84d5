//! Which tasks and items candidates are evaluated on.

use std::num::NonZeroUsize;

use clap::Args;

use super::{BenchmarkArgs, SplitArg};

/// Tasks and items.
#[derive(Debug, Args)]
pub struct TaskSelectionArgs {
    /// Evaluate on these tasks, such as `pocket_word,arc_easy`, on groups such as `pocket`, or on task files of your
    /// own such as `./own.toml`. `lopper tasks` lists the built-in tasks
    #[arg(long, value_name = "TASKS", value_delimiter = ',', required = true)]
    pub tasks: Vec<String>,

    /// Use the first N items of each task
    #[arg(long, value_name = "N", default_value = "100")]
    pub limit: NonZeroUsize,

    /// Use the items for choosing layers, or those for reporting scores
    #[arg(long, value_enum, default_value_t = SplitArg::Select)]
    pub split: SplitArg,

    /// Seed for drawing and ordering items, and for bootstrap intervals of scores
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Decode every candidate token by token, without the uncut model's answers as speculative drafts (slower, same
    /// answers)
    #[arg(long)]
    pub no_drafts: bool,

    #[command(flatten)]
    pub benchmark: BenchmarkArgs,
}
