//! Which files of a repository belong to a model that Lopper can read.

use std::collections::BTreeSet;
use std::path::Path;

use lopper_record::{Fault, Result};
use serde_json::Value;

use crate::cache::read_up_to;
use crate::id::HubId;

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

/// The largest file other than weights that is downloaded; the same limit as for local models.
pub(crate) const MAX_SIDE_FILE_BYTES: u64 = 1 << 30;

pub(crate) const PICKLES: [&str; 5] = [".bin", ".pt", ".pth", ".pkl", ".ckpt"];
const OTHER_WEIGHTS: [&str; 8] =
    [".safetensors", ".gguf", ".h5", ".msgpack", ".onnx", ".npz", ".tflite", ".index.json"];

/// Whether `name` is a file of a model other than its weights, by the list in [`lopper_record::is_side_file`].
pub(crate) fn is_side_file(name: &str) -> bool {
    if let Some((directory, file)) = name.split_once('/') {
        return directory == "additional_chat_templates" && is_plain(file) && file.ends_with(".jinja");
    }
    let lower = name.to_lowercase();
    let whole = [CONFIG, "readme.md", "cut.json"];
    let code_or_weights = PICKLES.iter().chain(&OTHER_WEIGHTS).chain(&[".py"]).any(|ending| lower.ends_with(ending));
    let known = whole.contains(&lower.as_str()) || lopper_record::is_side_file(name);
    is_plain(name) && known && !code_or_weights
}

/// Whether `name` can only be a file of the directory it is looked up in.
pub(crate) fn is_plain(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !name.starts_with('.')
        && !name.contains(['/', '\\', ':'])
        && !name.chars().any(char::is_control)
}

/// Whether the index may name this shard.
fn is_shard(name: &str) -> bool {
    is_plain(name) && name.ends_with(".safetensors")
}

/// How a repository holds its weights.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    One,
    Shards,
}

/// How the repository of `model` with these files holds its weights.
///
/// # Errors
/// A [`Fault`] where it has no weights in safetensors, or no configuration.
pub(crate) fn weights<'a>(model: &HubId, names: impl Iterator<Item = &'a str> + Clone) -> Result<Weights> {
    let has = |name: &str| names.clone().any(|other| other == name);
    let with_ending = |endings: &[&str]| names.clone().find(|name| endings.iter().any(|ending| name.ends_with(ending)));
    // The same precedence as in transformers.
    let found = if has(WEIGHTS) {
        Weights::One
    } else if has(WEIGHTS_INDEX) {
        Weights::Shards
    } else {
        return Err(no_weights(model, has("adapter_config.json"), with_ending).into());
    };
    if !has(CONFIG) {
        return Err(Fault::new(format!("the repository {} has no configuration", model.id))
            .expected(CONFIG)
            .got("weights without it")
            .hint("it is not a model in the format of transformers")
            .into());
    }
    Ok(found)
}

fn no_weights<'a>(model: &HubId, adapter: bool, with_ending: impl Fn(&[&str]) -> Option<&'a str>) -> Fault {
    let id = &model.id;
    let fault = Fault::new(format!("the repository {id} has no weights that Lopper can read"))
        .expected(format!("{WEIGHTS}, or {WEIGHTS_INDEX} with its shards"));
    if adapter {
        return fault
            .got("a PEFT adapter")
            .hint("give the base model as MODEL, and the adapter, downloaded, as --adapter");
    }
    if let Some(pickle) = with_ending(&PICKLES) {
        return fault.got(format!("pickled weights ({pickle})")).hint(format!(
            "pickles can run any code when loaded, so Lopper never reads them; look for a conversion to safetensors among \
             the repository's pull requests (then `{id}@refs/pr/N`), or convert it where you trust it: in Python, \
             transformers' save_pretrained writes safetensors"
        ));
    }
    if with_ending(&[".gguf"]).is_some() {
        return fault.got("GGUF files").hint("give the Hugging Face model they were converted from");
    }
    if let Some(other) = with_ending(&[".safetensors"]) {
        return fault.got(other.to_owned()).hint("it is not a model in the format of transformers");
    }
    fault.got("none").hint("is it a model for text?")
}

/// The shards that the index at `path` names, sorted.
///
/// # Errors
/// A [`Fault`] for an index that cannot be read, is not an index, or names anything but plain file names.
pub(crate) fn shards(path: &Path) -> Result<BTreeSet<String>> {
    let bytes = read_up_to(path, MAX_SIDE_FILE_BYTES)
        .map_err(|error| Fault::new("the index of the shards cannot be read").file(path).got(error.to_string()))?;
    let index: Value = serde_json::from_slice(&bytes).map_err(|error| {
        Fault::new("the index of the shards is not valid JSON").file(path).expected("an object").got(error.to_string())
    })?;
    let Some(map) = index.get("weight_map").and_then(Value::as_object).filter(|map| !map.is_empty()) else {
        return Err(Fault::new("the index of the shards names no shard")
            .file(path)
            .expected("`weight_map`: an object from tensor names to file names")
            .hint("the repository is damaged; try another revision")
            .into());
    };
    let mut names = BTreeSet::new();
    for (tensor, name) in map {
        match name.as_str().filter(|name| is_shard(name)) {
            Some(name) => {
                names.insert(name.to_owned());
            }
            None => {
                return Err(Fault::new("the index names a shard that is not a file of the repository")
                    .file(path)
                    .expected("a plain file name ending in .safetensors")
                    .got(format!("{} for tensor `{tensor}`", name.to_string().chars().take(80).collect::<String>()))
                    .hint("the repository is damaged or malicious")
                    .into());
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> HubId {
        HubId::parse("a/b").unwrap().unwrap()
    }

    fn fault(names: &[&str]) -> Fault {
        weights(&model(), names.iter().copied()).unwrap_err().into_fault().unwrap()
    }

    #[test]
    fn files_that_belong_to_a_model() {
        let wanted = "config.json generation_config.json tokenizer.json tokenizer.model tokenizer_config.json vocab.json \
            merges.txt chat_template.jinja chat_template.json additional_chat_templates/tools.jinja LICENSE.txt \
            USE_POLICY.md README.md cut.json qwen.tiktoken";
        let left = [
            ".gitattributes",
            "modeling_x.py",
            "tokenizer.py",
            "pytorch_model.bin",
            "tokenizer.bin",
            "model.safetensors",
            "original/tokenizer.model",
            "onnx/config.json",
            "../config.json",
            "additional_chat_templates/../../x.jinja",
            "additional_chat_templates/x.py",
            "license\\x",
            "license\n",
            "figures.png",
            "",
        ];
        wanted.split(' ').for_each(|name| assert!(is_side_file(name), "{name}"));
        left.iter().for_each(|name| assert!(!is_side_file(name), "{name}"));
    }

    #[test]
    fn safetensors_only() {
        let find = |names: &[&str]| weights(&model(), names.iter().copied()).unwrap();
        assert_eq!(find(&["config.json", "model.safetensors", "model.safetensors.index.json"]), Weights::One);
        assert_eq!(find(&["config.json", "model.safetensors.index.json", "pytorch_model.bin"]), Weights::Shards);
        let pickles = fault(&["config.json", "pytorch_model-00001-of-00002.bin"]);
        assert!(pickles.got.unwrap().contains("pickled") && pickles.hint.unwrap().contains("refs/pr"));
        assert!(fault(&["model.Q4.gguf"]).hint.unwrap().contains("converted from"));
        assert!(fault(&["adapter_config.json", "adapter_model.safetensors"]).hint.unwrap().contains("--adapter"));
        assert_eq!(fault(&["README.md"]).got.unwrap(), "none");
        assert!(fault(&["model.safetensors"]).message.contains("no configuration"));
    }

    #[test]
    fn an_index_names_plain_files_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(WEIGHTS_INDEX);
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            shards(&path)
        };
        let good =
            read(r#"{"weight_map":{"a":"m-2.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}}"#).unwrap();
        assert_eq!(good.into_iter().collect::<Vec<_>>(), ["m-1.safetensors", "m-2.safetensors"]);
        let hostile =
            ["../../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..", "a\\\\b.safetensors", "x.bin", ""];
        for name in hostile {
            let error = read(&format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#)).unwrap_err();
            assert!(error.fault().is_some(), "{name}");
        }
        for text in ["", "[]", r#"{"weight_map":[]}"#, r#"{"weight_map":{}}"#, r#"{"weight_map":{"a":3}}"#] {
            assert!(read(text).unwrap_err().fault().is_some(), "{text}");
        }
    }
}
