//! `config.json` for a model that Lopper itself trained.
//!
//! Uses the older spelling (`rope_theta`, `torch_dtype`), which transformers 4 and 5, vLLM and
//! llama.cpp's converter all read. A pruned model does not come this way: its configuration is
//! the source's, edited (see `lopper-prune`).

use lopper_record::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::config::{Config, QkNorm, Rope, RopeScaling};
use crate::dtype::{Dtype, torch_name};

use super::Family;

/// The `config.json` that describes `config` with weights stored as `dtype`.
pub fn config_json(config: &Config, dtype: Dtype) -> Result<Map<String, Value>> {
    let family =
        Family::from_model_type(&config.model_type).with_context(|| format!("no family `{}`", config.model_type))?;
    ensure!(["llama", "qwen3"].contains(&family.model_type), "Lopper trains only Llama and Qwen3 from random weights");
    let llama = family.model_type == "llama";
    let rope = match config.ropes.as_slice() {
        [Rope { theta, rotary_dim, scaling: RopeScaling::Default }] if *rotary_dim == config.head_dim => theta,
        other => bail!("not a plain rotary embedding: {other:?}"),
    };
    ensure!(config.qkv_bias == config.o_bias, "`attention_bias` covers all four projections");
    ensure!(config.qk_norm == if llama { QkNorm::None } else { QkNorm::Head }, "only Qwen3 norms its heads");
    ensure!(!config.mlp_bias || llama, "only Llama has a bias in its MLP");
    let eos = match config.eos_token_ids.as_slice() {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    };
    let mut object = Map::new();
    let mut set = |key: &str, value: Value| object.insert(key.to_owned(), value);
    set("architectures", json!([family.architecture]));
    set("model_type", json!(family.model_type));
    set("vocab_size", json!(config.vocab_size));
    set("hidden_size", json!(config.hidden_size));
    set("intermediate_size", json!(config.intermediate_size));
    set("num_hidden_layers", json!(config.num_hidden_layers));
    set("num_attention_heads", json!(config.num_attention_heads));
    set("num_key_value_heads", json!(config.num_key_value_heads));
    set("head_dim", json!(config.head_dim));
    set("hidden_act", json!("silu"));
    set("max_position_embeddings", json!(config.max_position_embeddings));
    set("rms_norm_eps", json!(config.rms_norm_eps));
    set("rope_theta", json!(rope));
    set("rope_scaling", Value::Null);
    set("attention_bias", json!(config.qkv_bias));
    if llama {
        set("mlp_bias", json!(config.mlp_bias));
    }
    set("attention_dropout", json!(0.0));
    set("initializer_range", json!(0.02));
    set("tie_word_embeddings", json!(config.tie_word_embeddings));
    set("bos_token_id", json!(config.bos_token_id));
    set("eos_token_id", eos);
    set("use_cache", json!(true));
    set("torch_dtype", json!(torch_name(dtype)?));
    Ok(object)
}
