//! Arguments of `lopper generate`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use lopper_heal::SgrOptions;
use lopper_infer::Sampling;

use super::{ReasoningArgs, RowArgs, RunArgs, TemplateArgs, nonzero};
use crate::prompts::POCKET_PROMPTS;

/// The default temperature and top-p.
fn sampling() -> (f64, f64) {
    match SgrOptions::default().sampling {
        Sampling::Sample { temperature, top_p, .. } => (temperature, top_p.unwrap_or(1.0)),
        Sampling::Greedy => (0.0, 1.0),
    }
}

/// `lopper generate`
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Model: a Hugging Face directory, a hub id, or `pocket`
    pub model: String,

    /// Answer these prompts: a file of rows (JSON Lines, JSON, CSV, Parquet) or a data set of the hub
    /// (`organisation/name`) with `messages`, `conversations`, `prompt`, `instruction` or `question`; tasks such as
    /// `gsm8k` or `pocket_word,pocket_code` for prompts of their training splits, `pocket` for those of the pocket
    /// tasks that are conversations; or `own` for prompts that the model writes itself
    #[arg(long, value_name = "DATA")]
    pub prompts: String,

    /// Write the conversations with their answers and tokens to OUT, as JSON lines with `messages`
    #[arg(short, long, value_name = "OUT")]
    pub out: PathBuf,

    #[arg(long, value_name = "N", help = format!(
        "Answer only the first N prompts [default: all, or {POCKET_PROMPTS} of generated tasks and of `own`]"
    ))]
    pub limit: Option<NonZeroUsize>,

    #[arg(long, value_name = "TEXT", help = format!(
        "Put this system prompt before prompts without one; an empty text stands for none [default: \"{}\", but none \
         where the chat template has no system role, nor for the pocket model]",
        SgrOptions::default().system.unwrap_or_default()
    ))]
    pub system: Option<String>,

    /// Sample with this temperature; 0 means greedy decoding
    #[arg(long, value_name = "T", default_value_t = sampling().0)]
    pub temperature: f64,

    /// Sample only from the most likely tokens whose probabilities sum to P
    #[arg(long, value_name = "P", default_value_t = sampling().1)]
    pub top_p: f64,

    /// Sample only from the K most likely tokens
    #[arg(long, value_name = "K")]
    pub top_k: Option<NonZeroUsize>,

    /// Sample K answers to each prompt, each with its own seed and noted with its number (`sample`)
    #[arg(long, value_name = "K", default_value = "1")]
    pub samples: NonZeroUsize,

    /// Keep all answers, or none that the grader of its prompt's task finds wrong (answers that were cut off are wrong;
    /// those that it cannot grade are kept)
    #[arg(long, value_enum, default_value_t = KeepAnswersArg::All)]
    pub keep: KeepAnswersArg,

    /// Seed for sampling; each answer depends only on this seed, the number of its prompt and its own number
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Generate at most N tokens for each answer; prompt and answer together have to fit into the context
    #[arg(long, value_name = "N", default_value_t = nonzero(SgrOptions::default().max_new_tokens))]
    pub max_new_tokens: NonZeroUsize,

    /// Generate without these layers, such as `21-28` or `3,8,19`
    #[arg(long, value_name = "LAYERS")]
    pub drop: Option<String>,

    /// Generate with this adapter on the remaining layers
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,

    #[command(flatten)]
    pub rows: RowArgs,

    #[command(flatten)]
    pub template: TemplateArgs,

    #[command(flatten)]
    pub reasoning: ReasoningArgs,

    #[command(flatten)]
    pub run: RunArgs,

    /// Overwrite OUT if it exists, and start over
    #[arg(long)]
    pub force: bool,
}

/// Which answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeepAnswersArg {
    /// All of them; those to prompts of tasks say whether they are right (`verified`)
    All,
    /// Those that are not wrong
    Verified,
}
