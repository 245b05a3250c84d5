//! Qwen3, dense: `Qwen3Config` of transformers (`models/qwen3/configuration_qwen3.py`). Differs
//! from Llama by an RMSNorm on each query and key head and by a head width of its own.
//!
//! Not covered: sliding windows, which the published dense models leave off, and the
//! mixture-of-experts variant (`qwen3_moe`).

use anyhow::Result;

use crate::config::{Config, QkNorm};
use crate::hf::Fields;

use super::Family;
use super::common::{self, Defaults};

pub(super) const FAMILY: Family = Family { model_type: "qwen3", architecture: "Qwen3ForCausalLM", parse };

const DEFAULTS: Defaults = Defaults {
    head_dim: Some(128),
    rms_norm_eps: 1e-6,
    max_position_embeddings: 32768,
    bos_token_id: None,
    eos_token_ids: &[],
};

fn parse(fields: Fields<'_>) -> Result<Config> {
    if fields.flag("use_sliding_window")?.unwrap_or(false) {
        return Err(fields.wrong("use_sliding_window", "false: every layer attends to the whole context").into());
    }
    let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    Ok(Config {
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        qk_norm: QkNorm::Head,
        ..common::parse(fields, &DEFAULTS)?
    })
}
