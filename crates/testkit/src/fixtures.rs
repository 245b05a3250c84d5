//! What scripts in `fixtures/` made with other programs, and the tensors of checkpoints that tests write.

use lopper_model::Checkpoint;
use lopper_model::checkpoint::{Array, Dtype, save_safetensors};
use lopper_model::hf::{WEIGHTS, WEIGHTS_INDEX};
use serde::de::DeserializeOwned;
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The path `name` in `fixtures/`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// The JSON file `name` in `fixtures/`.
///
/// # Panics
/// Where it is not there, or of another form.
#[track_caller]
pub fn fixture_json<T: DeserializeOwned>(name: &str) -> T {
    let bytes = fs::read(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The names (`FAMILY/VARIANT`) of the checkpoints in `fixtures/` that come with what PyTorch made of them, sorted;
/// without those that are only dressed otherwise (`fixtures/dressed`), which have expectations of their own.
pub fn fixtures() -> Vec<String> {
    let names = |name: &str| {
        let entries = fs::read_dir(fixture(name)).expect("a directory").map(|entry| entry.expect("an entry"));
        let directories = entries.filter(|entry| entry.path().is_dir());
        directories.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let variants = |family: String| names(&family).into_iter().map(move |variant| format!("{family}/{variant}"));
    let mut found: Vec<String> = names("").into_iter().flat_map(variants).collect();
    found.retain(|name| {
        !name.starts_with("dressed/")
            && ["expected.json", "config.json"].iter().all(|file| fixture(name).join(file).is_file())
    });
    found.sort();
    found
}

/// A tensor's name, shape and values.
pub type NamedTensor = (String, Vec<usize>, Vec<f32>);

/// Every tensor of a checkpoint, by name.
pub fn tensors(directory: &Path) -> Vec<NamedTensor> {
    let checkpoint = Checkpoint::open(directory).expect("a valid checkpoint");
    let tensor = |name: &str| {
        let shape = checkpoint.tensor(name).expect("a tensor").shape.to_vec();
        (name.to_owned(), shape, checkpoint.values(name).expect("values"))
    };
    checkpoint.names().map(tensor).collect()
}

/// Writes tensors as a weights file in `f32`.
pub fn write_tensors(path: &Path, tensors: &[NamedTensor]) {
    let mut arrays = Vec::with_capacity(tensors.len());
    for (name, shape, values) in tensors {
        arrays.push(Array { name: name.clone(), shape: shape.clone(), values });
    }
    save_safetensors(path, &arrays, Dtype::F32, &BTreeMap::new()).expect("a directory that can be written");
}

/// The weights files that [`shard`] writes.
pub const SHARDS: [&str; 2] = ["model-1.safetensors", "model-2.safetensors"];

/// Replaces the weights file of a checkpoint by two shards with an index, and returns its tensors.
pub fn shard(directory: &Path) -> Vec<NamedTensor> {
    let tensors = tensors(directory);
    fs::remove_file(directory.join(WEIGHTS)).expect("a weights file");
    let mut map = Map::new();
    let (first, second) = tensors.split_at(tensors.len() / 2);
    for (part, file) in [first, second].into_iter().zip(SHARDS) {
        write_tensors(&directory.join(file), part);
        map.extend(part.iter().map(|(name, ..)| (name.clone(), json!(file))));
    }
    let index = json!({"metadata": {}, "weight_map": map}).to_string();
    fs::write(directory.join(WEIGHTS_INDEX), index).expect("a directory that can be written");
    tensors
}
