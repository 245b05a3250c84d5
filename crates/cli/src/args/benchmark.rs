//! Arguments of tasks, for every command that evaluates them.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::{ReasoningArgs, TemplateArgs};

/// Where rows come from, and how answers are produced.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Benchmarks")]
pub struct BenchmarkArgs {
    /// Read data sets from DIR, stored as `DATA SET/CONFIG/SPLIT.parquet` (or .jsonl, .csv); splits that are not there
    /// are fetched from the hub [env: LOPPER_DATA_ROOT]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,

    /// Put K few-shot examples before each item [default: the task's own number]
    #[arg(long, value_name = "K")]
    pub shots: Option<usize>,

    /// Apply the chat template also to tasks that are plain text by default
    #[arg(long)]
    pub apply_chat_template: bool,

    /// With the chat template, put all few-shot examples into one message instead of a turn each
    #[arg(long)]
    pub examples_in_one_message: bool,

    /// Begin every prompt with TEXT: conversations with it as their system prompt, plain prompts with it as it is
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,

    /// Generate at most N tokens for each response [default: the task's own number]
    #[arg(long, value_name = "N")]
    pub max_new_tokens: Option<NonZeroUsize>,

    /// Cut off the beginning of questions that are too long for the context, instead of skipping them
    #[arg(long)]
    pub truncate_questions: bool,

    #[command(flatten)]
    pub template: TemplateArgs,

    #[command(flatten)]
    pub reasoning: ReasoningArgs,

    /// Do not stop repetitive answers early
    #[arg(long)]
    pub no_loop_stop: bool,

    /// Run the programs that the model writes, in a sandbox
    #[arg(long)]
    pub allow_code_execution: bool,

    /// Run generated code even without full sandboxing
    #[arg(long, requires = "allow_code_execution")]
    pub allow_unprotected: bool,

    /// Run generated code with this Python [default: `python3` from PATH]
    #[arg(long, value_name = "PATH", requires = "allow_code_execution")]
    pub python: Option<PathBuf>,
}
