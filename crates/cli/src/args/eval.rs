//! Arguments of `lopper eval`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::RunArgs;
use super::bench::BenchArgs;

/// `lopper eval`
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// A model directory, an id of the hub, or `pocket`
    pub model: String,

    /// Tasks to score, such as `pocket_word,arc_easy`; groups such as `pocket`, `mmlu` or
    /// `paper_generative`; files of your own, such as `./own.toml`. `lopper tasks` lists them
    #[arg(long, value_name = "TASKS", value_delimiter = ',', required = true)]
    pub tasks: Vec<String>,

    /// Score without these layers, such as `21-28` or `3,8,19`
    #[arg(long, value_name = "LAYERS")]
    pub drop: Option<String>,

    /// Put this adapter on the layers that are left
    #[arg(long, value_name = "DIR", conflicts_with_all = ["stream", "dtype"])]
    pub adapter: Option<PathBuf>,

    /// Compare with the whole model on the same items: retention, a paired test, and how many items
    /// it would take
    #[arg(long)]
    pub compare: bool,

    /// Take the first N items of each task [default: 200 generated ones, all rows of a benchmark]
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,

    /// Items to report on, or those that layers are chosen by: no question is in both [default:
    /// `report` of generated items, all rows of a benchmark]
    #[arg(long, value_enum)]
    pub split: Option<SplitArg>,

    /// Refuse to score items that are in F.jsonl: samples that layers were chosen by, or conversations
    /// that the model was healed by
    #[arg(long, value_name = "F.jsonl")]
    pub disjoint_from: Option<PathBuf>,

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

    /// Responses to each item, each with its own seed; gives pass@k
    #[arg(long, value_name = "K", default_value = "1", requires = "temperature")]
    pub responses: NonZeroUsize,

    /// Grade the responses in F.jsonl (`task`, `doc_id`, `response`) instead of the model's own
    #[arg(long, value_name = "F.jsonl", conflicts_with_all = ["compare", "temperature"])]
    pub responses_from: Option<PathBuf>,

    #[command(flatten)]
    pub bench: BenchArgs,

    #[command(flatten)]
    pub run: RunArgs,

    /// Write results and items in lm-evaluation-harness's layout below DIR
    #[arg(long, value_name = "DIR")]
    pub lm_eval_out: Option<PathBuf>,

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
    /// All rows of benchmarks; of generated items, those reported on
    All,
}
