//! Arguments of `lopper heal`. What is not given comes from the recipe for the model's size.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `lopper heal`
#[derive(Debug, Args)]
pub struct HealArgs {
    /// A model directory, an id of the hub, or `pocket`
    pub model: String,

    /// JSON lines with `messages`, as `lopper generate` writes them, or with `prompt` and `response`
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,

    /// What is trained
    #[arg(long, value_enum, default_value_t = MethodArg::Lora)]
    pub method: MethodArg,

    /// Directory to write the adapter or the model to
    #[arg(short, long, value_name = "OUT")]
    pub out: PathBuf,

    /// Heal the model without these layers, such as `21-28` or `3,8,19`
    #[arg(long, value_name = "LAYERS")]
    pub drop: Option<String>,

    /// Write a whole model, with the adapter folded into its weights
    #[arg(long)]
    pub merge: bool,

    /// Times that every example is seen [default: 1]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,

    /// Learning rate after the warm-up [default: 2e-4; larger for models below 50M parameters]
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f64>,

    /// Steps over which the learning rate rises [default: 50; 10 below 50M parameters]
    #[arg(long, value_name = "STEPS")]
    pub warmup: Option<usize>,

    /// Examples per step [default: 8; 64 below 50M parameters]
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,

    /// Rank of the adapter [default: 64; 16 below 50M parameters]
    #[arg(long, value_name = "RANK")]
    pub r: Option<usize>,

    /// The adapter is scaled by alpha / r [default: 16; 32 below 50M parameters]
    #[arg(long)]
    pub alpha: Option<f64>,

    /// Dropout on the way into the adapter [default: 0.05]
    #[arg(long, value_name = "P")]
    pub dropout: Option<f64>,

    /// Leave out examples of more tokens [default: 8192, and never beyond the model's context]
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,

    /// Keep less in memory and compute it again [default: true; false below 50M parameters]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub checkpointing: Option<bool>,

    /// Round the operands of matrix products to bf16, which is faster where the processor can
    #[arg(long)]
    pub bf16: bool,

    /// Seed of the adapter's first weights, the order of the examples, and dropout
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Replace OUT if it exists, and start over
    #[arg(long)]
    pub force: bool,

    /// Print what was done as one JSON document
    #[arg(long)]
    pub json: bool,
}

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MethodArg {
    /// A low-rank adapter, in PEFT's layout
    Lora,
    /// Every weight
    Full,
}
