//! `lopper prune --compensate`: the text it takes, and what it did.

use lopper_model::{Config, Model};
use lopper_prune::compensation::{self, HeldOutLoss, RIDGE, Split, held_out_loss};
use lopper_prune::{
    Compensated, CompensatedGap, Compensation, CompensationLoss, CompensationMethod, CompensationOptions, Plan,
    compensate,
};
use lopper_record::Result;

use crate::args::InputArgs;
use crate::commands::score;
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::table;

/// Tokens of a window, where the user does not say.
const WINDOW: usize = 512;
/// Fewer tokens for each unit of the model's width deserve a remark.
const COMFORTABLE: usize = 50;

/// A method with its calibration text, checked as far as it can be without the layers.
pub struct Prepared {
    method: CompensationMethod,
    split: Split,
}

impl Prepared {
    pub fn new(context: &Context, opened: &OpenModel, args: &InputArgs, method: CompensationMethod) -> Result<Self> {
        let config = opened.config();
        compensation::check_family(config, method)?;
        let calibration = score::calibration(context, opened, args)?;
        let window = args.window.map_or(WINDOW.min(config.max_position_embeddings), |window| window.get());
        let split = compensation::split(&calibration, window, config.hidden_size)?;
        let prepared = Self { method, split };
        prepared.check_tokens(context, config)?;
        Ok(prepared)
    }

    fn check_tokens(&self, context: &Context, config: &Config) -> Result<()> {
        let (tokens, width) = (self.split.fit.tokens(), config.hidden_size);
        compensation::check_tokens(config, tokens, self.method)?;
        if self.method == CompensationMethod::Linear && tokens < COMFORTABLE * width {
            context.printer.warn(&format!(
                "{} tokens are few for a linear map of width {width}: it may fit this text and help no other; {} are \
                 better",
                table::count(tokens as u64),
                table::count((COMFORTABLE * width) as u64)
            ));
        }
        if self.split.unused > 0 {
            context.printer.note(&format!(
                "{} tokens of the text are not used, as the hidden states of all would take too much memory",
                table::count(self.split.unused as u64)
            ));
        }
        Ok(())
    }

    /// Refuses a cut that the method cannot compensate.
    pub fn check(&self, opened: &OpenModel, plan: &Plan) -> Result<()> {
        let kept = plan.kept_positions(&opened.checkpoint)?;
        compensation::check_compensation(opened.config(), &kept, self.split.fit.tokens(), self.method)
    }

    /// Compensates the cut, and adds to the plan what was done.
    pub fn run(&self, context: &Context, opened: &OpenModel, plan: &mut Plan) -> Result<Compensated> {
        let kept = plan.kept_positions(&opened.checkpoint)?;
        let model: Model = opened.model(context)?;
        let options =
            CompensationOptions { stored_in: Some(&opened.checkpoint), ..CompensationOptions::new(self.method) };
        let compensated = compensate(&model, &kept, &self.split.fit, &options, &context.progress)?;
        let engine = context.engine(model)?;
        let loss = held_out_loss(&engine, &kept, &compensated.model, &self.split.held_out, &context.progress)?;
        self.report(context, &loss);
        let numbering = opened.numbering()?;
        let gap = |gap: &compensation::GapFit| {
            Ok(CompensatedGap { removed: numbering.originals(&gap.removed)?, factor: gap.factor, error: gap.error })
        };
        plan.compensation = Some(Compensation {
            method: self.method,
            ridge: (self.method == CompensationMethod::Linear).then_some(RIDGE),
            fitted_to: self.split.fit.id(),
            held_out: self.split.held_out.id(),
            loss: CompensationLoss {
                uncut: loss.uncut,
                cut: loss.cut,
                compensated: loss.compensated,
                change_ci95: loss.change_ci95,
            },
            gaps: compensated.gaps.iter().map(gap).collect::<Result<_>>()?,
            changed: compensated.changed.clone(),
        });
        Ok(compensated)
    }

    fn report(&self, context: &Context, loss: &HeldOutLoss) {
        let change = loss.compensated - loss.cut;
        let interval = match loss.change_ci95 {
            Some([low, high]) => format!("95 % interval {low:+.4} to {high:+.4}"),
            None => "without an interval, which takes several sequences".to_owned(),
        };
        context.printer.note(&format!(
            "loss on {} held-out tokens, in nats per token: {:.4} uncut, {:.4} cut, {:.4} compensated ({change:+.4}, \
             {interval})",
            table::count(self.split.held_out.tokens() as u64),
            loss.uncut,
            loss.cut,
            loss.compensated,
        ));
        if change >= 0.0 {
            context.printer.warn(&format!(
                "compensating by `{}` does not lower the loss on held-out text: prune without it, or give a longer text",
                self.method.name()
            ));
        }
    }
}
