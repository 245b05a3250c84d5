//! SmolLM3: `SmolLM3Config` of transformers (`models/smollm3/configuration_smollm3.py`). Differs
//! from Llama by layers without a rotary embedding, every fourth in published models; only these
//! may have a sliding window, unless `layer_types` says otherwise.

use super::common::MAX_LAYERS;
use super::layers::Attention;
use super::{Config, Defaults, Family, Fields, Result, common, layers, rope};
use crate::config::LayerKind;
use crate::hf::shorten;

pub(super) const FAMILY: Family = Family { model_type: "smollm3", architecture: "SmolLM3ForCausalLM", parse };

const DEFAULTS: Defaults = Defaults {
    num_key_value_heads: Some(4),
    max_position_embeddings: 32768,
    bos_token_id: Some(128_000),
    eos_token_ids: &[128_001],
    tie_word_embeddings: true,
    reads: &[
        "attention_bias",
        "mlp_bias",
        "sliding_window",
        "use_sliding_window",
        "no_rope_layers",
        "no_rope_layer_interval",
    ],
    ..Defaults::USUAL
};
const THETA: f64 = 2_000_000.0;

fn parse(fields: Fields<'_>) -> Result<Config> {
    let config = common::parse_biased(fields, &DEFAULTS)?;
    Ok(Config {
        layers: layers(fields, config.num_hidden_layers)?,
        ropes: rope::shared(fields, &config, THETA)?,
        ..config
    })
}

fn layers(fields: Fields<'_>, layers: usize) -> Result<Vec<LayerKind>> {
    let window = match fields.flag("use_sliding_window")? {
        Some(true) => layers::sliding_window(fields, None)?,
        _ => None,
    };
    let rotated = rotated(fields, layers)?;
    let types = layers::types(fields, layers)?.unwrap_or_else(|| {
        let slides = |rotated: &bool| window.is_some() && !rotated;
        rotated.iter().map(|rotated| if slides(rotated) { Attention::Sliding } else { Attention::Full }).collect()
    });
    let mut kinds = layers::mixed(fields, &types, window, [0, 0])?;
    for (kind, rotated) in kinds.iter_mut().zip(rotated) {
        kind.rope = kind.rope.filter(|_| rotated);
    }
    Ok(kinds)
}

/// Which layers have a rotary embedding: where `no_rope_layers` has a 1. The list may be longer
/// than the model; transformers looks up the layers there are.
fn rotated(fields: Fields<'_>, layers: usize) -> Result<Vec<bool>> {
    let Some(list) = fields.list("no_rope_layers")? else {
        let interval = fields.size("no_rope_layer_interval", MAX_LAYERS)?.unwrap_or(4);
        return Ok((0..layers).map(|layer| !(layer + 1).is_multiple_of(interval)).collect());
    };
    let wrong = |got: String| {
        fields
            .wrong("no_rope_layers", format!("a 1 (rotary embedding) or 0 (none) for each of {layers} layers"))
            .got(got)
    };
    if list.len() < layers {
        return Err(wrong(format!("{} entries", list.len())).into());
    }
    let entry = |value: &serde_json::Value| match value.as_u64() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(wrong(shorten(value)).into()),
    };
    list.iter().take(layers).map(entry).collect()
}
