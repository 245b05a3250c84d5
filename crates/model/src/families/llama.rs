//! Llama: `LlamaConfig` of transformers (`models/llama/configuration_llama.py`), which also
//! describes TinyLlama, SmolLM, DeepSeek-LLM and many others.
//!
//! Not covered: the scaled rotary embedding of Llama 3.1 and later (`rope_type: llama3`).

use anyhow::Result;

use crate::config::Config;
use crate::hf::Fields;

use super::Family;
use super::common::{self, Defaults};

pub(super) const FAMILY: Family = Family { model_type: "llama", architecture: "LlamaForCausalLM", parse };

const DEFAULTS: Defaults = Defaults {
    head_dim: None,
    rms_norm_eps: 1e-6,
    max_position_embeddings: 2048,
    bos_token_id: Some(1),
    eos_token_ids: &[2],
};

fn parse(fields: Fields<'_>) -> Result<Config> {
    let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    Ok(Config {
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        mlp_bias: fields.flag("mlp_bias")?.unwrap_or(false),
        ..common::parse(fields, &DEFAULTS)?
    })
}
