//! Arguments of `lopper diagnose`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use lopper_diagnose::RESPONSE_TOKENS;

use super::{BenchmarkArgs, RowArgs, RunArgs};

/// Items where `--limit` is not given.
pub const ITEMS: usize = 100;

/// `lopper diagnose`
#[derive(Debug, Args)]
pub struct DiagnoseArgs {
    /// Model: a Hugging Face directory, a hub id, or `pocket`; or a file of responses (JSON Lines, JSON, CSV, Parquet)
    /// of Lopper, lm-evaluation-harness, lighteval, EvalPlus, vLLM or OpenAI (`-` reads standard input)
    #[arg(value_name = "MODEL|RESPONSES")]
    pub subject: String,

    /// Also diagnose the model without these layers, such as `21-28` or `3,8,19`
    #[arg(long, value_name = "LAYERS")]
    pub drop: Option<String>,

    /// Also diagnose the healed model, which has this adapter on the remaining layers (without --drop, on all)
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,

    /// Also diagnose the model without each single layer in turn
    #[arg(long)]
    pub sweep: bool,

    #[arg(long, value_name = "N", help = format!(
        "Use N items of each task and each probe, and N prompts; of RESPONSES.jsonl, the first N responses \
         [default: {ITEMS}, or all responses]"
    ))]
    pub limit: Option<NonZeroUsize>,

    /// Compare scores and failures on these tasks, such as `gsm8k,mbpp`, on groups, or on task files of your own.
    /// `lopper tasks` lists the built-in tasks [default: `pocket` for the pocket model and its cuts, otherwise none]
    #[arg(long, value_name = "TASKS", value_delimiter = ',')]
    pub tasks: Vec<String>,

    #[arg(long, value_name = "DATA", help = format!(
        "Answer these prompts instead of the built-in ones, in the formats of `lopper generate`; an answer has at \
         most {RESPONSE_TOKENS} tokens, unless --max-new-tokens is given"
    ))]
    pub prompts: Option<String>,

    /// Use these arithmetic items instead of generated ones: a .jsonl, .csv or .parquet file with `context` and
    /// `completion`, or a configuration of EleutherAI/arithmetic, such as `arithmetic_3ds`
    #[arg(long, value_name = "ROWS", conflicts_with_all = ["operations", "digits"])]
    pub arithmetic: Option<PathBuf>,

    /// Generate arithmetic items with N operations
    #[arg(long, value_name = "N")]
    pub operations: Option<usize>,

    /// Generate arithmetic items whose numbers have N digits
    #[arg(long, value_name = "N")]
    pub digits: Option<u32>,

    /// Sample with this temperature [default: 0, greedy decoding]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,

    /// Seed for items, sampling and bootstrap intervals of scores
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Warn when the retention of classification exceeds that of generation by more than SHARE
    #[arg(long, value_name = "SHARE", default_value_t = lopper_diagnose::sentinel::GAP_THRESHOLD)]
    pub gap: f64,

    /// Write the record, the report and the list of all lost and gained items to this new directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Compare the graded responses in RESPONSES.jsonl with those of the uncut model; both are samples that
    /// `lopper eval` or lm-evaluation-harness wrote
    #[arg(long, value_name = "UNCUT.jsonl")]
    pub base: Option<PathBuf>,

    /// Write every lost or gained item to F.jsonl
    #[arg(long, value_name = "F.jsonl")]
    pub ledger_out: Option<PathBuf>,

    /// Write the measurements of each response in RESPONSES.jsonl to F.jsonl
    #[arg(long, value_name = "F.jsonl")]
    pub figures_out: Option<PathBuf>,

    /// Overwrite F.jsonl or the files in DIR if they exist
    #[arg(long)]
    pub force: bool,

    /// Print one JSON document: for a model `{"model":…,"uncut":…,"cut":…,"healed":…,"sweep":[…],…}`, for
    /// RESPONSES.jsonl its measurements
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub rows: RowArgs,

    #[command(flatten)]
    pub run: RunArgs,

    #[command(flatten)]
    pub benchmark: BenchmarkArgs,
}
