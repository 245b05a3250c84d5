//! Arguments of `lopper ablate`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::{RunArgs, TaskSelectionArgs};

/// `lopper ablate`
#[derive(Debug, Args)]
pub struct AblateArgs {
    /// Model: a Hugging Face directory, a hub id, or `pocket`
    pub model: String,

    /// Remove N consecutive layers at a time
    #[arg(long, value_name = "N", default_value = "1")]
    pub block: NonZeroUsize,

    /// Try only removals that begin at one of these layers, such as `4-20`
    #[arg(long, value_name = "LAYERS")]
    pub layers: Option<String>,

    /// Remove layers from the model with this adapter; each layer's part of it goes with the layer
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,

    #[command(flatten)]
    pub run: RunArgs,

    /// Print one JSON document: `{"model":…,"base":{"tasks":…},"removals":[{"layers":[…],"tasks":…}],…}`
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub selection: TaskSelectionArgs,
}
