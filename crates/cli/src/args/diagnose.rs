//! Arguments of `lopper diagnose`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::{BenchArgs, RunArgs};

/// `lopper diagnose`
#[derive(Debug, Args)]
pub struct DiagnoseArgs {
    /// A model directory, an id of the hub, or `pocket`; or a file of responses (JSON lines, `-` for standard input)
    #[arg(value_name = "MODEL|RESPONSES.jsonl")]
    pub subject: String,

    /// Compare the model without these layers, such as `21-28` or `3,8,19`
    #[arg(long, value_name = "LAYERS")]
    pub drop: Option<String>,

    /// Compare the healed cut as well: this adapter on the layers that are left
    #[arg(long, value_name = "DIR", requires = "drop")]
    pub adapter: Option<PathBuf>,

    /// Remove every single layer in turn
    #[arg(long)]
    pub sweep: bool,

    /// Items of each task, each probe and of the prompts; of a file, its first N responses [default: 100; all]
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,

    /// Tasks whose scores and failures are compared, such as `gsm8k,mbpp`; groups; files of your own. `lopper tasks`
    /// lists them [default: `pocket` for that model and its cuts, otherwise none]
    #[arg(long, value_name = "TASKS", value_delimiter = ',')]
    pub tasks: Vec<String>,

    /// Prompts to answer in place of the built-in ones, as for `lopper generate`; in 256 tokens at most, or in
    /// --max-new-tokens
    #[arg(long, value_name = "DATA")]
    pub prompts: Option<String>,

    /// Arithmetic items in place of the built-in ones: a .jsonl, .csv or .parquet file with `context` and
    /// `completion`, or a configuration of EleutherAI/arithmetic, such as `arithmetic_3ds`
    #[arg(long, value_name = "ROWS", conflicts_with_all = ["operations", "digits"])]
    pub arithmetic: Option<PathBuf>,

    /// Operations of generated arithmetic items
    #[arg(long, value_name = "N")]
    pub operations: Option<usize>,

    /// Digits of the numbers in generated arithmetic items
    #[arg(long, value_name = "N")]
    pub digits: Option<u32>,

    /// Sampling temperature; the likeliest token is taken without it, or with 0
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,

    /// Seed of items, sampling and bootstrap intervals
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Raise the alarm when classification keeps more than generation by this share
    #[arg(long, value_name = "SHARE", default_value_t = lopper_diagnose::sentinel::GAP_THRESHOLD)]
    pub gap: f64,

    /// Write the record, the report and the whole ledger into this new directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Compare a file of judged responses with the uncut model's: samples of `lopper eval` or of lm-evaluation-harness
    #[arg(long, value_name = "UNCUT.jsonl")]
    pub base: Option<PathBuf>,

    /// Write every item that was lost or gained to F.jsonl
    #[arg(long, value_name = "F.jsonl")]
    pub ledger_out: Option<PathBuf>,

    /// Write the figures of every response of a file to F.jsonl
    #[arg(long, value_name = "F.jsonl")]
    pub figures_out: Option<PathBuf>,

    /// Replace F.jsonl or the files in DIR if they exist
    #[arg(long)]
    pub force: bool,

    /// One JSON document: of a model `{"model":…,"uncut":…,"cut":…,"healed":…,"sweep":[…],…}`, of a file its figures
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub run: RunArgs,

    #[command(flatten)]
    pub bench: BenchArgs,
}
