//! Arguments of `lopper logprobs`.

use std::path::PathBuf;

use clap::Args;

use super::{InputArgs, RunArgs};

/// `lopper logprobs`
#[derive(Debug, Args)]
pub struct LogprobsArgs {
    /// Model: a Hugging Face directory, a hub id, or `pocket`
    pub model: String,

    #[command(flatten)]
    pub input: InputArgs,

    /// Compute without these layers, such as `21-28` or `3,8,19`
    #[arg(long, value_name = "LAYERS")]
    pub drop: Option<String>,

    /// Compute with this adapter on the remaining layers
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,

    #[command(flatten)]
    pub run: RunArgs,

    /// Print one JSON document: `{"sequences":[{"tokens":[…],"logprobs":[null,…]}],"mean_nll":x}`
    #[arg(long)]
    pub json: bool,
}
