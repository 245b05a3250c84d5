//! Writing weights that were computed (trained, merged, an adapter's) as safetensors.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lopper_record::write_atomic;
use safetensors::tensor::Dtype;
use serde_json::{Map, Value, json};

use crate::families::{expected_tensors, parse_config};
use crate::hf::{CONFIG, WEIGHTS};
use crate::model::Model;

use super::dtype::{encode, torch_name};
use super::stream::{SafetensorsWriter, TensorInfo};

/// Values converted and written at a time, so that no second copy of a tensor is held.
const CHUNK: usize = 1 << 18;

/// A tensor to write.
#[derive(Debug, Clone)]
pub struct Array<'a> {
    /// Its name in the file.
    pub name: String,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: &'a [f32],
}

/// Writes `arrays` in their order as the safetensors file `path`, stored as `dtype` (F32, F16 or
/// BF16). The file appears whole or not at all.
pub fn save_safetensors(
    path: &Path,
    arrays: &[Array<'_>],
    dtype: Dtype,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut infos = Vec::with_capacity(arrays.len());
    for Array { name, shape, values } in arrays {
        let elements = shape.iter().product::<usize>();
        ensure!(values.len() == elements, "`{name}`: {} values for {shape:?}", values.len());
        infos.push(TensorInfo { name: name.clone(), dtype, shape: shape.clone() });
    }
    let mut writer = SafetensorsWriter::create(path, &infos, metadata)?;
    let mut bytes = Vec::new();
    for array in arrays {
        for chunk in array.values.chunks(CHUNK) {
            bytes.clear();
            encode(chunk, dtype, &mut bytes)?;
            writer.write(&bytes)?;
        }
    }
    writer.finish()
}

/// Writes `config.json` and `model.safetensors` of `model` into the existing directory `dir`,
/// the weights as `dtype`.
///
/// `config` is the `config.json` to write: that of the checkpoint the model came from, or
/// [`crate::families::config_json`] for a new one. It must describe `model`; only its dtype is
/// set here. Adapters are not written: merge them first.
pub fn save_model(dir: &Path, model: &Model, config: &Map<String, Value>, dtype: Dtype) -> Result<()> {
    let path = dir.join(CONFIG);
    let described = parse_config(config, &path)?;
    ensure!(described == model.config, "the configuration describes another model");
    let parameters: BTreeMap<_, _> = model.parameters().into_iter().collect();
    let expected = expected_tensors(&described);
    let surplus = parameters.keys().find(|name| !expected.iter().any(|(other, _)| other == *name));
    ensure!(surplus.is_none(), "no place in a checkpoint for {surplus:?}");
    let mut arrays = Vec::with_capacity(expected.len());
    for (name, shape) in expected {
        let values = parameters.get(&name).with_context(|| format!("`{name}` to write"))?;
        arrays.push(Array { name, shape, values: &values.data });
    }
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    save_safetensors(&dir.join(WEIGHTS), &arrays, dtype, &metadata)?;

    let mut config = config.clone();
    let key = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
    config.insert(key.to_owned(), json!(torch_name(dtype)?));
    let mut bytes = serde_json::to_vec_pretty(&config)?;
    bytes.push(b'\n');
    write_atomic(&path, &bytes)
}
