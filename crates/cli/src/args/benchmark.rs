//! Arguments of tasks, for every command that evaluates them.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

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

    /// Set a variable of the chat template, such as `enable_thinking=false`; repeat for more. VALUE is JSON, or else
    /// text
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub template_var: Vec<(String, Value)>,

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

/// A variable of a chat template.
fn parse_variable(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            Ok((name.trim().to_owned(), value))
        }
        _ => Err(format!("`{text}` is no variable; expected NAME=VALUE, such as `enable_thinking=false`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_or_text() {
        let value = |text: &str| parse_variable(text).map(|(name, value)| (name, value.to_string()));
        assert_eq!(value("enable_thinking=false"), Ok(("enable_thinking".into(), "false".into())));
        assert_eq!(value("tools=[1]"), Ok(("tools".into(), "[1]".into())));
        assert_eq!(value("style=a=b"), Ok(("style".into(), "\"a=b\"".into())));
        assert!(value("=1").is_err() && value("name").is_err());
    }
}
