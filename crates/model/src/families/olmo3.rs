//! OLMo 3: `Olmo3Config` of transformers (`models/olmo3/configuration_olmo3.py`). As OLMo 2 with
//! three layers of sliding window, then one without; the rotary embedding is stretched for the
//! latter only.

use super::layers::Attention;
use super::rope::Theta;
use super::{Config, Defaults, Family, Fields, Result, layers, olmo2, rope};

pub(super) const FAMILY: Family = Family { model_type: "olmo3", architecture: "Olmo3ForCausalLM", parse };

const DEFAULTS: Defaults = Defaults { reads: &["attention_bias", "sliding_window"], ..olmo2::SHARED };
const THETA: f64 = 500_000.0;

fn parse(fields: Fields<'_>) -> Result<Config> {
    let config = olmo2::common(fields, &DEFAULTS)?;
    let types = layers::periodic(fields, config.num_hidden_layers, 4)?;
    let window = layers::unswitched_window(fields, Some(4096))?;
    if types.contains(&Attention::Sliding) {
        refuse_an_ambiguous_theta(fields)?;
    }
    let full = Theta { key: Some("rope_theta"), default: THETA };
    let sliding = Theta { key: None, default: THETA };
    Ok(Config {
        layers: layers::mixed(fields, &types, window, [0, 1])?,
        ropes: rope::per_layer_type(fields, &config, full, sliding)?,
        ..config
    })
}

/// A `rope_theta` at the top is that of all layers in transformers 4, and of the full layers alone
/// in transformers 5, which gives the sliding ones 500000. Published models have 500000.
fn refuse_an_ambiguous_theta(fields: Fields<'_>) -> Result<()> {
    let sliding =
        fields.object("rope_parameters")?.map(|ropes| ropes.object("sliding_attention")).transpose()?.flatten();
    if sliding.is_some_and(|rope| rope.get("rope_theta").is_some()) {
        return Ok(());
    }
    match fields.positive("rope_theta")? {
        Some(theta) if theta != THETA => Err(fields
            .wrong("rope_theta", format!("{THETA}, or `rope_parameters` with a `rope_theta` for each layer type"))
            .hint("versions of transformers disagree on what another value means for sliding layers")
            .into()),
        _ => Ok(()),
    }
}
