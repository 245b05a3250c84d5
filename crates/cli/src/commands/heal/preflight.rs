//! What a training takes, compared with what this machine has free, before it begins.

use std::path::Path;

use lopper_heal::memory::{need_of_healing, trained_bytes};
use lopper_heal::{Evaluation, HealRecipe, Keep};
use lopper_record::{Fault, LayerPosition, LayerSet, Result};

use super::cuts::CutOutput;
use super::output;
use crate::args::HealArgs;
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::{machine, table};

/// Warns where memory will be short, and refuses a disk that cannot hold the state of the training and its result.
pub fn check(
    context: &Context,
    opened: &OpenModel,
    args: &HealArgs,
    cuts: &[CutOutput],
    (recipe, evaluation): (&HealRecipe, &Evaluation),
) -> Result<()> {
    let (config, stored) = (opened.config(), opened.checkpoint.weight_bytes());
    let kept: Vec<&LayerSet<LayerPosition>> = cuts.iter().map(|cut| &cut.kept).collect();
    let need = need_of_healing("heal", config, stored, context.threads, &kept, recipe);
    if let Some(available) = machine::memory_available().filter(|available| need.total > *available) {
        context.printer.warn(&format!(
            "this training needs about {} of memory, and {} are free: the system may end it; less is needed with \
             --load-in-4bit, a smaller --r, or --train-layers last:N{}",
            table::bytes(need.total),
            table::bytes(available),
            if cuts.len() > 1 { ", or with one --drop at a time" } else { "" }
        ));
    }
    let trained: u64 = kept.iter().map(|kept| trained_bytes(config, kept, recipe)).sum();
    let result = match output::writes_model(args) {
        true => {
            let numbers: u64 = kept.iter().map(|kept| config.keep(kept).parameter_counts().total).sum();
            numbers * (output::out_dtype(opened, args).bitsize() as u64 / 8)
        }
        false => trained,
    };
    // Value and moments, the best values, and the file before it takes the place of the one from before.
    let state = trained * if evaluation.keep == Keep::Best { 4 } else { 3 };
    check_disk(machine::disk_available(&args.out), (2 * state, result), &args.out)
}

/// Refuses `available` bytes for so many of the state and of the result.
fn check_disk(available: Option<u64>, (state, result): (u64, u64), out: &Path) -> Result<()> {
    match available {
        Some(available) if state + result > available => Err(Fault::new("there is not enough space on the disk")
            .file(out)
            .expected(format!(
                "{} free: {} for the state of the training, {} for its result",
                table::bytes(state + result),
                table::bytes(state),
                table::bytes(result)
            ))
            .got(table::bytes(available))
            .hint("free some space, or choose an output on another disk")
            .into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_holds_state_and_result_or_is_refused() {
        let out = Path::new("out");
        check_disk(None, (1, 1), out).unwrap();
        check_disk(Some(3_000_000_000), (2_000_000_000, 1_000_000_000), out).unwrap();
        let fault = check_disk(Some(2_999_999_999), (2_000_000_000, 1_000_000_000), out).unwrap_err();
        let fault = fault.into_fault().unwrap();
        let expected = "3.00 GB free: 2.00 GB for the state of the training, 1.00 GB for its result";
        assert_eq!(fault.expected.as_deref(), Some(expected));
    }
}
