//! Arguments of tasks over rows of data sets, for every command that asks tasks.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

/// How tasks over rows are asked.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Benchmarks")]
pub struct BenchArgs {
    /// Directory that holds the rows, as `DATA SET/CONFIG/SPLIT.parquet` (or .jsonl, .csv); what it lacks comes from
    /// the hub [env: LOPPER_DATA_ROOT]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,

    /// Worked examples before each item [default: the task's own number]
    #[arg(long, value_name = "K")]
    pub shots: Option<usize>,

    /// Ask in the model's chat template also what would be asked in plain text
    #[arg(long)]
    pub apply_chat_template: bool,

    /// In conversation, put worked examples into one message instead of turns of their own
    #[arg(long)]
    pub examples_in_one_message: bool,

    /// What precedes every conversation, or plain prompt
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,

    /// Most tokens of a response [default: the task's own number]
    #[arg(long, value_name = "N")]
    pub max_new_tokens: Option<NonZeroUsize>,

    /// Cut the beginning off questions that do not fit into the context, instead of leaving them out
    #[arg(long)]
    pub truncate_questions: bool,

    /// Run the programs that the model writes, apart from this machine as far as it allows
    #[arg(long)]
    pub allow_code_execution: bool,

    /// Run them also where this machine cannot protect itself
    #[arg(long, requires = "allow_code_execution")]
    pub allow_unprotected: bool,

    /// The Python that runs them [default: python3 of the search path]
    #[arg(long, value_name = "PATH", requires = "allow_code_execution")]
    pub python: Option<PathBuf>,
}
