//! What the configurations of decoder-only families have in common: sizes and their bounds,
//! special tokens, the activation.
//!
//! Follows `PreTrainedConfig` of transformers 5. A family says what its own class does about keys
//! that are left out: transformers makes a difference between a key that is missing (the class's
//! default) and one that is null (nothing, or a value that follows from others).

use lopper_record::{Fault, Result};

use crate::config::{Activation, Config};
use crate::hf::Fields;

use super::refuse;

/// Largest layer count read; the deepest published models have about 130.
pub(super) const MAX_LAYERS: usize = 4096;
/// Most tokens that any key may speak of.
pub(super) const MAX_POSITIONS: usize = 1 << 32;
const MAX_HEADS: usize = 1 << 14;
const MAX_HEAD_DIM: usize = 1 << 14;
const MAX_WIDTH: usize = 1 << 20;
const MAX_VOCABULARY: usize = 1 << 24;

/// What a family does about keys that a configuration may leave out, and which it reads.
pub(super) struct Defaults {
    /// `head_dim`; `None` means hidden_size / num_attention_heads.
    pub head_dim: Option<usize>,
    /// `num_key_value_heads` where the key is missing; `None` means as many as query heads, which
    /// null means everywhere.
    pub num_key_value_heads: Option<usize>,
    pub rms_norm_eps: f64,
    pub max_position_embeddings: usize,
    pub bos_token_id: Option<u32>,
    pub eos_token_ids: &'static [u32],
    pub tie_word_embeddings: bool,
    /// The key that names the activation, and what it is without.
    pub activation: (&'static str, Activation),
    /// Those of [`refuse`]'s keys that this family understands.
    pub reads: &'static [&'static str],
}

impl Defaults {
    /// Those of most classes; not of any one family.
    pub const USUAL: Self = Self {
        head_dim: None,
        num_key_value_heads: None,
        rms_norm_eps: 1e-6,
        max_position_embeddings: 2048,
        bos_token_id: None,
        eos_token_ids: &[],
        tie_word_embeddings: false,
        activation: ("hidden_act", Activation::Silu),
        reads: &[],
    };
}

/// Reads everything that the families spell alike. What they do not, among it layers and rotary
/// embeddings, is left as in [`Config::plain`]; a family sets it.
pub(super) fn parse(fields: Fields<'_>, defaults: &Defaults) -> Result<Config> {
    refuse::unsupported(fields, defaults.reads)?;
    let hidden_size = fields.required_size("hidden_size", MAX_WIDTH)?;
    let num_attention_heads = fields.required_size("num_attention_heads", MAX_HEADS)?;
    let num_hidden_layers = fields.required_size("num_hidden_layers", MAX_LAYERS)?;

    let num_key_value_heads = match fields.has("num_key_value_heads") {
        true => fields.size("num_key_value_heads", MAX_HEADS)?,
        false => defaults.num_key_value_heads,
    };
    let num_key_value_heads = num_key_value_heads.unwrap_or(num_attention_heads);
    if !num_attention_heads.is_multiple_of(num_key_value_heads) {
        return Err(Fault::new("`num_key_value_heads` is not usable")
            .file(fields.path())
            .expected(format!("a divisor of the {num_attention_heads} query heads"))
            .got(num_key_value_heads.to_string())
            .hint(match fields.has("num_key_value_heads") {
                true => "null means as many as query heads",
                false => "a missing key takes the default of the family in transformers",
            })
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
        activation: activation(fields, defaults.activation)?,
        rms_norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(defaults.rms_norm_eps),
        tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(defaults.tie_word_embeddings),
        max_position_embeddings: fields
            .size("max_position_embeddings", MAX_POSITIONS)?
            .unwrap_or(defaults.max_position_embeddings),
        bos_token_id,
        eos_token_ids,
        ..Config::plain(num_hidden_layers, num_attention_heads, head_dim)
    })
}

/// As [`parse`], with the biases of `attention_bias`, and of `mlp_bias` where the family reads it.
pub(super) fn parse_biased(fields: Fields<'_>, defaults: &Defaults) -> Result<Config> {
    let config = parse(fields, defaults)?;
    let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    let mlp_bias = defaults.reads.contains(&"mlp_bias") && fields.flag("mlp_bias")?.unwrap_or(false);
    Ok(Config { qkv_bias: attention_bias, o_bias: attention_bias, mlp_bias, ..config })
}

/// The activation under the family's key. The other of the two keys in use is not read by
/// transformers, so it may only say the same.
fn activation(fields: Fields<'_>, (key, default): (&str, Activation)) -> Result<Activation> {
    let read = |key: &str| -> Result<Option<Activation>> {
        match fields.text(key)? {
            None => Ok(None),
            // `swish` is transformers' other name for silu, `gelu_new` for the tanh approximation.
            Some("silu" | "swish") => Ok(Some(Activation::Silu)),
            Some("gelu_pytorch_tanh" | "gelu_new") => Ok(Some(Activation::GeluTanh)),
            Some(_) => {
                Err(fields.wrong(key, "\"silu\" or \"gelu_pytorch_tanh\", the function of the MLP's gate").into())
            }
        }
    };
    let activation = read(key)?.unwrap_or(default);
    let other = if key == "hidden_act" { "hidden_activation" } else { "hidden_act" };
    match read(other)? {
        Some(named) if named != activation => Err(fields
            .wrong(other, format!("the same activation as under `{key}`, or no such key"))
            .hint(format!("transformers reads `{key}` for this family; without it, the activation is {default:?}"))
            .into()),
        _ => Ok(activation),
    }
}
