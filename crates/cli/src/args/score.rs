//! Arguments of `lopper score`.

use clap::Args;

use super::{InputArgs, RunArgs};

/// `lopper score`
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// A model directory, an id of the hub, or `pocket` (which brings calibration text of its own)
    pub model: String,

    #[command(flatten)]
    pub input: InputArgs,

    /// Leave out the change in perplexity, which costs about half as many forward passes as there are
    /// layers
    #[arg(long)]
    pub no_perplexity: bool,

    /// Also measure gradients (first-order Taylor); takes memory for weights and gradients in 32 bits
    #[arg(long, conflicts_with = "stream")]
    pub taylor: bool,

    #[command(flatten)]
    pub run: RunArgs,

    /// One JSON document: `{"block_influence":[…],"angular":{"1":[…],"2":[…],…},…}`
    #[arg(long)]
    pub json: bool,
}
