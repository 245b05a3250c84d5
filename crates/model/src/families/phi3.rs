//! Phi-3 and Phi-4-mini: `Phi3Config` of transformers (`models/phi3/configuration_phi3.py`).
//! Differs from Llama by fused projections, by a rotary embedding that may turn a part of each
//! head only and is stretched by LongRoPE, and by a sliding window on all layers where one is set.
//!
//! Not covered: Phi-3-small and the models that also see or hear, which have classes of their own.

use super::{Config, Defaults, Family, Fields, Result, common, layers, rope};

pub(super) const FAMILY: Family = Family { model_type: "phi3", architecture: "Phi3ForCausalLM", parse };

const DEFAULTS: Defaults = Defaults {
    rms_norm_eps: 1e-5,
    max_position_embeddings: 4096,
    bos_token_id: Some(1),
    eos_token_ids: &[32000],
    reads: &["sliding_window", "use_sliding_window"],
    ..Defaults::USUAL
};

fn parse(fields: Fields<'_>) -> Result<Config> {
    let config = common::parse(fields, &DEFAULTS)?;
    let window = layers::unswitched_window(fields, None)?;
    Ok(Config {
        layers: layers::alike(fields, config.num_hidden_layers, window)?,
        ropes: rope::phi3(fields, &config)?,
        fused_projections: true,
        ..config
    })
}
