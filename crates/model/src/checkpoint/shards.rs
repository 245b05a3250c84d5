//! Which files hold the weights: `model.safetensors`, or the shards that
//! `model.safetensors.index.json` names.

use std::collections::{BTreeMap, BTreeSet};

use lopper_record::{Fault, Result};

use crate::hf::{self, Fields, WEIGHTS, WEIGHTS_INDEX};

use super::source::Source;

/// The weight files of a checkpoint, and what the index says of each tensor.
pub(super) struct Shards {
    /// File names, sorted.
    pub files: Vec<String>,
    /// Tensor name to file name; empty without an index.
    pub index: BTreeMap<String, String>,
}

/// Finds the weight files. Checks that each is there, and opens none.
pub(super) fn find(source: &Source) -> Result<Shards> {
    // The same precedence as in transformers.
    if source.has(WEIGHTS) {
        return Ok(Shards { files: vec![WEIGHTS.to_owned()], index: BTreeMap::new() });
    }
    match source.read(WEIGHTS_INDEX)? {
        Some(bytes) => from_index(source, &bytes),
        None => Err(no_weights(source)?.into()),
    }
}

fn from_index(source: &Source, bytes: &[u8]) -> Result<Shards> {
    let path = source.path_of(WEIGHTS_INDEX);
    let object = hf::parse_object(bytes, &path)?;
    let Some(map) = Fields::new(&object, &path).get("weight_map").and_then(|map| map.as_object()) else {
        return Err(Fault::new("the index of the shards has no `weight_map`")
            .file(&path)
            .expected("`weight_map`: an object from tensor names to file names")
            .into());
    };
    let mut index = BTreeMap::new();
    let mut files = BTreeSet::new();
    for (tensor, file) in map {
        let Some(file) = file.as_str().filter(|file| is_plain_file_name(file)) else {
            return Err(Fault::new("the index names a shard that is not a file of this directory")
                .file(&path)
                .expected("a plain file name ending in .safetensors")
                .got(format!("{} for tensor `{tensor}`", hf::shorten(file)))
                .into());
        };
        files.insert(file.to_owned());
        index.insert(tensor.clone(), file.to_owned());
    }
    if files.is_empty() {
        return Err(Fault::new("the index of the shards names no tensor").file(&path).into());
    }
    for file in &files {
        if !source.has(file) {
            return Err(Fault::new("a shard of the checkpoint is missing")
                .file(source.path_of(file))
                .expected(format!("the {} files that {WEIGHTS_INDEX} names", files.len()))
                .got(format!("no {file}"))
                .hint("the download did not finish; fetch the missing file")
                .into());
        }
    }
    Ok(Shards { files: files.into_iter().collect(), index })
}

/// An index comes from elsewhere: it must not be able to name files outside the directory.
fn is_plain_file_name(name: &str) -> bool {
    name.ends_with(".safetensors")
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains(['/', '\\', ':', '\0'])
}

fn no_weights(source: &Source) -> Result<Fault> {
    let names = source.list()?;
    let fault = Fault::new("the directory holds no weights that can be read")
        .file(source.path())
        .expected(format!("{WEIGHTS}, or {WEIGHTS_INDEX} with its shards"));
    let ending = |endings: &[&str]| names.iter().find(|name| endings.iter().any(|ending| name.ends_with(ending)));
    if names.iter().any(|name| name == "adapter_config.json") {
        return Ok(fault.got("a PEFT adapter").hint("give the base model as MODEL, and this directory as --adapter"));
    }
    if let Some(pickle) = ending(&[".bin", ".pt", ".pth", ".pkl"]) {
        return Ok(fault.got(pickle.clone()).hint(
            "pickled weights can run any code when loaded, so they are never read; convert them \
             with transformers: save_pretrained writes safetensors",
        ));
    }
    if let Some(gguf) = ending(&[".gguf"]) {
        return Ok(fault.got(gguf.clone()).hint("GGUF files are not read; give the Hugging Face model they came from"));
    }
    if let Some(other) = ending(&[".safetensors"]) {
        return Ok(fault
            .got(other.clone())
            .hint(format!("rename a single file to {WEIGHTS}; several need {WEIGHTS_INDEX}")));
    }
    let fault = fault.hint("download or copy the weights as well");
    Ok(fault.got(match names.len() {
        0 => "an empty directory".to_owned(),
        n => format!("{n} other files"),
    }))
}
