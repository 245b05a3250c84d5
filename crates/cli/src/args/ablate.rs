//! Arguments of `lopper ablate`.

use std::num::NonZeroUsize;

use clap::Args;

use super::{AskArgs, RunArgs};

/// `lopper ablate`
#[derive(Debug, Args)]
pub struct AblateArgs {
    /// A model directory, an id of the hub, or `pocket`
    pub model: String,

    #[command(flatten)]
    pub ask: AskArgs,

    /// Remove N neighbouring layers at a time
    #[arg(long, value_name = "N", default_value = "1")]
    pub block: NonZeroUsize,

    /// Only removals that begin with one of these layers, such as `4-20`
    #[arg(long, value_name = "LAYERS")]
    pub layers: Option<String>,

    #[command(flatten)]
    pub run: RunArgs,

    /// One JSON document: `{"model":…,"base":{"tasks":…},"removals":[{"layers":[…],"tasks":…}],…}`
    #[arg(long)]
    pub json: bool,
}
