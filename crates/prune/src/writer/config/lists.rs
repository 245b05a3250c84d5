//! Lists with one entry per layer: the entries of removed layers are removed.

use std::path::Path;

use lopper_model::hf::shorten;
use lopper_record::{Fault, Result};
use serde_json::{Map, Value};

/// Lists that must have one entry per layer; another length is a broken configuration.
const PER_LAYER: [&str; 4] = ["layer_types", "mlp_layer_types", "layers_block_type", "no_rope_layers"];

/// Of these, the one that transformers looks up by layer, whatever follows.
const MAY_BE_LONGER: &str = "no_rope_layers";

/// Lists that may happen to have as many entries as there are layers and mean something else.
const NOT_PER_LAYER: [&str; 9] = [
    "architectures",
    "long_factor",
    "short_factor",
    "keys_to_ignore_at_inference",
    "forced_decoder_ids",
    "language",
    "languages",
    "tags",
    "mtp_layer_types",
];

/// Endings of such names: token ids, rotary sections and factors, class names.
const NOT_PER_LAYER_ENDINGS: [&str; 7] =
    ["_token_id", "_token_ids", "_tokens", "_section", "_sections", "_words_ids", "_labels"];

/// Lists that name layers by number: cutting renumbers layers, and whether the list should follow depends on the
/// program that reads it.
const BY_NUMBER: [&str; 3] = ["_layer_indices", "_layer_ids", "_layer_idx"];
const BY_NUMBER_NAMES: [&str; 2] = ["mlp_only_layers", "full_attention_layers"];

/// Layers that compute with other layers' keys and values, and layers beyond the last one.
const TIED: [(&str, &str); 6] = [
    ("num_kv_shared_layers", "layers that share keys and values with others"),
    ("num_nextn_predict_layers", "layers for multi-token prediction"),
    ("mtp_num_hidden_layers", "layers for multi-token prediction"),
    ("num_mtp_layers", "layers for multi-token prediction"),
    ("num_mtp_modules", "layers for multi-token prediction"),
    ("n_mtp_layers", "layers for multi-token prediction"),
];

/// Refuses layers that cannot go, or stay, on their own.
pub(super) fn refuse_tied_layers(json: &Map<String, Value>, path: &Path) -> Result<()> {
    for (key, what) in TIED {
        let harmless = match json.get(key) {
            None | Some(Value::Null) => true,
            Some(value) => value.as_f64() == Some(0.0),
        };
        if !harmless {
            return Err(Fault::new(format!("the model has {what}, which Lopper cannot cut"))
                .file(path)
                .expected(format!("`{key}` absent or 0"))
                .got(json.get(key).map(shorten).unwrap_or_default())
                .hint("layers that depend on others cannot be removed one by one")
                .into());
        }
    }
    Ok(())
}

/// Cuts every list with one entry per layer to the entries of `kept`.
pub(super) fn follow(json: &mut Map<String, Value>, layers: usize, kept: &[usize], path: &Path) -> Result<()> {
    for (key, value) in json.iter_mut() {
        let Some(list) = value.as_array() else { continue };
        let known = PER_LAYER.contains(&key.as_str()) || key.ends_with("_per_layer");
        if !known && is_by_number(key) && !list.is_empty() {
            return Err(Fault::new(format!("`{key}` names layers by number"))
                .file(path)
                .expected("no such list, or an empty one")
                .got(shorten(value))
                .hint("the numbers would be wrong after a cut, and what reads them is not known; remove the key if nothing does")
                .into());
        }
        if known && list.len() != layers && !(key == MAY_BE_LONGER && list.len() > layers) {
            return Err(Fault::new(format!("`{key}` does not have one entry per layer"))
                .file(path)
                .expected(format!("{layers} entries"))
                .got(shorten(value))
                .hint("which entries belong to which layer is not known, so the cut is not written")
                .into());
        }
        if known || (list.len() == layers && !means_something_else(key)) {
            *value = kept.iter().map(|layer| list[*layer].clone()).collect();
        }
    }
    Ok(())
}

fn is_by_number(key: &str) -> bool {
    BY_NUMBER_NAMES.contains(&key) || BY_NUMBER.iter().any(|ending| key.ends_with(ending))
}

fn means_something_else(key: &str) -> bool {
    NOT_PER_LAYER.contains(&key)
        || is_by_number(key)
        || NOT_PER_LAYER_ENDINGS.iter().any(|ending| key.ends_with(ending))
}
