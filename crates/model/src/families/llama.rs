//! Llama: `LlamaConfig` of transformers (`models/llama/configuration_llama.py`), which also
//! describes TinyLlama, SmolLM, DeepSeek-LLM and many others, with every scaling of the rotary
//! embedding in use.
//!
//! `pretraining_tp`, which split products in older versions of transformers, changes no result.

use anyhow::Result;

use crate::config::Config;
use crate::hf::Fields;

use super::Family;
use super::common::{self, Defaults};
use super::{layers, rope};

pub(super) const FAMILY: Family = Family { model_type: "llama", architecture: "LlamaForCausalLM", parse };

const DEFAULTS: Defaults =
    Defaults { bos_token_id: Some(1), eos_token_ids: &[2], reads: &["attention_bias", "mlp_bias"], ..Defaults::USUAL };

fn parse(fields: Fields<'_>) -> Result<Config> {
    let config = common::parse(fields, &DEFAULTS)?;
    let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    Ok(Config {
        layers: layers::alike(fields, config.num_hidden_layers, None)?,
        ropes: rope::shared(fields, &config, rope::USUAL_THETA)?,
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        mlp_bias: fields.flag("mlp_bias")?.unwrap_or(false),
        ..config
    })
}
