//! Gemma 3, text only: `Gemma3TextConfig` of transformers
//! (`models/gemma3/configuration_gemma3.py`). As Gemma 2 with an RMSNorm on each query and key
//! head, without soft caps in published models; five layers with a sliding window, then one
//! without, and a rotary embedding of its own for either kind.
//!
//! Not covered: `gemma3`, the checkpoints that also see, whose text model lies under other names.

use super::common::MAX_LAYERS;
use super::rope::Theta;
use super::{Config, Defaults, Family, Fields, Result, gemma2, layers, rope};
use crate::config::QkNorm;

pub(super) const FAMILY: Family = Family { model_type: "gemma3_text", architecture: "Gemma3ForCausalLM", parse };

const DEFAULTS: Defaults = Defaults {
    max_position_embeddings: 131_072,
    reads: &[
        "attention_bias",
        "sliding_window",
        "sliding_window_pattern",
        "final_logit_softcapping",
        "query_pre_attn_scalar",
        "rope_local_base_freq",
        "attn_logit_softcapping",
    ],
    ..gemma2::DEFAULTS
};

fn parse(fields: Fields<'_>) -> Result<Config> {
    if fields.get("attn_logit_softcapping").is_some() {
        return Err(fields
            .wrong("attn_logit_softcapping", "null or no such key")
            .hint("transformers 5 reads the key for this family and computes without it; other programs cap")
            .into());
    }
    let config = gemma2::common(fields, &DEFAULTS)?;
    let period = fields.size("sliding_window_pattern", MAX_LAYERS)?.unwrap_or(6);
    let types = layers::periodic(fields, config.num_hidden_layers, period)?;
    let window = layers::unswitched_window(fields, Some(4096))?;
    let full = Theta { key: Some("rope_theta"), default: 1_000_000.0 };
    let sliding = Theta { key: Some("rope_local_base_freq"), default: 10_000.0 };
    Ok(Config {
        layers: layers::mixed(fields, &types, window, [0, 1])?,
        ropes: rope::per_layer_type(fields, &config, full, sliding)?,
        qk_norm: QkNorm::Head,
        logit_softcap: gemma2::softcap(fields, "final_logit_softcapping", None)?,
        ..config
    })
}
