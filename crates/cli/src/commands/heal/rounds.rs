//! The choice of layers that `lopper lop` removes.

use lopper_heal::{Choose, Document, Rounds};
use lopper_model::Model;
use lopper_prune::Calibration;
use lopper_prune::criteria::{self, Criterion, Measures, Request};
use lopper_record::{Fault, LayerPosition, LayerSet, Progress, Result};

use crate::args::LopArgs;
use crate::context::Context;

/// Most examples that layers are scored on.
const EXAMPLES: usize = 64;

/// How many layers go.
pub fn removed(args: &LopArgs, layers: usize) -> Result<usize> {
    if !(1..layers).contains(&args.to) {
        return Err(Fault::new("--to is the number of layers that are left")
            .expected(format!("from 1 to {}", layers.saturating_sub(1)))
            .got(args.to.to_string())
            .hint("`lopper inspect` shows how many the model has")
            .into());
    }
    if !(1..=layers - args.to).contains(&args.step) {
        return Err(Fault::new("--step is the number of layers that are removed at a time")
            .expected(format!("from 1 to {}, all at once", layers - args.to))
            .got(args.step.to_string())
            .hint("leave it out to remove one at a time")
            .into());
    }
    criteria::criterion(&args.criterion)?;
    Ok(layers - args.to)
}

/// Chooses layers by a criterion, on examples of the training.
pub struct Choice<'a> {
    context: &'a Context,
    criterion: &'static Criterion,
    calibration: Calibration,
    seed: u64,
}

impl<'a> Choice<'a> {
    pub fn new(context: &'a Context, args: &LopArgs, examples: &[Document]) -> Result<Self> {
        let sequences = examples.iter().take(EXAMPLES).map(|document| document.tokens.clone()).collect();
        let criterion = criteria::criterion(&args.criterion)?;
        Ok(Self { context, criterion, calibration: Calibration::new(sequences)?, seed: args.heal.seed })
    }

    /// The layers of `model` to remove.
    pub fn choose(&self, model: &Model, remove: usize, progress: &dyn Progress) -> Result<LayerSet<LayerPosition>> {
        let Self { context, criterion, calibration, seed } = self;
        let mut scores = None;
        if criterion.needs_scores {
            let what = Measures { perplexity: criterion.name == "perplexity", linear: criterion.name == "linear" };
            let mut measured = criteria::measure(&context.engine(model.clone())?, calibration, what, progress)?;
            if criterion.name == "taylor" {
                measured.taylor = Some(criteria::taylor(model, calibration, progress)?);
            }
            scores = Some(measured);
        }
        let request = Request { num_layers: model.num_layers(), remove, scores: scores.as_ref(), seed: *seed };
        Ok(criteria::select(criterion, &request)?.dropped)
    }
}

/// The rounds of `args`, which remove so many layers in all.
pub fn rounds<'a>(args: &'a LopArgs, remove: usize, choose: &'a Choose<'a>) -> Rounds<'a> {
    Rounds { remove, at_once: args.step, criterion: &args.criterion, choose }
}
