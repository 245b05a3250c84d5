//! Arguments of `lopper prune`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use lopper_prune::CompensationMethod;
use lopper_prune::criteria::CRITERIA;

use super::{InputArgs, OutDtypeArg};

/// `lopper prune`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["drop", "drop_one_based", "plan", "criterion"]))]
pub struct PruneArgs {
    /// Model: a Hugging Face directory, a hub id, or `pocket`
    pub model: String,

    /// Remove these layers, such as `21-28` or `3,8,19`
    #[arg(long, value_name = "LAYERS")]
    pub drop: Option<String>,

    /// Remove these layers, counted from 1 as in NeMo's `--drop_layers`
    #[arg(long, value_name = "LAYERS")]
    pub drop_one_based: Option<String>,

    /// Remove the layers of this plan: a cut.json, or a mergekit configuration (`passthrough` of slices of one model)
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,

    #[arg(long, value_name = "NAME", requires = "remove", help = format!(
        "Remove the layers that a criterion chooses: {}",
        CRITERIA.map(|criterion| criterion.name).join(", ")
    ))]
    pub criterion: Option<String>,

    /// Remove N layers, which the criterion chooses
    #[arg(long, value_name = "N", requires = "criterion")]
    pub remove: Option<usize>,

    #[command(flatten)]
    pub input: InputArgs,

    /// Fold this adapter into the weights that are written. It may have been trained on MODEL, each layer's part then
    /// goes with the layer, or on the cut. The loss of the written model on a text (`--text`, `--tokens`, or a
    /// built-in one) is compared with that of the adapter apart
    #[arg(long, value_name = "DIR", conflicts_with = "compensate")]
    pub adapter: Option<PathBuf>,

    /// Store the weights in this type, with --adapter [default: that of MODEL]
    #[arg(long, value_name = "DTYPE", value_enum, requires = "adapter")]
    pub out_dtype: Option<OutDtypeArg>,

    /// Change weights of the kept layers, without training, to make up for the removed ones: fit a linear map over
    /// calibration text (`--text` or `--tokens`) and fold it into the down projection before each gap, or scale the
    /// hidden states to their size after it
    #[arg(long, value_name = "METHOD")]
    pub compensate: Option<CompensateArg>,

    /// Seed for the criterion `random`
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Refuse cuts that break a periodic pattern of attention windows or positions, which some programs rely on
    #[arg(long)]
    pub keep_pattern: bool,

    /// Do not compare the logits of the written model with those of its source (every tensor is still compared), and
    /// with --adapter not its loss
    #[arg(long)]
    pub no_verify: bool,

    /// Write the pruned model to this directory
    #[arg(short, long, value_name = "OUT")]
    pub out: PathBuf,

    /// Overwrite OUT if it exists, and follow a mergekit configuration that names another model
    #[arg(long)]
    pub force: bool,
}

/// The methods of `--compensate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompensateArg {
    /// A linear map in the down projection before each gap (ReplaceMe); needs a text of many more tokens than the model
    /// is wide
    Linear,
    /// A factor in the layers after each gap (Prune&Comp); needs little text
    Magnitude,
}

impl From<CompensateArg> for CompensationMethod {
    fn from(arg: CompensateArg) -> Self {
        match arg {
            CompensateArg::Linear => Self::Linear,
            CompensateArg::Magnitude => Self::Magnitude,
        }
    }
}
