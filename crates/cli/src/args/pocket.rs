//! Arguments of `lopper pocket`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `lopper pocket`
#[derive(Debug, Args)]
pub struct PocketArgs {
    #[command(subcommand)]
    pub command: PocketCommand,
}

/// What to do with the pocket model.
#[derive(Debug, Subcommand)]
pub enum PocketCommand {
    /// Write generated items of a task as JSON lines
    Data(DataArgs),
    /// Train the pocket model from random weights, or continue
    Train(TrainArgs),
}

/// `lopper pocket data`
#[derive(Debug, Args)]
pub struct DataArgs {
    /// The task, such as `pocket_word`; `lopper eval --help` lists them
    pub task: String,

    /// `train`, `select` or `report`; no item is in two of them
    #[arg(long, default_value = "train")]
    pub split: String,

    /// Items to write
    #[arg(short, long, value_name = "N", default_value_t = 1000)]
    pub number: usize,

    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Replace an existing file
    #[arg(long)]
    pub force: bool,
}

/// `lopper pocket train`
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Where the training state lives and the finished model goes (`DIR/model`)
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,

    /// Optimiser steps of 8192 tokens in all
    #[arg(long, value_name = "N", default_value_t = lopper_study::pocket::STEPS)]
    pub steps: usize,

    /// Held-out items per task in the model card's table
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub eval_items: usize,
}
