//! Arguments of `lopper lop`.

use clap::Args;
use lopper_prune::criteria::CRITERIA;

use super::HealArgs;

/// `lopper lop`
#[derive(Debug, Args)]
pub struct LopArgs {
    /// Remove layers until N are left
    #[arg(long, value_name = "N")]
    pub to: usize,

    /// Remove K layers at a time; the steps of the training are divided evenly
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub step: usize,

    #[arg(long, value_name = "NAME", default_value = "bi", help = format!(
        "Choose the layers to remove by this criterion, measured on examples with the model as it is by then: {}",
        CRITERIA.map(|criterion| criterion.name).join(", ")
    ))]
    pub criterion: String,

    #[command(flatten)]
    pub heal: HealArgs,
}
