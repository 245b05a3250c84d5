//! Gemma 2: `Gemma2Config` of transformers (`models/gemma2/configuration_gemma2.py`). Norms before
//! and after attention and MLP, whose checkpoints hold weights less 1; embeddings scaled by
//! √hidden_size; soft caps on scores and logits; every other layer with a sliding window.
//!
//! transformers rounds √hidden_size to the dtype of the weights, and this program computes in f32:
//! the numbers are those of transformers in f32.
//!
//! Not covered: the first Gemma (`gemma`).

use super::{Config, Defaults, Family, Fields, Result, common, layers, rope};
use crate::config::{Activation, NormPlacement};

pub(super) const FAMILY: Family = Family { model_type: "gemma2", architecture: "Gemma2ForCausalLM", parse };

pub(super) const DEFAULTS: Defaults = Defaults {
    head_dim: Some(256),
    num_key_value_heads: Some(4),
    max_position_embeddings: 8192,
    bos_token_id: Some(2),
    eos_token_ids: &[1],
    tie_word_embeddings: true,
    activation: ("hidden_activation", Activation::GeluTanh),
    reads: &[
        "attention_bias",
        "sliding_window",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "query_pre_attn_scalar",
    ],
    ..Defaults::USUAL
};

fn parse(fields: Fields<'_>) -> Result<Config> {
    let config = common(fields, &DEFAULTS)?;
    let types = layers::periodic(fields, config.num_hidden_layers, 2)?;
    let window = layers::unswitched_window(fields, Some(4096))?;
    Ok(Config {
        layers: layers::mixed(fields, &types, window, [0, 0])?,
        ropes: rope::shared(fields, &config, rope::USUAL_THETA)?,
        attention_softcap: softcap(fields, "attn_logit_softcapping", Some(50.0))?,
        logit_softcap: softcap(fields, "final_logit_softcapping", Some(30.0))?,
        ..config
    })
}

/// What Gemma 2 and Gemma 3 share.
pub(super) fn common(fields: Fields<'_>, defaults: &Defaults) -> Result<Config> {
    let config = common::parse_biased(fields, defaults)?;
    let query_scalar = fields.positive("query_pre_attn_scalar")?.unwrap_or(256.0);
    Ok(Config {
        norm_offset: 1.0,
        norm_placement: NormPlacement::Around,
        attention_scale: query_scalar.sqrt().recip() as f32,
        embedding_scale: (config.hidden_size as f64).sqrt() as f32,
        ..config
    })
}

/// A soft cap: null says none, a missing key takes `default`.
pub(super) fn softcap(fields: Fields<'_>, key: &str, default: Option<f32>) -> Result<Option<f32>> {
    match fields.has(key) {
        true => Ok(fields.positive(key)?.map(|cap| cap as f32)),
        false => Ok(default),
    }
}
