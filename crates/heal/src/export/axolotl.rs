//! A configuration for axolotl, on examples in tokens.

use super::settings::{Step, decimal};
use super::{Export, HELD_OUT, TRAIN};
use crate::evaluation::Keep;
use crate::recipe::{HealRecipe, Method};
use crate::schedule::DecayShape;
use lopper_record::{Fault, Result};
use serde_json::json;

/// Refuses what its schema cannot express.
pub(super) fn check(recipe: &HealRecipe) -> Result<()> {
    let alpha = recipe.lora.alpha;
    if recipe.method == Method::Lora && alpha.fract() != 0.0 {
        return Err(Fault::new("axolotl's lora_alpha is a whole number")
            .expected("a whole number for --alpha")
            .got(alpha.to_string())
            .hint("alpha / r is what counts: another rank and alpha may have the same")
            .into());
    }
    Ok(())
}

/// The schedule's keys. transformers' warm-up begins at 0 and Lopper's at its first step.
fn schedule(export: &Export<'_>, lines: &mut Vec<String>) {
    let (recipe, steps) = (export.recipe, export.steps());
    let warmup = recipe.warmup.of(steps);
    let falling = ((recipe.decay * steps as f64) as usize).min(steps.saturating_sub(warmup));
    let name = match (recipe.decay, recipe.decay_shape) {
        (0.0, _) => "constant_with_warmup",
        (1.0, DecayShape::Linear) => "linear",
        (1.0, DecayShape::Cosine) => "cosine",
        _ => "warmup_stable_decay",
    };
    lines.push(format!("lr_scheduler: {name}"));
    if name == "warmup_stable_decay" {
        let shape = if recipe.decay_shape.is_linear() { "linear" } else { "cosine" };
        lines.push(format!("lr_scheduler_kwargs:\n  num_decay_steps: {falling}\n  decay_type: {shape}"));
    }
    lines.push(format!("warmup_steps: {warmup}"));
}

/// The configuration.
pub(super) fn files(export: &Export<'_>) -> Vec<(&'static str, String)> {
    let Export { model, recipe, evaluation, held_out, .. } = export;
    let (lora, step) = (&recipe.lora.for_model(&model.config), Step::of(recipe.batch));
    let text = |text: &str| json!(text).to_string();
    let mut lines = vec![
        format!("# Written by Lopper {}; README.md says what is needed and what differs.", env!("CARGO_PKG_VERSION")),
        format!("base_model: {}", text(&model.path)),
    ];
    lines.extend(model.revision.as_deref().map(|revision| format!("revision_of_model: {}", text(revision))));
    lines.extend([
        format!("special_tokens:\n  pad_token: {}", text(&model.padding.0)),
        String::new(),
        "# Token ids and labels, used as they are.".to_owned(),
        dataset("datasets", TRAIN),
    ]);
    if !held_out.is_empty() {
        lines.push(dataset("test_datasets", HELD_OUT));
    }
    lines.extend([
        "dataset_prepared_path: prepared".to_owned(),
        "# The order of the file.".to_owned(),
        "shuffle_merged_datasets: false".to_owned(),
        "curriculum_sampling: true".to_owned(),
        format!("sequence_len: {}", recipe.max_length),
        "sample_packing: false".to_owned(),
        "eval_sample_packing: false".to_owned(),
        "pad_to_sequence_len: false".to_owned(),
        String::new(),
    ]);
    if recipe.method == Method::Lora {
        lines.push(format!("adapter: {}", if recipe.load_in_4bit { "qlora" } else { "lora" }));
        if recipe.load_in_4bit {
            lines.push("load_in_4bit: true".to_owned());
        }
        lines.extend([
            format!("lora_r: {}", lora.r),
            format!("lora_alpha: {}", decimal(lora.alpha)),
            format!("lora_dropout: {}", decimal(lora.dropout)),
            format!("lora_target_modules: {}", json!(lora.target_modules)),
        ]);
        lines.extend(export.some_layers().map(|layers| format!("peft_layers_to_transform: {}", json!(layers))));
        lines.extend(lora.rslora.then(|| "peft_use_rslora: true".to_owned()));
        lines.extend(lora.dora.then(|| "peft_use_dora: true".to_owned()));
        lines.push(String::new());
    }
    lines.extend([
        format!("num_epochs: {}", recipe.epochs),
        format!("micro_batch_size: {}", step.micro),
        format!("gradient_accumulation_steps: {}", step.accumulation),
        "optimizer: adamw_torch".to_owned(),
        format!("adam_beta1: {}", decimal(recipe.adamw.beta1)),
        format!("adam_beta2: {}", decimal(recipe.adamw.beta2)),
        format!("adam_epsilon: {}", decimal(recipe.adamw.eps)),
        format!("weight_decay: {}", decimal(recipe.adamw.weight_decay)),
        format!("max_grad_norm: {}", decimal(recipe.clip)),
        format!("learning_rate: {}", decimal(recipe.learning_rate)),
    ]);
    schedule(export, &mut lines);
    lines.extend([
        String::new(),
        format!("bf16: {}", recipe.mixed),
        "fp16: false".to_owned(),
        "tf32: false".to_owned(),
        format!("gradient_checkpointing: {}", recipe.checkpointing),
        format!("seed: {}", recipe.seed),
        "logging_steps: 1".to_owned(),
    ]);
    match evaluation.every {
        0 => lines.push("save_strategy: epoch".to_owned()),
        every => {
            lines.extend([format!("eval_steps: {every}"), format!("save_steps: {every}")]);
            if evaluation.keep == Keep::Best || evaluation.patience > 0 {
                lines.extend(["load_best_model_at_end: true", "metric_for_best_model: eval_loss"].map(str::to_owned));
                lines.push("greater_is_better: false".to_owned());
            }
            if evaluation.patience > 0 {
                lines.push(format!("early_stopping_patience: {}", evaluation.patience));
            }
        }
    }
    lines.push(format!("output_dir: {}", super::trl::output(export)));
    vec![("config.yaml", lines.join("\n") + "\n")]
}

/// A file of examples. Without a type they are taken as they are.
fn dataset(key: &str, file: &str) -> String {
    format!("{key}:\n  - path: {file}\n    ds_type: json\n    split: train\n    type:")
}
