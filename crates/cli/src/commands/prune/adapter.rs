//! `lopper prune --adapter`: the adapter is folded into the weights that are written, and what is lost by storing them
//! is measured.

use std::path::Path;
use std::sync::Arc;

use lopper_diagnose::probe_set::HELD_OUT;
use lopper_heal::adapter::adapter_hash;
use lopper_infer::mean_nll;
use lopper_model::checkpoint::Dtype;
use lopper_model::{Checkpoint, Model};
use lopper_prune::{AdapterId, Merge, MergeLoss, Plan, WriteOptions, write_merged};
use lopper_record::{LayerPosition, LayerSet, Result};

use crate::args::PruneArgs;
use crate::commands::score;
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::{command_line, input, table};

/// Tokens of a sequence of the built-in text.
const WINDOW: usize = 512;
/// The part of the gain whose loss is worth a warning, as in `lopper heal`.
const WARN_ABOVE: f64 = 0.1;

/// The adapter in `directory`, for records.
pub fn adapter_id(directory: &Path) -> Result<AdapterId> {
    Ok(AdapterId { id: directory.display().to_string(), hash: adapter_hash(directory)? })
}

pub fn run(
    context: &Context,
    opened: &OpenModel,
    args: &PruneArgs,
    directory: &Path,
    plan: Option<Plan>,
    options: &WriteOptions,
) -> Result<()> {
    let plan = plan.map(|plan| Plan { command: Some(command_line::command_line()), ..plan });
    let all = LayerSet::all(opened.config().num_hidden_layers);
    let kept = match &plan {
        Some(plan) => plan.kept_positions(&opened.checkpoint)?,
        None => all.clone(),
    };
    let mut whole = opened.model(context)?;
    let plain = whole.keep(&kept);
    opened.add_adapter(context, directory, &mut whole, &kept)?;
    let apart = whole.keep(&kept);
    let texts = match args.no_verify {
        true => None,
        false => texts(context, opened, args)?,
    };
    let dtype = args.out_dtype.map_or_else(|| opened.checkpoint.dtype(), Dtype::from);
    let adapter = adapter_id(directory)?;
    let merge = Merge { model: &apart, adapter: &adapter, dtype };
    let measure = |written: &Arc<Checkpoint>| -> Result<Option<MergeLoss>> {
        let Some(texts) = &texts else { return Ok(None) };
        let loss = |model: Model| -> Result<(f64, usize)> {
            let engine = context.engine(model)?;
            let logprobs = engine.token_logprobs(&engine.all_layers(), texts, &context.progress)?;
            let (mean, tokens) = mean_nll(&logprobs);
            Ok((mean.unwrap_or(f64::NAN), tokens))
        };
        let (without, tokens) = loss(plain.clone())?;
        let ((apart, _), (written, _)) = (loss(apart.clone())?, loss(Model::mapped(written)?)?);
        let sequences = texts.len();
        // Single tokens predict nothing.
        Ok((tokens > 0).then_some(MergeLoss { sequences, tokens: tokens as u64, without, apart, written }))
    };
    let report = write_merged(&opened.checkpoint, plan.as_ref(), &merge, &args.out, options, measure)?;
    let removed = removed(opened, &kept)?;
    context.printer.note(&format!(
        "folded {} into {}{removed}; {} left in {} layers, stored in {}",
        directory.display(),
        opened.name,
        table::bytes(report.weight_bytes),
        report.num_hidden_layers,
        report.merged.stored_as
    ));
    if !report.config_changes.is_empty() {
        let changed: Vec<&str> = report.config_changes.iter().map(|change| change.key.as_str()).collect();
        context.printer.note(&format!("changed in config.json: {}", changed.join(", ")));
    }
    report.warnings.iter().for_each(|warning| context.printer.warn(warning));
    if let Some(loss) = &report.merged.loss {
        say_loss(context, loss, &report.merged.stored_as);
    }
    context.printer.result(&report.directory.display().to_string())
}

/// What the losses are measured on: what the user gave, the pocket model's own text, or the built-in one. None without
/// a tokenizer.
fn texts(context: &Context, opened: &OpenModel, args: &PruneArgs) -> Result<Option<Vec<Vec<u32>>>> {
    if let Some(sequences) = input::sequences(context, opened, &args.input)? {
        return Ok(Some(sequences));
    }
    if opened.descends_from_pocket()? {
        return Ok(Some(score::pocket_calibration()?.sequences().to_vec()));
    }
    if opened.checkpoint.file("tokenizer.json")?.is_none() {
        context.printer.note("the loss of the written model is not measured: there is no tokenizer, and no --tokens");
        return Ok(None);
    }
    let tokens = opened.tokenizer()?.encode(HELD_OUT, true)?;
    let window = WINDOW.min(opened.config().max_position_embeddings);
    Ok(Some(lopper_prune::calibration::windows(&tokens, window)))
}

fn removed(opened: &OpenModel, kept: &LayerSet<LayerPosition>) -> Result<String> {
    let layers = opened.config().num_hidden_layers;
    if kept.len() == layers {
        return Ok(String::new());
    }
    Ok(format!(" without layers {}", opened.numbering()?.originals(&kept.complement(layers))?))
}

fn say_loss(context: &Context, loss: &MergeLoss, dtype: &str) {
    let MergeLoss { tokens, without, apart, written, .. } = loss;
    context.printer.note(&format!(
        "loss on {} tokens, in nats per token: {without:.4} without the adapter, {apart:.4} with it, {written:.4} as \
         written in {dtype}",
        table::count(*tokens)
    ));
    let gain = without - apart;
    if gain <= 0.0 {
        context.printer.note(
            "the adapter does not lower the loss on this text, so how much of its gain is kept is not known; give \
             --text or --tokens like what it was trained on",
        );
    } else if (written - apart) / gain > WARN_ABOVE {
        context.printer.warn(&format!(
            "{:.0} % of what the adapter gained is lost in the written model: {dtype} cannot hold updates that are \
             small against their weights; keep the adapter apart, or write with --out-dtype float32",
            (written - apart) / gain * 100.0
        ));
    }
}
