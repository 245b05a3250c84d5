//! `config.json` of a pruned model: the source's with the settings that count or list layers
//! brought in step. Everything else stays, in its order.
//!
//! The published scripts for this method cut `layer_types` to its first entries; a model with
//! alternating attention then runs with the wrong pattern. Here every list follows its layers.

use anyhow::Result;
use lopper_model::Checkpoint;
use lopper_model::families::parse_config;
use lopper_model::hf::{CONFIG, Fields, shorten};
use lopper_record::Fault;
use serde_json::{Map, Value, json};

/// Settings of Hugging Face configurations that hold one entry per layer.
const PER_LAYER: [&str; 4] = ["layer_types", "mlp_layer_types", "layers_block_type", "no_rope_layers"];

/// The text of `config.json` for `checkpoint` with the layers at the positions `kept`, ascending.
pub(super) fn pruned(checkpoint: &Checkpoint, kept: &[usize]) -> Result<String> {
    let path = checkpoint.path_of(CONFIG);
    let mut json = checkpoint.config_json().clone();
    edit(&mut json, checkpoint.config().num_hidden_layers, kept, &path)?;
    // What is written must be read by the same rules as any other configuration.
    let config = parse_config(&json, &path)?;
    anyhow::ensure!(config.num_hidden_layers == kept.len(), "config.json was not edited");
    Ok(serde_json::to_string_pretty(&Value::Object(json))? + "\n")
}

fn edit(json: &mut Map<String, Value>, layers: usize, kept: &[usize], path: &std::path::Path) -> Result<()> {
    // Qwen's windows begin at this layer where they are in use: the layers before it attend to
    // everything. Kept layers stay in order, so those before it are counted.
    let window = Fields::new(json, path).number("max_window_layers")?;
    if let Some(window) = window {
        let before = kept.iter().filter(|layer| (**layer as f64) < window).count();
        json.insert("max_window_layers".to_owned(), json!(before));
    }
    for (key, value) in json.iter_mut() {
        if !PER_LAYER.contains(&key.as_str()) && !key.ends_with("_per_layer") {
            continue;
        }
        let Some(list) = value.as_array() else { continue };
        if list.len() != layers {
            return Err(Fault::new(format!("`{key}` does not have one entry per layer"))
                .file(path)
                .expected(format!("{layers} entries"))
                .got(shorten(value))
                .hint("which entries belong to which layer is not known, so the cut is not written")
                .into());
        }
        *value = kept.iter().map(|layer| list[*layer].clone()).collect();
    }
    json.insert("num_hidden_layers".to_owned(), json!(kept.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn edited(json: Value, layers: usize, kept: &[usize]) -> Result<Value> {
        let mut object = json.as_object().unwrap().clone();
        edit(&mut object, layers, kept, Path::new("config.json"))?;
        Ok(Value::Object(object))
    }

    #[test]
    fn lists_follow_their_layers_and_keys_their_order() {
        let source = json!({
            "zeta": [1, 2, 3, 4], "layer_types": ["a", "b", "c", "d"], "num_hidden_layers": 4,
            "max_window_layers": 3, "window_per_layer": [1, null, 3, 4], "eos_token_id": [5, 6, 7, 8], "alpha": {"x": 1.5},
        });
        let expected = json!({
            "zeta": [1, 2, 3, 4], "layer_types": ["b", "d"], "num_hidden_layers": 2,
            "max_window_layers": 1, "window_per_layer": [null, 4], "eos_token_id": [5, 6, 7, 8], "alpha": {"x": 1.5},
        });
        let result = edited(source, 4, &[1, 3]).unwrap();
        // As text, because equality of objects ignores the order of keys.
        assert_eq!(result.to_string(), expected.to_string());
    }

    #[test]
    fn windows_begin_at_the_same_layers() {
        for (window, kept, expected) in
            [(4, vec![0, 1], 2), (28, vec![0, 3], 2), (0, vec![1], 0), (2, vec![0, 2, 3], 1)]
        {
            let json = edited(json!({"max_window_layers": window}), 4, &kept).unwrap();
            assert_eq!(json["max_window_layers"], json!(expected));
        }
    }

    #[test]
    fn a_list_of_another_length_is_a_fault() {
        let error = edited(json!({"layer_types": ["a"]}), 4, &[0]).unwrap_err();
        assert!(error.downcast::<Fault>().unwrap().message.contains("layer_types"));
    }
}
