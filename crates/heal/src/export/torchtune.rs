//! A configuration for torchtune's `lora_finetune_single_device`, with a module for the examples and the schedule.
//!
//! torchtune builds each architecture by code of its own, which is given its sizes here. That covers Llama, Mistral
//! and Qwen 2 as torchtune computes them.

use super::settings::{Step, decimal, filled};
use super::{Export, TRAIN};
use crate::recipe::{HealRecipe, Method};
use crate::schedule::DecayShape;
use lopper_model::Config;
use lopper_model::config::{LayerKind, Rope, RopeScaling};
use lopper_record::{Fault, Result};
use serde_json::json;

const MODULE: &str = include_str!("torchtune.py");

/// How torchtune builds the model.
struct Architecture {
    /// The builder, and the family as the checkpointer calls it.
    builder: &'static str,
    model_type: &'static str,
    /// Further arguments of the builder.
    arguments: Vec<String>,
}

/// Refuses what the recipe and the builders cannot express.
pub(super) fn check(recipe: &HealRecipe, model: &Config, some_layers: bool) -> Result<()> {
    let refused = |setting: &str, expected: &str| -> Result<()> {
        Err(Fault::new(format!("a recipe for torchtune has no {setting}"))
            .expected(expected)
            .got(setting)
            .hint("--export trl has it")
            .into())
    };
    if recipe.method == Method::Full {
        return refused("training of all weights", "an adapter");
    }
    if recipe.load_in_4bit {
        return refused("bitsandbytes' weights in 4 bits", "weights in 16 or 32 bits");
    }
    if some_layers {
        return refused("adapter on some layers", "an adapter on all layers");
    }
    architecture(model)?;
    Ok(())
}

fn architecture(config: &Config) -> Result<Architecture> {
    let fault = |got: String| {
        Fault::new("torchtune has no builder for this model")
            .expected("Llama, Mistral or Qwen 2, as torchtune computes them")
            .got(got)
            .hint("--export trl and --export axolotl take every model that transformers has")
    };
    let rope = match config.ropes.as_slice() {
        [rope] if rope.rotary_dim == config.head_dim => rope,
        _ => return Err(fault("several rotary embeddings, or one on a part of each head".to_owned()).into()),
    };
    if config.layers.iter().any(|layer| *layer != LayerKind::FULL) {
        return Err(fault("layers with windows or without positions".to_owned()).into());
    }
    if config.head_dim * config.num_attention_heads != config.hidden_size {
        return Err(fault(format!("heads of {} in a width of {}", config.head_dim, config.hidden_size)).into());
    }
    if config.o_bias || config.mlp_bias || config.qkv_bias != (config.model_type == "qwen2") {
        return Err(fault(format!("other biases than {}'s usual ones", config.model_type)).into());
    }
    let tied = config.tie_word_embeddings;
    let plain = rope.scaling == RopeScaling::Default;
    let tie = format!("tie_word_embeddings: {tied}");
    match config.model_type.as_str() {
        "llama" => Ok(Architecture {
            builder: "torchtune.models.llama3_2.lora_llama3_2",
            model_type: if tied { "LLAMA3_2" } else { "LLAMA3" },
            arguments: vec![
                format!("scale_factor: {}", scale_factor(rope).ok_or_else(|| fault(format!("{:?}", rope.scaling)))?),
                tie,
            ],
        }),
        "qwen2" if plain => {
            Ok(Architecture { builder: "torchtune.models.qwen2.lora_qwen2", model_type: "QWEN2", arguments: vec![tie] })
        }
        "mistral" if plain && !tied => Ok(Architecture {
            builder: "torchtune.models.mistral.lora_mistral",
            model_type: "MISTRAL",
            arguments: vec![],
        }),
        other => Err(fault(format!("`{other}`")).into()),
    }
}

/// The factor of Llama 3's scaling, with the rest as torchtune has it; a factor of 1 scales nothing.
fn scale_factor(rope: &Rope) -> Option<String> {
    match rope.scaling {
        RopeScaling::Default => Some("1".to_owned()),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions }
            if (low_freq_factor, high_freq_factor, original_max_positions) == (1.0, 4.0, 8192) =>
        {
            Some(decimal(factor))
        }
        _ => None,
    }
}

/// The configuration and the module.
pub(super) fn files(export: &Export<'_>) -> Result<Vec<(&'static str, String)>> {
    let Export { model, recipe, .. } = export;
    let (lora, step, config) = (&recipe.lora, Step::of(recipe.batch), &model.config);
    let Architecture { builder, model_type, arguments } = architecture(config)?;
    // The builders know no rsLoRA; the factor alpha / √r is that of another alpha.
    let alpha = if lora.rslora { lora.alpha * (lora.r as f64).sqrt() } else { lora.alpha };
    let attention = [("q_proj", "q_proj"), ("k_proj", "k_proj"), ("v_proj", "v_proj"), ("o_proj", "output_proj")];
    let has = |name: &str| lora.target_modules.iter().any(|target| target == name);
    let attention: Vec<&str> = attention.iter().filter(|(name, _)| has(name)).map(|(_, own)| *own).collect();
    let rope_base = config.ropes.first().map_or(1e4, |rope| rope.theta);
    let mut lines = vec![
        format!("# Written by Lopper {}; README.md says what is needed and what differs.", env!("CARGO_PKG_VERSION")),
        "output_dir: output".to_owned(),
        "model:".to_owned(),
        format!("  _component_: {builder}"),
        format!("  lora_attn_modules: {}", json!(attention)),
        format!("  apply_lora_to_mlp: {}", has("up_proj")),
        "  apply_lora_to_output: false".to_owned(),
        format!("  lora_rank: {}", lora.r),
        format!("  lora_alpha: {}", decimal(alpha)),
        format!("  lora_dropout: {}", decimal(lora.dropout)),
        format!("  use_dora: {}", lora.dora),
        format!("  vocab_size: {}", config.vocab_size),
        format!("  num_layers: {}", config.num_hidden_layers),
        format!("  num_heads: {}", config.num_attention_heads),
        format!("  num_kv_heads: {}", config.num_key_value_heads),
        format!("  embed_dim: {}", config.hidden_size),
        format!("  intermediate_dim: {}", config.intermediate_size),
        format!("  max_seq_len: {}", config.max_position_embeddings),
        // What is f32 in the model has more digits than it was given in f64.
        format!("  norm_eps: {}", config.rms_norm_eps as f32),
        format!("  rope_base: {}", decimal(rope_base)),
    ];
    lines.extend(arguments.iter().map(|argument| format!("  {argument}")));
    lines.extend([
        "tokenizer:".to_owned(),
        "  _component_: lopper_recipe.Padding".to_owned(),
        format!("  pad_id: {}", model.padding.1),
        "checkpointer:".to_owned(),
        "  _component_: torchtune.training.FullModelHFCheckpointer".to_owned(),
        format!("  checkpoint_dir: {}", json!(model.path)),
        format!("  checkpoint_files: {}", json!(model.files)),
        "  recipe_checkpoint: null".to_owned(),
        "  output_dir: ${output_dir}".to_owned(),
        format!("  model_type: {model_type}"),
        "resume_from_checkpoint: false".to_owned(),
        "save_adapter_weights_only: true".to_owned(),
        "dataset:".to_owned(),
        "  _component_: lopper_recipe.Examples".to_owned(),
        format!("  file: {TRAIN}"),
        "shuffle: false".to_owned(),
        format!("seed: {}", recipe.seed),
        format!("batch_size: {}", step.micro),
        format!("gradient_accumulation_steps: {}", step.accumulation),
        format!("epochs: {}", recipe.epochs),
        "max_steps_per_epoch: null".to_owned(),
        "optimizer:".to_owned(),
        "  _component_: torch.optim.AdamW".to_owned(),
        format!("  lr: {}", decimal(recipe.learning_rate)),
        format!("  betas: [{}, {}]", decimal(recipe.adamw.beta1), decimal(recipe.adamw.beta2)),
        format!("  eps: {}", decimal(recipe.adamw.eps)),
        format!("  weight_decay: {}", decimal(recipe.adamw.weight_decay)),
        "lr_scheduler:".to_owned(),
        "  _component_: lopper_recipe.schedule".to_owned(),
        format!("  warmup_steps: {}", recipe.warmup.of(export.steps())),
        format!("  decay: {}", decimal(recipe.decay)),
        format!("  cosine: {}", recipe.decay_shape == DecayShape::Cosine),
        "loss:".to_owned(),
        "  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss".to_owned(),
        format!("clip_grad_norm: {}", decimal(recipe.clip)),
        "compile: false".to_owned(),
        "metric_logger:".to_owned(),
        "  _component_: torchtune.training.metric_logging.DiskLogger".to_owned(),
        "  log_dir: ${output_dir}/logs".to_owned(),
        "log_every_n_steps: 1".to_owned(),
        "log_peak_memory_stats: false".to_owned(),
        "device: cuda".to_owned(),
        format!("dtype: {}", if recipe.mixed { "bf16" } else { "fp32" }),
        format!("enable_activation_checkpointing: {}", recipe.checkpointing),
        "enable_activation_offloading: false".to_owned(),
    ]);
    let module = filled(MODULE, &[("VERSION", env!("CARGO_PKG_VERSION").to_owned())])?;
    Ok(vec![("config.yaml", lines.join("\n") + "\n"), ("lopper_recipe.py", module)])
}
