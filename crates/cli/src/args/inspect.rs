//! Arguments of `lopper inspect`.

use clap::Args;

/// `lopper inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Model: a Hugging Face directory, a hub id, or `pocket`
    pub model: String,

    /// Also compute the model's hash, which reads all weights
    #[arg(long)]
    pub hash: bool,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}
