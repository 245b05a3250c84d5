//! Arguments of `lopper plan`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use lopper_prune::PlanFormat;

/// `lopper plan`
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(subcommand)]
    pub command: PlanCommand,
}

/// What to do with a plan.
#[derive(Debug, Subcommand)]
pub enum PlanCommand {
    /// Show what a plan removes, or print it in the format of another tool
    Show(ShowArgs),
}

/// `lopper plan show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Plan: a `cut.json` of `lopper prune` or `lopper search`, or a mergekit configuration
    #[arg(value_name = "cut.json")]
    pub plan: PathBuf,

    /// Print only the layers, in another tool's format
    #[arg(long = "as", value_name = "TOOL", value_enum, conflicts_with = "json")]
    pub format: Option<FormatArg>,

    /// Print the plan as one JSON document
    #[arg(long)]
    pub json: bool,
}

/// The tools whose formats are known.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FormatArg {
    /// Lopper's `--drop`: ranges, counted from 0
    Layers,
    /// mergekit: a configuration that merges the kept slices with `passthrough`
    Mergekit,
    /// llama.cpp: `llama-quantize --prune-layers`, counted from 0
    #[value(name = "llama.cpp")]
    LlamaCpp,
    /// NeMo: `--drop_layers`, counted from 1
    Nemo,
}

impl From<FormatArg> for PlanFormat {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Layers => Self::Layers,
            FormatArg::Mergekit => Self::Mergekit,
            FormatArg::LlamaCpp => Self::LlamaCpp,
            FormatArg::Nemo => Self::Nemo,
        }
    }
}
