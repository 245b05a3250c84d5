//! Llama: `LlamaConfig` of transformers (`models/llama/configuration_llama.py`), which also
//! describes TinyLlama, SmolLM, DeepSeek-LLM and many others, with every scaling of the rotary
//! embedding in use.
//!
//! `pretraining_tp`, which split products in older versions of transformers, changes no result.

use super::{Config, Defaults, Family, Fields, Result, common, layers, rope};

pub(super) const FAMILY: Family = Family { model_type: "llama", architecture: "LlamaForCausalLM", parse };

const DEFAULTS: Defaults =
    Defaults { bos_token_id: Some(1), eos_token_ids: &[2], reads: &["attention_bias", "mlp_bias"], ..Defaults::USUAL };

fn parse(fields: Fields<'_>) -> Result<Config> {
    let config = common::parse_biased(fields, &DEFAULTS)?;
    Ok(Config {
        layers: layers::alike(fields, config.num_hidden_layers, None)?,
        ropes: rope::shared(fields, &config, rope::USUAL_THETA)?,
        ..config
    })
}
