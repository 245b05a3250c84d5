//! A script for TRL: `SFTTrainer` on examples in tokens, with `LoraConfig` of PEFT.

use super::settings::{Step, filled, python};
use super::{Export, HELD_OUT};
use crate::evaluation::Keep;
use crate::recipe::Method;
use crate::schedule::DecayShape;
use lopper_record::Result;
use serde_json::json;

const TEMPLATE: &str = include_str!("trl.py");

/// The script.
pub(super) fn files(export: &Export<'_>) -> Result<Vec<(&'static str, String)>> {
    let Export { model, recipe, evaluation, held_out, .. } = export;
    let (lora, step) = (&recipe.lora.for_model(&model.config), Step::of(recipe.batch));
    let adapter = recipe.method == Method::Lora;
    let mut imports = vec!["AutoModelForCausalLM", "AutoTokenizer"];
    let (mut settings, mut trainer) = (String::new(), String::new());
    if adapter {
        trainer += &format!(
            "        peft_config=LoraConfig(\n            task_type=\"CAUSAL_LM\",\n            r={},\n            \
             lora_alpha={},\n            lora_dropout={},\n            target_modules={},\n            \
             layers_to_transform={},\n            use_rslora={},\n            use_dora={},\n        ),\n",
            lora.r,
            python(&json!(lora.alpha)),
            python(&json!(lora.dropout)),
            python(&json!(lora.target_modules)),
            python(&json!(export.some_layers())),
            python(&json!(lora.rslora)),
            python(&json!(lora.dora)),
        );
    }
    let (mut before, mut after) = (String::new(), String::new());
    if !held_out.is_empty() {
        trainer += &format!("        eval_dataset=examples(\"{HELD_OUT}\"),\n");
        let measure = "    print(trainer.evaluate())  # the mean over batches, not over tokens as Lopper's\n";
        (before, after) = (measure.to_owned(), measure.to_owned());
    }
    if evaluation.every == 0 {
        settings += "        save_strategy=\"epoch\",\n";
    } else {
        let every = evaluation.every;
        settings += &format!(
            "        eval_strategy=\"steps\",\n        eval_steps={every},\n        save_strategy=\"steps\",\n        \
             save_steps={every},\n        save_total_limit=2,\n"
        );
        if evaluation.keep == Keep::Best || evaluation.patience > 0 {
            settings += "        load_best_model_at_end=True,\n        metric_for_best_model=\"eval_loss\",\n        \
                         greater_is_better=False,\n";
        }
        if evaluation.patience > 0 {
            imports.push("EarlyStoppingCallback");
            trainer += &format!(
                "        callbacks=[EarlyStoppingCallback(early_stopping_patience={})],\n",
                evaluation.patience
            );
        }
    }
    let mut quantization = String::new();
    if recipe.load_in_4bit {
        imports.push("BitsAndBytesConfig");
        quantization = format!(
            ", quantization_config=BitsAndBytesConfig(\n        load_in_4bit=True, bnb_4bit_quant_type=\"nf4\", \
             bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype={})",
            dtype(export)
        );
    }
    let values = [
        ("VERSION", env!("CARGO_PKG_VERSION").to_owned()),
        ("PEFT_IMPORT", if adapter { "from peft import LoraConfig\n".to_owned() } else { String::new() }),
        ("IMPORTS", imports.join(", ")),
        ("MODEL", path(export)),
        ("REVISION", python(&json!(model.revision))),
        ("SEED", recipe.seed.to_string()),
        ("WARMUP", recipe.warmup.of(export.steps()).to_string()),
        ("DECAY", python(&json!(recipe.decay))),
        ("COSINE", python(&json!(recipe.decay_shape == DecayShape::Cosine))),
        ("DTYPE", dtype(export).to_owned()),
        ("QUANTIZATION", quantization),
        ("EPOCHS", recipe.epochs.to_string()),
        ("MICRO", step.micro.to_string()),
        ("ACCUMULATION", step.accumulation.to_string()),
        ("BATCH", recipe.batch.to_string()),
        ("RATE", python(&json!(recipe.learning_rate))),
        ("BETA1", python(&json!(recipe.adamw.beta1))),
        ("BETA2", python(&json!(recipe.adamw.beta2))),
        ("EPS", python(&json!(recipe.adamw.eps))),
        ("WEIGHT_DECAY", python(&json!(recipe.adamw.weight_decay))),
        ("CLIP", python(&json!(recipe.clip))),
        ("MAX_LENGTH", recipe.max_length.to_string()),
        ("BF16", python(&json!(recipe.mixed))),
        ("CHECKPOINTING", python(&json!(recipe.checkpointing))),
        ("EVALUATION", settings),
        ("TRAINER", trainer),
        ("BEFORE", before),
        ("AFTER", after),
        ("OUTPUT", format!("\"{}\"", output(export))),
    ];
    Ok(vec![("train.py", filled(TEMPLATE, &values)?)])
}

/// What the script writes.
pub(super) fn output(export: &Export<'_>) -> &'static str {
    match export.recipe.method {
        Method::Lora => "adapter",
        Method::Full => "healed",
    }
}

/// The precision of frozen weights: products are in bf16 with `--bf16`, and stored values are exact in it then.
fn dtype(export: &Export<'_>) -> &'static str {
    let half = export.recipe.mixed && export.model.is_half && export.recipe.method == Method::Lora;
    if half { "torch.bfloat16" } else { "torch.float32" }
}

/// The model's path as Python writes it: in the recipe's directory, where it is made.
fn path(export: &Export<'_>) -> String {
    let path = python(&json!(export.model.path));
    match export.model.made_by {
        Some(_) => format!("str(HERE / {path})"),
        None => path,
    }
}
