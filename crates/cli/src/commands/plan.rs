//! `lopper plan`: what a cut is, for people and for other tools.

use std::path::Path;

use lopper_prune::{Choice, MergekitCut, Plan};
use lopper_record::{Fault, Result};
use serde_json::json;

use crate::args::{FormatArg, PlanArgs, PlanCommand, ShowArgs};
use crate::context::Context;
use crate::open_model::{OpenModel, POCKET};

pub fn run(context: &Context, args: &PlanArgs) -> Result<()> {
    match &args.command {
        PlanCommand::Show(args) => show(context, args),
    }
}

fn show(context: &Context, args: &ShowArgs) -> Result<()> {
    let plan = match MergekitCut::read(&args.plan)? {
        None => Plan::read(&args.plan)?,
        Some(cut) => match of_mergekit(context, args, &cut)? {
            Some(plan) => plan,
            None => return show_mergekit(context, args, &cut),
        },
    };
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
    if matches!(format, FormatArg::LlamaCpp) {
        llama_cpp_warning(&plan).iter().for_each(|warning| context.printer.warn(warning));
    }
    if let Some(compensation) = &plan.compensation {
        context.printer.warn(&format!(
            "the cut was compensated by `{}`: other tools make it without the changed weights",
            compensation.method.name()
        ));
    }
    context.printer.result(&plan.export(format.into()))
}

/// The plan that a mergekit configuration describes, where the model that it names is on this machine: only the model
/// says how many layers there are.
fn of_mergekit(context: &Context, args: &ShowArgs, cut: &MergekitCut) -> Result<Option<Plan>> {
    if cut.model != POCKET && !Path::new(&cut.model).is_dir() {
        return Ok(None);
    }
    let opened = OpenModel::open(context, &cut.model)?;
    let dropped = cut.dropped(&opened.numbering()?, &args.plan)?;
    // The hash costs a read of all weights, and is part of the document only.
    let make = if args.json { Plan::new } else { Plan::unhashed };
    make(&opened.checkpoint, &opened.name, &dropped, Choice::given()).map(Some)
}

/// Shows a mergekit configuration of a model that is not here.
fn show_mergekit(context: &Context, args: &ShowArgs, cut: &MergekitCut) -> Result<()> {
    if args.json {
        let kept: Vec<usize> = cut.kept.indices().collect();
        return context.printer.json(&json!({"model": cut.model, "dtype": cut.dtype, "kept": kept}));
    }
    if args.format.is_some() {
        return Err(Fault::new("a mergekit configuration does not say how many layers its model has")
            .file(&args.plan)
            .expected("a cut.json, or a configuration that names a directory of this machine")
            .got(format!("`{}`", cut.model))
            .hint("`lopper prune MODEL --plan FILE -o OUT` writes a cut.json")
            .into());
    }
    let lines = [("source", cut.model.clone()), ("kept", cut.kept.to_string())];
    let dtype = cut.dtype.iter().map(|dtype| ("dtype", dtype.clone()));
    let made = [("made with", "mergekit".to_owned())];
    context.printer.result(&table(lines.into_iter().chain(dtype).chain(made)))
}

/// What llama-quantize gets wrong: it renumbers tensors and counts them anew, and copies all other metadata of the
/// uncut model, among it what is special about each layer (`src/llama-quant.cpp`).
fn llama_cpp_warning(plan: &Plan) -> Option<String> {
    let counts = ["num_hidden_layers", "num_layers", "n_layer", "n_layers"];
    let by_layer = plan.config_changes.iter().map(|change| change.key.as_str()).filter(|key| !counts.contains(key));
    let by_layer: Vec<&str> = by_layer.collect();
    let advice = "convert the directory that `lopper prune` writes instead";
    match (by_layer.is_empty(), plan.config_changes.is_empty()) {
        (false, _) => Some(format!(
            "llama-quantize keeps per-layer metadata of the uncut model, and this cut changes {}: {advice}",
            by_layer.join(", ")
        )),
        (true, false) => None,
        (true, true) => Some(format!(
            "llama-quantize keeps per-layer metadata of the uncut model (attention windows, layers without positions); \
             if the model has such layers, {advice}"
        )),
    }
}

fn human(plan: &Plan) -> String {
    let model = |model: &lopper_prune::ModelId| {
        let hash = if model.hash.is_empty() { String::new() } else { format!(", hash {}", model.hash) };
        format!("{} ({} layers{hash})", model.id, model.num_hidden_layers)
    };
    let mut lines = vec![("source", model(&plan.source))];
    lines.extend(plan.original.as_ref().map(|original| ("cut from", model(original))));
    lines.push(("removed", plan.dropped.to_string()));
    lines.push(("kept", plan.kept.to_string()));
    lines.push(("counted", plan.layer_numbering.clone()));
    lines.push(("chosen by", plan.choice.criterion.clone()));
    lines.extend(plan.choice.seed.map(|seed| ("seed", seed.to_string())));
    if let Some(order) = &plan.choice.order {
        let layers: Vec<String> = order.iter().map(ToString::to_string).collect();
        lines.push(("order", layers.join(", ")));
    }
    if let Some(text) = &plan.choice.calibration {
        lines.push(("text", format!("{} tokens in {} sequences, hash {}", text.tokens, text.sequences, text.hash)));
    }
    lines.extend(plan.command.clone().map(|command| ("command", command)));
    for change in &plan.config_changes {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "(absent)".to_owned());
        lines.push(("config.json", format!("{}: {} → {}", change.key, value(&change.before), value(&change.after))));
    }
    if let Some(c) = &plan.compensation {
        let text = format!(
            "{}, fitted to {} tokens; loss on {} others {:.4} uncut, {:.4} cut, {:.4} compensated",
            c.method.name(),
            c.fitted_to.tokens,
            c.held_out.tokens,
            c.loss.uncut,
            c.loss.cut,
            c.loss.compensated
        );
        lines.push(("compensated", text));
    }
    if let Some(v) = &plan.verification {
        let text = format!(
            "logits differ by at most {:e} from {}, over {} tokens (allowed: {:e})",
            v.max_logit_difference, v.compared_with, v.tokens, v.tolerance
        );
        lines.push(("verified", text));
    }
    lines.push(("made with", format!("Lopper {}", plan.lopper_version)));
    table(lines)
}

fn table(lines: impl IntoIterator<Item = (&'static str, String)>) -> String {
    lines.into_iter().map(|(label, value)| format!("{label:<11} {value}")).collect::<Vec<_>>().join("\n")
}
