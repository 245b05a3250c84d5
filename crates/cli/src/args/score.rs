//! Arguments of `lopper score`.

use std::path::PathBuf;

use clap::Args;

use super::{InputArgs, RunArgs};

/// `lopper score`
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// Model: a Hugging Face directory, a hub id, or `pocket` (which has calibration text of its own)
    pub model: String,

    #[command(flatten)]
    pub input: InputArgs,

    /// Score the layers with this adapter on them
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,

    /// Skip the change in perplexity without each layer, the slowest score: about one forward pass for two layers
    #[arg(long)]
    pub no_perplexity: bool,

    /// Also compute first-order Taylor importance; needs memory for weights and gradients in 32 bits
    #[arg(long, conflicts_with = "stream")]
    pub taylor: bool,

    #[command(flatten)]
    pub run: RunArgs,

    /// Print one JSON document: `{"block_influence":[…],"angular":{"1":[…],"2":[…],…},…}`
    #[arg(long)]
    pub json: bool,
}
