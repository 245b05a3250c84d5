//! OLMo 2: `Olmo2Config` of transformers (`models/olmo2/configuration_olmo2.py`). Differs from
//! Llama by norms after attention and MLP instead of before, and by RMSNorms over the whole query
//! and key projections.
//!
//! Not covered: the first OLMo, which has LayerNorm.

use super::{Config, Defaults, Family, Fields, Result, common, layers, rope};
use crate::config::{NormPlacement, QkNorm};

pub(super) const FAMILY: Family = Family { model_type: "olmo2", architecture: "Olmo2ForCausalLM", parse };

const DEFAULTS: Defaults = Defaults { reads: &["attention_bias"], ..SHARED };

/// What OLMo 2 and OLMo 3 share.
pub(super) const SHARED: Defaults = Defaults { rms_norm_eps: 1e-5, eos_token_ids: &[50279], ..Defaults::USUAL };

fn parse(fields: Fields<'_>) -> Result<Config> {
    let config = common(fields, &DEFAULTS)?;
    Ok(Config {
        layers: layers::alike(fields, config.num_hidden_layers, None)?,
        ropes: rope::shared(fields, &config, rope::USUAL_THETA)?,
        ..config
    })
}

/// What OLMo 2 and OLMo 3 share.
pub(super) fn common(fields: Fields<'_>, defaults: &Defaults) -> Result<Config> {
    Ok(Config {
        norm_placement: NormPlacement::After,
        qk_norm: QkNorm::Projection,
        ..common::parse_biased(fields, defaults)?
    })
}
