//! What the configurations of decoder-only families have in common: sizes and their bounds, the
//! rotary embedding in both spellings, and the refusals.
//!
//! Follows `PreTrainedConfig` and `modeling_rope_utils.py` of transformers 5, which still read the
//! older spelling: `rope_theta` and `rope_scaling` at the top, `torch_dtype` for `dtype`.

use anyhow::Result;
use lopper_record::Fault;

use crate::config::{Config, Rope};
use crate::hf::Fields;

/// Largest layer count read; the deepest published models have about 130.
pub(super) const MAX_LAYERS: usize = 4096;
const MAX_HEADS: usize = 1 << 14;
const MAX_HEAD_DIM: usize = 1 << 14;
const MAX_WIDTH: usize = 1 << 20;
const MAX_VOCABULARY: usize = 1 << 24;
const MAX_POSITIONS: usize = 1 << 32;
/// transformers' `rope_theta` where neither spelling gives one.
const DEFAULT_ROPE_THETA: f64 = 10_000.0;

/// A family's defaults for the keys a configuration may leave out.
pub(super) struct Defaults {
    /// `head_dim`; `None` means hidden_size / num_attention_heads.
    pub head_dim: Option<usize>,
    pub rms_norm_eps: f64,
    pub max_position_embeddings: usize,
    pub bos_token_id: Option<u32>,
    pub eos_token_ids: &'static [u32],
}

/// Reads everything that the families spell alike. Flags start out false; a family sets its own.
pub(super) fn parse(fields: Fields<'_>, defaults: &Defaults) -> Result<Config> {
    refuse_what_no_family_supports(fields)?;
    let hidden_size = fields.required_size("hidden_size", MAX_WIDTH)?;
    let num_attention_heads = fields.required_size("num_attention_heads", MAX_HEADS)?;
    let num_hidden_layers = fields.required_size("num_hidden_layers", MAX_LAYERS)?;
    refuse_other_attention_patterns(fields, num_hidden_layers)?;

    let num_key_value_heads = fields.size("num_key_value_heads", MAX_HEADS)?.unwrap_or(num_attention_heads);
    if !num_attention_heads.is_multiple_of(num_key_value_heads) {
        return Err(fields
            .wrong("num_key_value_heads", format!("a divisor of the {num_attention_heads} query heads"))
            .into());
    }
    let head_dim = match fields.size("head_dim", MAX_HEAD_DIM)?.or(defaults.head_dim) {
        Some(head_dim) => head_dim,
        None if hidden_size.is_multiple_of(num_attention_heads) => hidden_size / num_attention_heads,
        None => {
            return Err(fields
                .wrong("hidden_size", format!("a multiple of the {num_attention_heads} heads"))
                .hint("without `head_dim`, a head is hidden_size / num_attention_heads wide")
                .into());
        }
    };
    if !head_dim.is_multiple_of(2) {
        return Err(Fault::new("the width of a head is odd")
            .file(fields.path())
            .expected("an even `head_dim`: the rotary embedding turns pairs")
            .got(head_dim.to_string())
            .into());
    }
    // A null says that there is none; only a missing key takes the family's default.
    let eos_token_ids = match fields.has("eos_token_id") {
        true => fields.token_ids("eos_token_id")?,
        false => defaults.eos_token_ids.to_vec(),
    };
    let bos_token_id = match fields.has("bos_token_id") {
        true => fields.token_ids("bos_token_id")?.first().copied(),
        false => defaults.bos_token_id,
    };
    Ok(Config {
        model_type: fields.text("model_type")?.unwrap_or_default().to_owned(),
        vocab_size: fields.required_size("vocab_size", MAX_VOCABULARY)?,
        hidden_size,
        num_key_value_heads,
        intermediate_size: fields.required_size("intermediate_size", MAX_WIDTH)?,
        rms_norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(defaults.rms_norm_eps),
        ropes: vec![rope(fields, head_dim)?],
        tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        max_position_embeddings: fields
            .size("max_position_embeddings", MAX_POSITIONS)?
            .unwrap_or(defaults.max_position_embeddings),
        bos_token_id,
        eos_token_ids,
        ..Config::plain(num_hidden_layers, num_attention_heads, head_dim)
    })
}

fn rope(fields: Fields<'_>, head_dim: usize) -> Result<Rope> {
    let mut theta = None;
    // The older `rope_scaling` overrides `rope_parameters` in transformers where both are there.
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(rope) = fields.object(key)? else { continue };
        // Before transformers 4.43 the key was `type`.
        let spelling = if rope.get("rope_type").is_some() { "rope_type" } else { "type" };
        let rope_type = rope.text(spelling)?.unwrap_or("default");
        if rope_type != "default" {
            return Err(Fault::new(format!("rotary embedding type `{rope_type}` is not supported"))
                .file(fields.path())
                .expected(format!("`{key}` absent, or its `{spelling}` \"default\""))
                .got(format!("`{key}.{spelling}` = \"{rope_type}\""))
                .hint("removing the key would give a different model: this version cannot run it")
                .into());
        }
        refuse_partial_rotation(rope)?;
        theta = theta.or(rope.positive("rope_theta")?);
    }
    refuse_partial_rotation(fields)?;
    let theta = theta.or(fields.positive("rope_theta")?).unwrap_or(DEFAULT_ROPE_THETA);
    Ok(Rope::plain(theta, head_dim))
}

fn refuse_partial_rotation(fields: Fields<'_>) -> Result<()> {
    match fields.number("partial_rotary_factor")? {
        Some(factor) if factor != 1.0 => {
            Err(fields.wrong("partial_rotary_factor", "1.0: heads are rotated whole").into())
        }
        _ => Ok(()),
    }
}

fn refuse_what_no_family_supports(fields: Fields<'_>) -> Result<()> {
    if fields.get("quantization_config").is_some() {
        return Err(fields
            .wrong("quantization_config", "no such key: weights in float32, float16 or bfloat16")
            .hint("take the unquantised checkpoint of the same model")
            .into());
    }
    for key in ["hidden_act", "hidden_activation"] {
        // `swish` is transformers' other name for the same function.
        if let Some(activation) = fields.text(key)?
            && !["silu", "swish"].contains(&activation)
        {
            return Err(fields.wrong(key, "\"silu\", the gate of the MLP").into());
        }
    }
    for key in ["num_experts", "num_local_experts", "n_routed_experts"] {
        if fields.number(key)?.is_some_and(|experts| experts > 0.0) {
            return Err(fields.wrong(key, "no such key: dense models, without a mixture of experts").into());
        }
    }
    Ok(())
}

fn refuse_other_attention_patterns(fields: Fields<'_>, num_hidden_layers: usize) -> Result<()> {
    let Some(value) = fields.get("layer_types") else { return Ok(()) };
    let Some(types) = value.as_array() else {
        return Err(fields.wrong("layer_types", "a list with one name per layer").into());
    };
    if types.len() != num_hidden_layers {
        return Err(Fault::new("`layer_types` and `num_hidden_layers` contradict each other")
            .file(fields.path())
            .expected(format!("{num_hidden_layers} layer types"))
            .got(types.len().to_string())
            .into());
    }
    match types.iter().position(|kind| kind.as_str() != Some("full_attention")) {
        None => Ok(()),
        Some(layer) => Err(Fault::new("an attention pattern that is not supported")
            .file(fields.path())
            .expected("`layer_types` all \"full_attention\"")
            .got(format!("{} at layer {layer}", crate::hf::shorten(&types[layer])))
            .into()),
    }
}
