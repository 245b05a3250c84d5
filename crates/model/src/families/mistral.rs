//! Mistral: `MistralConfig` of transformers (`models/mistral/configuration_mistral.py`). Differs
//! from Llama by a sliding window on all layers, unless it is null, and often by a head width of
//! its own.
//!
//! Not covered: the alternating attention of Ministral, which has a family of its own.

use super::{Config, Defaults, Family, Fields, Result, common, layers, rope};

pub(super) const FAMILY: Family = Family { model_type: "mistral", architecture: "MistralForCausalLM", parse };

const DEFAULTS: Defaults = Defaults {
    num_key_value_heads: Some(8),
    max_position_embeddings: 4096 * 32,
    bos_token_id: Some(1),
    eos_token_ids: &[2],
    reads: &["sliding_window", "use_sliding_window"],
    ..Defaults::USUAL
};

fn parse(fields: Fields<'_>) -> Result<Config> {
    let config = common::parse(fields, &DEFAULTS)?;
    let window = layers::unswitched_window(fields, Some(4096))?;
    Ok(Config {
        layers: layers::alike(fields, config.num_hidden_layers, window)?,
        ropes: rope::shared(fields, &config, rope::USUAL_THETA)?,
        ..config
    })
}
