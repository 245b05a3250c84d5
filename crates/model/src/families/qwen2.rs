//! Qwen2 and Qwen2.5, dense: `Qwen2Config` of transformers
//! (`models/qwen2/configuration_qwen2.py`). Differs from Llama by biases on query, key and value
//! and by a sliding window in the upper layers, which published models leave off.
//!
//! Not covered: the mixture of experts (`qwen2_moe`), and the models that also see (`qwen2_vl`).

use super::{Config, Defaults, Family, Fields, Result, common, layers, rope};

pub(super) const FAMILY: Family = Family { model_type: "qwen2", architecture: "Qwen2ForCausalLM", parse };

const DEFAULTS: Defaults = Defaults {
    num_key_value_heads: Some(32),
    max_position_embeddings: 32768,
    // `attention_bias` says nothing here: which biases there are is fixed.
    reads: &["attention_bias", "sliding_window", "use_sliding_window"],
    ..Defaults::USUAL
};

fn parse(fields: Fields<'_>) -> Result<Config> {
    let config = common::parse(fields, &DEFAULTS)?;
    Ok(Config {
        layers: layers::qwen(fields, config.num_hidden_layers)?,
        ropes: rope::shared(fields, &config, rope::USUAL_THETA)?,
        qkv_bias: true,
        ..config
    })
}
