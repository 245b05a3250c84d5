//! Arguments of `lopper pocket`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lopper_study::pocket::{STEPS, recipe};

/// `lopper pocket`
#[derive(Debug, Args)]
pub struct PocketArgs {
    #[command(subcommand)]
    pub command: PocketCommand,
}

/// What to do with the pocket model.
#[derive(Debug, Subcommand)]
pub enum PocketCommand {
    /// Generate items of a task and write them as JSON lines
    Data(DataArgs),
    /// Train the pocket model from random weights, or continue its training
    Train(TrainArgs),
}

/// `lopper pocket data`
#[derive(Debug, Args)]
pub struct DataArgs {
    /// Task, such as `pocket_word`; `lopper tasks` lists them
    pub task: String,

    /// Take items of the split `train`, `select` or `report`; no item is in two of them
    #[arg(long, default_value = "train")]
    pub split: String,

    /// Write N items
    #[arg(short, long, value_name = "N", default_value_t = 1000)]
    pub number: usize,

    /// Seed for the items
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Write to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Overwrite FILE if it exists
    #[arg(long)]
    pub force: bool,
}

/// `lopper pocket train`
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Keep the training state in DIR, and write the finished model to DIR/model
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,

    #[arg(long, value_name = "N", default_value_t = STEPS, help = format!(
        "Train for N optimizer steps in all, each of {} tokens", recipe(STEPS).batch_tokens
    ))]
    pub steps: usize,

    /// Evaluate N held-out items of each task for the model card
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub eval_items: usize,
}
