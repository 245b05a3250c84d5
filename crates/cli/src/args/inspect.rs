//! Arguments of `lopper inspect`.

use clap::Args;

/// `lopper inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A model directory, an id of the hub, or `pocket`
    pub model: String,

    /// Also tell the model's hash, which reads all weights
    #[arg(long)]
    pub hash: bool,

    /// One JSON document
    #[arg(long)]
    pub json: bool,
}
