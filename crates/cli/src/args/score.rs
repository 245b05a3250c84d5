//! Arguments of `lopper score`.

use clap::Args;

use super::InputArgs;

/// `lopper score`
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// A model directory, an id of the hub, or `pocket` (which brings calibration text of its own)
    pub model: String,

    #[command(flatten)]
    pub input: InputArgs,

    /// One JSON document: `{"block_influence":[…],"angular":{"1":[…],"2":[…],…},…}`
    #[arg(long)]
    pub json: bool,
}
