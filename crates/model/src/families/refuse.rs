//! Keys that change what a model computes and that Lopper, or the family at hand, does not follow.
//!
//! transformers ignores keys that a class does not know. Lopper looks at every key of a
//! configuration instead: some program gave the key a meaning, and a model that runs without it is
//! a different model. A key that is there but off (null, false, 0, empty) is harmless.
//!
//! Not covered: keys nobody has thought of. Weights are a second net: a checkpoint that holds a
//! tensor which the configuration leaves no place for is refused as well (`checkpoint/validate.rs`).

use lopper_record::{Fault, Result};
use serde_json::Value;

use crate::hf::{Fields, shorten};

/// Which keys a rule is about.
enum Key {
    Is(&'static str),
    Begins(&'static str),
    Contains(&'static str),
}

/// Which values say that the feature is not used; null always does.
#[derive(Clone, Copy)]
enum Off {
    /// `false`, 0, an empty list, object or string.
    Zero,
    /// 1, for factors.
    One,
    /// `true`.
    True,
    /// A list without a zero.
    NoZero,
    /// One of these names.
    Named(&'static [&'static str]),
}

impl Off {
    fn covers(self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null) => true,
            (Off::Zero, Value::Bool(on)) => !on,
            (Off::Zero, Value::Number(number)) => number.as_f64() == Some(0.0),
            (Off::Zero, Value::String(text)) => text.is_empty(),
            (Off::Zero, Value::Array(list)) => list.is_empty(),
            (Off::Zero, Value::Object(object)) => object.is_empty(),
            (Off::One, Value::Number(number)) => number.as_f64() == Some(1.0),
            (Off::True, Value::Bool(on)) => *on,
            (Off::NoZero, Value::Array(list)) => list.iter().all(|entry| entry.as_f64().is_some_and(|n| n != 0.0)),
            (Off::Named(names), Value::String(text)) => names.contains(&text.as_str()),
            _ => false,
        }
    }
}

struct Rule {
    key: Key,
    off: Off,
    expected: &'static str,
}

const fn rule(key: Key, off: Off, expected: &'static str) -> Rule {
    Rule { key, off, expected }
}

const DENSE: &str = "no such key: dense models, without a mixture of experts";
const UNQUANTISED: &str = "no such key (weights in float32, float16 or bfloat16), or weights in 8-bit floats";
const CAUSAL: &str = "no such key: decoders in which a token sees itself and those before it";
const ATTENTION: &str = "no such key: softmax attention over queries, keys and values of each head";
const NEXT_TOKEN: &str = "no such key: models that predict the next token only";
const ROTARY: &str = "no such key: rotary embeddings by `rope_parameters` or `rope_scaling`";
const PLAIN: &str = "no such key: decoder layers as this family has them in transformers";

/// What no family supports.
const NEVER: &[Rule] = &[
    rule(Key::Is("quantization_config"), Off::Zero, UNQUANTISED),
    rule(Key::Is("compression_config"), Off::Zero, UNQUANTISED),
    rule(Key::Contains("num_experts"), Off::Zero, DENSE),
    rule(Key::Contains("local_experts"), Off::Zero, DENSE),
    rule(Key::Contains("routed_experts"), Off::Zero, DENSE),
    rule(Key::Contains("shared_experts"), Off::Zero, DENSE),
    rule(Key::Begins("moe_"), Off::Zero, DENSE),
    rule(Key::Is("use_bidirectional_attention"), Off::Zero, CAUSAL),
    rule(Key::Is("is_causal"), Off::True, CAUSAL),
    rule(Key::Is("is_encoder_decoder"), Off::Zero, CAUSAL),
    rule(Key::Is("add_cross_attention"), Off::Zero, CAUSAL),
    rule(Key::Begins("cross_attention_"), Off::Zero, CAUSAL),
    rule(Key::Contains("attention_sink"), Off::Zero, ATTENTION),
    rule(Key::Begins("mamba_"), Off::Zero, ATTENTION),
    rule(Key::Begins("ssm_"), Off::Zero, ATTENTION),
    rule(Key::Begins("linear_attn"), Off::Zero, ATTENTION),
    rule(Key::Begins("linear_conv_"), Off::Zero, ATTENTION),
    rule(Key::Begins("linear_num_"), Off::Zero, ATTENTION),
    rule(Key::Is("attention_chunk_size"), Off::Zero, ATTENTION),
    rule(Key::Is("attn_temperature_tuning"), Off::Zero, ATTENTION),
    rule(Key::Is("kv_lora_rank"), Off::Zero, ATTENTION),
    rule(Key::Is("q_lora_rank"), Off::Zero, ATTENTION),
    rule(Key::Is("v_head_dim"), Off::Zero, ATTENTION),
    rule(Key::Is("clip_qkv"), Off::Zero, ATTENTION),
    rule(Key::Is("num_kv_shared_layers"), Off::Zero, "0: every layer has keys and values of its own"),
    rule(Key::Begins("num_nextn_"), Off::Zero, NEXT_TOKEN),
    rule(Key::Begins("num_mtp_"), Off::Zero, NEXT_TOKEN),
    rule(Key::Begins("mtp_"), Off::Zero, NEXT_TOKEN),
    rule(Key::Is("per_layer_config"), Off::Zero, "no such key: layers of the same sizes"),
    rule(Key::Is("block_configs"), Off::Zero, "no such key: layers of the same sizes"),
    rule(Key::Is("position_embedding_type"), Off::Named(&["rope", "rotary"]), ROTARY),
    rule(Key::Is("alibi"), Off::Zero, ROTARY),
    rule(Key::Is("use_mrope"), Off::Zero, ROTARY),
    rule(Key::Is("rope_interleave"), Off::Zero, ROTARY),
    rule(Key::Is("rope_interleaved"), Off::Zero, ROTARY),
    rule(Key::Is("rotary_pct"), Off::One, ROTARY),
    rule(Key::Is("rope_ratio"), Off::One, ROTARY),
    rule(Key::Is("interpolate_factor"), Off::One, ROTARY),
    rule(Key::Is("full_attn_mod"), Off::One, PLAIN),
    rule(Key::Is("use_parallel_residual"), Off::Zero, PLAIN),
    rule(Key::Is("parallel_attn"), Off::Zero, PLAIN),
    rule(Key::Is("lm_head_bias"), Off::Zero, PLAIN),
    rule(Key::Is("use_qk_norm"), Off::Zero, PLAIN),
    rule(Key::Is("qk_layernorm"), Off::Zero, PLAIN),
    rule(Key::Is("scale_emb"), Off::One, PLAIN),
    rule(Key::Is("scale_depth"), Off::Zero, PLAIN),
    rule(Key::Is("dim_model_base"), Off::Zero, PLAIN),
    rule(Key::Is("logit_scale"), Off::One, PLAIN),
    rule(Key::Begins("mup_"), Off::Zero, PLAIN),
];

/// What some families read; the others do not have it.
const BY_FAMILY: &[Rule] = &[
    rule(Key::Is("attention_bias"), Off::Zero, "false or no such key"),
    rule(Key::Is("mlp_bias"), Off::Zero, "false or no such key"),
    rule(Key::Is("sliding_window"), Off::Zero, "null or no such key"),
    rule(Key::Is("use_sliding_window"), Off::Zero, "false or no such key"),
    rule(Key::Is("sliding_window_pattern"), Off::Zero, "null or no such key"),
    rule(Key::Is("attn_logit_softcapping"), Off::Zero, "null or no such key"),
    rule(Key::Is("final_logit_softcapping"), Off::Zero, "null or no such key"),
    rule(Key::Is("query_pre_attn_scalar"), Off::Zero, "null or no such key"),
    rule(Key::Is("rope_local_base_freq"), Off::Zero, "null or no such key"),
    rule(Key::Is("no_rope_layers"), Off::NoZero, "null or no such key"),
    rule(Key::Is("no_rope_layer_interval"), Off::Zero, "null or no such key"),
    rule(Key::Is("embedding_multiplier"), Off::One, "1 or no such key"),
    rule(Key::Is("residual_multiplier"), Off::One, "1 or no such key"),
    rule(Key::Is("logits_scaling"), Off::One, "1 or no such key"),
    rule(Key::Is("attention_multiplier"), Off::Zero, "null or no such key"),
];

/// Faults at the first key that is set and is neither supported nor among the family's `reads`.
pub(super) fn unsupported(fields: Fields<'_>, reads: &[&str]) -> Result<()> {
    head(fields)?;
    for (key, value) in fields.entries() {
        let set = |rule: &&Rule| rule.key.matches(key) && !rule.off.covers(value);
        if key == "quantization_config" && reads_quantization(value) {
            continue;
        }
        if let Some(rule) = NEVER.iter().find(set) {
            let fault = fields.wrong(key, rule.expected);
            return Err(match rule.expected {
                UNQUANTISED => fault.hint("take the unquantised checkpoint of the same model"),
                _ => fault.hint("without the key, it would be a different model: this version cannot run it"),
            }
            .into());
        }
        if let Some(rule) = BY_FAMILY.iter().filter(|_| !reads.contains(&key)).find(set) {
            let model_type = fields.text("model_type")?.unwrap_or_default();
            return Err(fields
                .wrong(key, rule.expected)
                .hint(format!("models of the family `{model_type}` do not have this; is the family right?"))
                .into());
        }
    }
    Ok(())
}

impl Key {
    fn matches(&self, key: &str) -> bool {
        match self {
            Key::Is(name) => key == *name,
            Key::Begins(name) => key.starts_with(name),
            Key::Contains(name) => key.contains(name),
        }
    }
}

/// Faults where the text model is but a part of the checkpoint. Comes before the family is known,
/// because the family of the whole is not one of ours.
pub(super) fn multimodal(fields: Fields<'_>) -> Result<()> {
    for key in ["text_config", "vision_config", "audio_config"] {
        if fields.get(key).is_some() {
            return Err(fields
                .wrong(key, "no such key: the configuration of a model of text alone")
                .hint("the text model inside a multimodal checkpoint is not read; take a text-only checkpoint")
                .into());
        }
    }
    Ok(())
}

/// Faults if `architectures` names only classes with another head than that of a language model.
fn head(fields: Fields<'_>) -> Result<()> {
    let Some(list) = fields.list("architectures")? else { return Ok(()) };
    let causal = |name: &Value| name.as_str().is_some_and(|name| name.ends_with("ForCausalLM"));
    if list.is_empty() || list.iter().any(causal) {
        return Ok(());
    }
    Err(Fault::new("not the checkpoint of a language model")
        .file(fields.path())
        .expected("`architectures` with a class that ends in `ForCausalLM`")
        .got(shorten(&Value::Array(list.to_vec())))
        .into())
}

/// Whether the weights of a model with this `quantization_config` are among those that are converted.
fn reads_quantization(config: &Value) -> bool {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    match text(config, "quant_method").as_deref() {
        Some("fp8") => true,
        Some("compressed-tensors") => {
            let groups = config.get("config_groups").and_then(Value::as_object);
            let float8 = |group: &Value| {
                let weights = group.get("weights").unwrap_or(&Value::Null);
                text(weights, "type").as_deref() == Some("float")
                    && weights.get("num_bits").and_then(Value::as_u64) == Some(8)
            };
            config.get("kv_cache_scheme").is_none_or(Value::is_null)
                && groups.is_some_and(|groups| !groups.is_empty() && groups.values().all(float8))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_floats_of_eight_bits_are_read_from_quantised_models() {
        let group = |kind: &str, bits: u64| json!({"group_0": {"weights": {"type": kind, "num_bits": bits}}});
        let compressed = |groups: Value| json!({"quant_method": "compressed-tensors", "config_groups": groups});
        for (config, reads) in [
            (json!({"quant_method": "fp8", "weight_block_size": [128, 128]}), true),
            (compressed(group("float", 8)), true),
            (compressed(group("int", 8)), false),
            (compressed(group("float", 4)), false),
            (compressed(json!({})), false),
            (json!({"quant_method": "gptq"}), false),
            (json!("fp8"), false),
        ] {
            assert_eq!(reads_quantization(&config), reads, "{config}");
        }
    }
}
