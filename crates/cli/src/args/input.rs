//! The text that a command reads: `--text` or `--tokens`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

/// Where tokens come from.
#[derive(Debug, Args)]
pub struct InputArgs {
    /// A text file: one sequence, tokenised with its special tokens; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    pub text: Option<PathBuf>,

    /// A JSON list of lists of token ids; needs no tokenizer
    #[arg(long, value_name = "IDS.json")]
    pub tokens: Option<PathBuf>,

    /// Divide sequences that are longer than N tokens
    #[arg(long, value_name = "N")]
    pub window: Option<NonZeroUsize>,
}
