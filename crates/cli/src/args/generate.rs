//! Arguments of `lopper generate`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::RunArgs;

/// `lopper generate`
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// A model directory, an id of the hub, or `pocket`
    pub model: String,

    /// JSON lines with `prompt`, `messages` or `instruction`; or `pocket` for generated prompts
    #[arg(long, value_name = "DATA")]
    pub prompts: String,

    /// The file of answers to write: JSON lines with `messages`
    #[arg(short, long, value_name = "OUT")]
    pub out: PathBuf,

    /// Take the first N prompts [default: all; 1000 of `pocket`]
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,

    /// System prompt for prompts that bring none; empty for none
    /// [default: "You are a helpful assistant."; none for the pocket model, which was taught none]
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,

    /// Sampling temperature; 0 takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.9)]
    pub temperature: f64,

    /// Sample from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    pub top_p: f64,

    /// Sample from the K likeliest tokens only
    #[arg(long, value_name = "K")]
    pub top_k: Option<NonZeroUsize>,

    /// Seed; each answer depends on it and on the prompt's place only
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Longest answer, in tokens; prompt and answer also have to fit the model's context
    #[arg(long, value_name = "N", default_value = "1024")]
    pub max_new_tokens: NonZeroUsize,

    /// Answer without these layers, such as `21-28` or `3,8,19`
    #[arg(long, value_name = "LAYERS")]
    pub drop: Option<String>,

    #[command(flatten)]
    pub run: RunArgs,

    /// Replace OUT if it exists, and start over
    #[arg(long)]
    pub force: bool,
}
