//! `lopper plan`: what a cut is, for people and for other tools.

use lopper_prune::Plan;
use lopper_record::Result;

use crate::args::{PlanArgs, PlanCommand, ShowArgs};
use crate::context::Context;

pub fn run(context: &Context, args: &PlanArgs) -> Result<()> {
    match &args.command {
        PlanCommand::Show(args) => show(context, args),
    }
}

fn show(context: &Context, args: &ShowArgs) -> Result<()> {
    let plan = Plan::read(&args.plan)?;
    if args.json {
        return context.printer.json(&plan);
    }
    let Some(format) = args.format else { return context.printer.result(&human(&plan)) };
    if let Some(original) = &plan.original {
        context.printer.note(&format!(
            "layers are numbered as in `{}`, the original of `{}`, from which {} had been removed before",
            original.id,
            plan.source.id,
            original.num_hidden_layers.saturating_sub(plan.source.num_hidden_layers)
        ));
    }
    context.printer.result(&plan.export(format.into()))
}

fn human(plan: &Plan) -> String {
    let model = |model: &lopper_prune::ModelId| {
        format!("{} ({} layers, hash {})", model.id, model.num_hidden_layers, model.hash)
    };
    let mut lines = vec![("source", model(&plan.source))];
    lines.extend(plan.original.as_ref().map(|original| ("cut from", model(original))));
    lines.push(("removed", plan.dropped.to_string()));
    lines.push(("kept", plan.kept.to_string()));
    lines.push(("counted", plan.layer_numbering.clone()));
    lines.push(("chosen by", plan.choice.criterion.clone()));
    lines.extend(plan.choice.seed.map(|seed| ("seed", seed.to_string())));
    if let Some(text) = &plan.choice.calibration {
        lines.push(("text", format!("{} tokens in {} sequences, hash {}", text.tokens, text.sequences, text.hash)));
    }
    lines.extend(plan.command.clone().map(|command| ("command", command)));
    for change in &plan.config_changes {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "(absent)".to_owned());
        lines.push(("config.json", format!("{}: {} → {}", change.key, value(&change.before), value(&change.after))));
    }
    if let Some(v) = &plan.verification {
        let text = format!(
            "logits differ by at most {:e} from {}, over {} tokens (allowed: {:e})",
            v.max_logit_difference, v.compared_with, v.tokens, v.tolerance
        );
        lines.push(("verified", text));
    }
    lines.push(("made with", format!("Lopper {}", plan.lopper_version)));
    lines.into_iter().map(|(label, value)| format!("{label:<11} {value}")).collect::<Vec<_>>().join("\n")
}
