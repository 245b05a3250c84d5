//! The text that a command reads: `--text` or `--tokens`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

/// The source of the tokens.
#[derive(Debug, Args)]
pub struct InputArgs {
    /// Read a text file as one sequence, tokenized with its special tokens; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    pub text: Option<PathBuf>,

    /// Read a JSON list of lists of token ids; needs no tokenizer
    #[arg(long, value_name = "IDS.json")]
    pub tokens: Option<PathBuf>,

    /// Split sequences that are longer than N tokens
    #[arg(long, value_name = "N")]
    pub window: Option<NonZeroUsize>,
}
