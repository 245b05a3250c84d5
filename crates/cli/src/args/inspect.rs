//! Arguments of `lopper inspect`.

use std::path::PathBuf;

use clap::Args;

/// `lopper inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Model: a Hugging Face directory, a hub id, or `pocket`
    pub model: String,

    /// Also say what this adapter is: its kind, its layers and modules, and whether it fits the model
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,

    /// Also compute the model's hash, which reads all weights
    #[arg(long)]
    pub hash: bool,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}
