//! Granite 3, dense: `GraniteConfig` of transformers (`models/granite/configuration_granite.py`).
//! Differs from Llama by four factors: on embeddings, attention scores, what layers add to the
//! residual stream, and (as a divisor) logits.
//!
//! Not covered: the mixture of experts (`granitemoe`) and Granite 4 (`granitemoehybrid`).

use super::{Config, Defaults, Family, Fields, Result, common, layers, rope};

pub(super) const FAMILY: Family = Family { model_type: "granite", architecture: "GraniteForCausalLM", parse };

const DEFAULTS: Defaults = Defaults {
    bos_token_id: Some(1),
    eos_token_ids: &[2],
    reads: &[
        "attention_bias",
        "mlp_bias",
        "embedding_multiplier",
        "attention_multiplier",
        "residual_multiplier",
        "logits_scaling",
    ],
    ..Defaults::USUAL
};

fn parse(fields: Fields<'_>) -> Result<Config> {
    let config = common::parse_biased(fields, &DEFAULTS)?;
    let factor = |key: &str| -> Result<f64> { Ok(fields.positive(key)?.unwrap_or(1.0)) };
    Ok(Config {
        layers: layers::alike(fields, config.num_hidden_layers, None)?,
        ropes: rope::shared(fields, &config, rope::USUAL_THETA)?,
        embedding_scale: factor("embedding_multiplier")? as f32,
        // Without the key it is 1 and not 1/√head_dim.
        attention_scale: factor("attention_multiplier")? as f32,
        residual_scale: factor("residual_multiplier")? as f32,
        logit_scale: factor("logits_scaling")?.recip() as f32,
        ..config
    })
}
