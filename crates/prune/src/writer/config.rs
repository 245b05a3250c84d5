//! `config.json` of a pruned model: the source's with the number of layers, lists with an entry for each layer, and
//! periods of layers adapted. Everything else stays, in its order.
//!
//! The published scripts for this method cut `layer_types` to its first entries; a model with alternating attention
//! then runs with the wrong pattern. Here every list keeps the entries of the kept layers ([`lists`]), and fields that
//! give a pattern by its period or its first layer are replaced where they cannot express the cut ([`rules`]). The
//! result is then proved: the edited file, read like any other, must give the source's configuration with only the kept
//! layers, field by field ([`proof`]). That is the model that was measured.

mod lists;
mod pattern;
mod proof;
mod readers;
mod rules;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::path::Path;

use lopper_model::checkpoint::torch_name;
use lopper_model::families::parse_config;
use lopper_model::hf::CONFIG;
use lopper_model::{Checkpoint, Config};
use serde_json::{Map, Value, json};

use lopper_record::{LayerPosition, LayerSet, Result};

use crate::plan::{ConfigChange, layer_numbering};

/// Other keys for the number of layers.
const OTHER_COUNTS: [&str; 3] = ["num_layers", "n_layer", "n_layers"];

/// The configuration of a pruned model.
pub(super) struct Pruned {
    /// `config.json` as text.
    pub text: String,
    /// The keys that differ from the source.
    pub changes: Vec<ConfigChange>,
    /// [`super::WriteReport::warnings`].
    pub warnings: Vec<String>,
}

/// The configuration of `checkpoint` with only the layers `kept`. With `keep_pattern`, cuts are refused that move a
/// layer to a position where the uncut model has a layer of another kind.
pub(super) fn pruned(checkpoint: &Checkpoint, kept: &LayerSet<LayerPosition>, keep_pattern: bool) -> Result<Pruned> {
    let (config, path) = (checkpoint.config(), checkpoint.path_of(CONFIG));
    let originals: Vec<usize> = layer_numbering(checkpoint)?.present().indices().collect();
    let positions: Vec<usize> = kept.indices().collect();
    let cut = Cut { config, kept: &positions, originals: &originals, path: &path };
    let source = checkpoint.config_json();
    let mut json = edit(source, &cut, keep_pattern)?;
    if checkpoint.is_converted() {
        json.remove("quantization_config");
        let key = if json.contains_key("torch_dtype") && !json.contains_key("dtype") { "torch_dtype" } else { "dtype" };
        json.insert(key.to_owned(), json!(torch_name(checkpoint.dtype())?));
    }
    let changes = ConfigChange::between(source, &json);
    let warnings = readers::warnings(&json, &config.keep(kept));
    Ok(Pruned { text: serde_json::to_string_pretty(&Value::Object(json))? + "\n", changes, warnings })
}

/// Says that the head is not the embedding.
pub(super) fn untie(json: &mut Map<String, Value>) -> ConfigChange {
    const KEY: &str = "tie_word_embeddings";
    let before = json.insert(KEY.to_owned(), json!(false)).map(|value| value.to_string());
    ConfigChange { key: KEY.to_owned(), before, after: Some("false".to_owned()) }
}

/// What is cut from what.
struct Cut<'a> {
    /// The source's configuration.
    config: &'a Config,
    /// Positions of the kept layers, ascending.
    kept: &'a [usize],
    /// The original number of each layer of the source, for messages.
    originals: &'a [usize],
    /// The source's `config.json`, for messages.
    path: &'a Path,
}

/// The edited configuration, proved to mean the source without the removed layers.
fn edit(source: &Map<String, Value>, cut: &Cut<'_>, keep_pattern: bool) -> Result<Map<String, Value>> {
    let json = rewrite(source, cut, keep_pattern)?;
    // Read by the same rules as any other configuration.
    proof::same(&parse_config(&json, cut.path)?, &cut.config.keep(&cut.kept.iter().copied().collect()))?;
    Ok(json)
}

fn rewrite(source: &Map<String, Value>, cut: &Cut<'_>, keep_pattern: bool) -> Result<Map<String, Value>> {
    let Cut { config, kept, path, .. } = *cut;
    let layers = config.num_hidden_layers;
    lists::refuse_tied_layers(source, path)?;
    if keep_pattern {
        pattern::check(cut, &config.layers)?;
    }
    let mut json = source.clone();
    lists::follow(&mut json, layers, kept, path)?;
    for key in OTHER_COUNTS {
        if json.get(key).and_then(Value::as_u64) == Some(layers as u64) {
            json.insert(key.to_owned(), json!(kept.len()));
        }
    }
    json.insert("num_hidden_layers".to_owned(), json!(kept.len()));
    rules::respace(source, &mut json, cut)?;
    Ok(json)
}
