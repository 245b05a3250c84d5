//! Qwen3, dense: `Qwen3Config` of transformers (`models/qwen3/configuration_qwen3.py`). Differs
//! from Llama by an RMSNorm on each query and key head, by a head width of its own, and by a
//! sliding window in the upper layers, which published models leave off.
//!
//! Not covered: the mixture of experts (`qwen3_moe`).

use super::{Config, Defaults, Family, Fields, Result, common, layers, rope};
use crate::config::QkNorm;

pub(super) const FAMILY: Family = Family { model_type: "qwen3", architecture: "Qwen3ForCausalLM", parse };

const DEFAULTS: Defaults = Defaults {
    head_dim: Some(128),
    num_key_value_heads: Some(32),
    max_position_embeddings: 32768,
    reads: &["attention_bias", "sliding_window", "use_sliding_window"],
    ..Defaults::USUAL
};

fn parse(fields: Fields<'_>) -> Result<Config> {
    let config = common::parse_biased(fields, &DEFAULTS)?;
    Ok(Config {
        layers: layers::qwen(fields, config.num_hidden_layers)?,
        ropes: rope::shared(fields, &config, rope::USUAL_THETA)?,
        qk_norm: QkNorm::Head,
        ..config
    })
}
