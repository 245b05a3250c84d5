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
    /// Tell what a plan cuts, or write it as another tool takes it
    Show(ShowArgs),
}

/// `lopper plan show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The plan
    #[arg(value_name = "cut.json")]
    pub plan: PathBuf,

    /// Print only the layers, as another tool takes them
    #[arg(long = "as", value_name = "TOOL", value_enum, conflicts_with = "json")]
    pub format: Option<FormatArg>,

    /// Print the plan as it is read, as one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Whose notation.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FormatArg {
    /// Lopper's own `--drop`: ranges, counted from 0
    Layers,
    /// A mergekit configuration: `passthrough` of the kept slices
    Mergekit,
    /// llama-quantize's `--prune-layers`: counted from 0
    #[value(name = "llama.cpp")]
    LlamaCpp,
    /// NeMo's `--drop_layers`: counted from 1
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
