//! Arguments of `lopper eval`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `lopper eval`
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// A model directory, an id of the hub, or `pocket`
    pub model: String,

    /// Tasks to score, such as `pocket_word,pocket_kind`; `pocket`, `pocket_classification` and
    /// `pocket_generative` stand for several
    #[arg(long, value_name = "TASKS", value_delimiter = ',', required = true)]
    pub tasks: Vec<String>,

    /// Worked examples before each item; the pocket tasks bring their own
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub shots: usize,

    /// Score without these layers, such as `21-28` or `3,8,19`
    #[arg(long, value_name = "LAYERS")]
    pub drop: Option<String>,

    /// Put this adapter on the layers that are left
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,

    /// Take the first N items of each task
    #[arg(long, value_name = "N", default_value = "200")]
    pub limit: NonZeroUsize,

    /// Items to report on, or those that layers are chosen by
    #[arg(long, value_enum, default_value_t = SplitArg::Report)]
    pub split: SplitArg,

    /// Seed of the items and their order, and of bootstrap intervals
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Sampling temperature; the likeliest token is taken without it, or with 0
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,

    /// Sample from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", requires = "temperature")]
    pub top_p: Option<f64>,

    /// Sample from the K likeliest tokens only
    #[arg(long, value_name = "K", requires = "temperature")]
    pub top_k: Option<NonZeroUsize>,

    /// Seed of the sampling; each answer depends on it and on its item only
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub sampling_seed: u64,

    /// Write every item to F.jsonl: log-likelihoods or response, what was read from it, the target
    #[arg(long, value_name = "F.jsonl")]
    pub samples_out: Option<PathBuf>,

    /// Replace F.jsonl if it exists
    #[arg(long)]
    pub force: bool,

    /// One JSON document: `{"tasks":{"NAME":{"version":…,"shots":…,"n":…,"metrics":{…}}},"model":…,"seeds":…}`
    #[arg(long)]
    pub json: bool,
}

/// The division that items come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SplitArg {
    /// Scores are reported on it
    Report,
    /// Layers are chosen on it
    Select,
}
