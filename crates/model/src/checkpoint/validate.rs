//! Does the configuration describe the weights? Names, shapes and dtypes of every tensor are
//! compared before anything is computed, because a checkpoint that half fits gives numbers.

use std::collections::BTreeMap;
use std::path::Path;

use lopper_record::{Fault, Result};

use crate::config::Config;
use crate::tensors::{EMBEDDING, HEAD, expected_tensors, layer_of};

use super::{Checkpoint, Located, is_weight_dtype};

/// Faults if a tensor that the configuration needs is missing or of another shape, or if there
/// is a tensor that it leaves no place for.
pub(super) fn weights_match_config(config: &Config, tensors: &BTreeMap<String, Located>, model: &Path) -> Result<()> {
    let expected = expected_tensors(config);
    let mut known = std::collections::HashSet::with_capacity(expected.len());
    for (name, shape) in &expected {
        let Some(found) = tensors.get(name) else {
            return Err(missing(name, shape, config, tensors, model).into());
        };
        if found.shape != *shape {
            return Err(Fault::new(format!("config.json contradicts the weights at `{name}`"))
                .file(model)
                .expected(format!("shape {shape:?}, by config.json"))
                .got(format!("shape {:?} in the weights", found.shape))
                .hint(shape_hint(name))
                .into());
        }
        if !is_weight_dtype(found.dtype) {
            return Err(Fault::new(format!("tensor `{name}` is of a type that cannot be read"))
                .file(model)
                .expected("F32, F16 or BF16; F64 and 8-bit floats are converted")
                .got(found.dtype.to_string())
                .hint("quantised checkpoints are not read; take the unquantised one")
                .into());
        }
        known.insert(name.as_str());
    }
    match tensors.keys().find(|name| !known.contains(name.as_str()) && !is_harmless(name)) {
        Some(name) => Err(unexpected(name, config, model).into()),
        None => Ok(()),
    }
}

/// Faults if there is a head beside an embedding to which the configuration ties it, and it is
/// another. transformers 4 overwrites such a head with the embedding; transformers 5 keeps it, with
/// a warning. Reads both.
pub(super) fn tied_head_is_the_embedding(checkpoint: &Checkpoint) -> Result<()> {
    if !checkpoint.config().tie_word_embeddings || !checkpoint.contains(HEAD) {
        return Ok(());
    }
    let (head, embedding) = (checkpoint.tensor(HEAD)?, checkpoint.tensor(EMBEDDING)?);
    let same = head.shape == embedding.shape
        && if head.dtype == embedding.dtype {
            // By hash, which reads the file and leaves no pages of it in memory.
            checkpoint.tensor_hash(HEAD)? == checkpoint.tensor_hash(EMBEDDING)?
        } else {
            is_weight_dtype(head.dtype) && head.to_f32()? == embedding.to_f32()?
        };
    if same {
        return Ok(());
    }
    Err(Fault::new(format!("config.json ties the head to the embedding, and `{HEAD}` is another tensor"))
        .file(checkpoint.path_of(crate::hf::CONFIG))
        .expected(format!("`{HEAD}` equal to `{EMBEDDING}`, or \"tie_word_embeddings\": false"))
        .got("a head of its own in the weights")
        .hint("versions of transformers disagree on which of both to use; say which in config.json")
        .into())
}

/// Tensors that transformers also ignores: the table of rotary frequencies that old versions
/// saved, and a head beside a tied embedding (but see [`tied_head_is_the_embedding`]).
fn is_harmless(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name == HEAD
}

fn missing(name: &str, shape: &[usize], config: &Config, tensors: &BTreeMap<String, Located>, model: &Path) -> Fault {
    let fault = Fault::new(format!("the weights lack the tensor `{name}`"))
        .file(model)
        .expected(format!("`{name}` of shape {shape:?}, by config.json"))
        .got(format!("{} tensors without it", tensors.len()));
    if name == HEAD {
        return fault.hint(
            "if the head is tied to the embedding, config.json should say \
             \"tie_word_embeddings\": true",
        );
    }
    let layers = tensors.keys().filter_map(|name| layer_of(name)).map(|(layer, _)| layer + 1).max();
    match (layer_of(name), layers) {
        (Some((layer, _)), Some(layers)) if layer >= layers => {
            fault.hint(format!("config.json says {} layers, and the weights hold {layers}", config.num_hidden_layers))
        }
        (_, None) if name == EMBEDDING => {
            fault.hint("these are not the weights of a causal language model of this family")
        }
        _ => fault.hint("the checkpoint is incomplete, or config.json belongs to another model"),
    }
}

fn unexpected(name: &str, config: &Config, model: &Path) -> Fault {
    let fault = Fault::new(format!("config.json leaves no place for the tensor `{name}`"))
        .file(model)
        .got(format!("`{name}` in the weights"));
    match layer_of(name) {
        Some((layer, _)) if layer >= config.num_hidden_layers => fault
            .expected(format!("layers 0 to {}", config.num_hidden_layers - 1))
            .hint("`num_hidden_layers` in config.json is smaller than the weights"),
        Some((_, rest)) if rest.ends_with(".bias") => {
            fault.expected("no such bias").hint("`attention_bias` or `mlp_bias` in config.json may be wrong")
        }
        _ => fault
            .expected(format!("only the tensors of `{}`", config.model_type))
            .hint("the weights may belong to another family or task"),
    }
}

fn shape_hint(name: &str) -> String {
    let keys = match layer_of(name).map_or(name, |(_, rest)| rest) {
        EMBEDDING | HEAD => "`vocab_size` or `hidden_size`",
        rest if rest.starts_with("self_attn.q_norm") => "`head_dim`",
        rest if rest.starts_with("self_attn.k_norm") => "`head_dim`",
        rest if rest.starts_with("self_attn.k_proj") || rest.starts_with("self_attn.v_proj") => {
            "`num_key_value_heads`, `head_dim` or `hidden_size`"
        }
        rest if rest.starts_with("self_attn") => "`num_attention_heads`, `head_dim` or `hidden_size`",
        rest if rest.starts_with("mlp") => "`intermediate_size` or `hidden_size`",
        _ => "`hidden_size`",
    };
    format!("compare {keys} in config.json with the model the weights came from")
}
