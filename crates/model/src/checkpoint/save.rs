//! Writing weights that were computed (trained, merged, an adapter's) as safetensors.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lopper_record::write_atomic;
use safetensors::tensor::Dtype;
use serde_json::{Map, Value, json};

use crate::families::{expected_tensors, parse_config};
use crate::hf::{CONFIG, WEIGHTS};
use crate::linear::Linear;
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
    let tensors: Vec<_> = arrays.iter().map(|array| (array.name.clone(), array.shape.clone())).collect();
    write(path, &tensors, dtype, metadata, |at| Ok(Cow::Borrowed(arrays[at].values)))
}

/// Writes tensors of these names and shapes, asking for the values of each when it comes to it.
fn write<'a>(
    path: &Path,
    tensors: &[(String, Vec<usize>)],
    dtype: Dtype,
    metadata: &BTreeMap<String, String>,
    values: impl Fn(usize) -> Result<Cow<'a, [f32]>>,
) -> Result<()> {
    let info = |(name, shape): &(String, Vec<usize>)| TensorInfo { name: name.clone(), dtype, shape: shape.clone() };
    let infos: Vec<TensorInfo> = tensors.iter().map(info).collect();
    let mut writer = SafetensorsWriter::create(path, &infos, metadata)?;
    let mut bytes = Vec::new();
    for (at, (name, shape)) in tensors.iter().enumerate() {
        let values = values(at)?;
        ensure!(values.len() == shape.iter().product::<usize>(), "`{name}`: {} values for {shape:?}", values.len());
        for chunk in values.chunks(CHUNK) {
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
/// set here. Adapters are folded in, one matrix at a time.
pub fn save_model(dir: &Path, model: &Model, config: &Map<String, Value>, dtype: Dtype) -> Result<()> {
    let path = dir.join(CONFIG);
    let described = parse_config(config, &path)?;
    ensure!(described == model.config, "the configuration describes another model");
    let mut parameters: BTreeMap<String, Linear> = BTreeMap::new();
    for (name, param) in model.parameters() {
        if !name.contains(".lora_") {
            parameters.insert(name, Linear::new(param));
        }
    }
    for (index, layer) in model.clone().layers.iter_mut().enumerate() {
        for (name, linear) in layer.linears_mut() {
            parameters.insert(format!("model.layers.{index}.{name}.weight"), linear.clone());
        }
    }
    let expected = expected_tensors(&described);
    let surplus = parameters.keys().find(|name| !expected.iter().any(|(other, _)| other == *name));
    ensure!(surplus.is_none(), "no place in a checkpoint for {surplus:?}");
    for (name, shape) in &expected {
        let written = parameters.get(name).with_context(|| format!("`{name}` to write"))?.weight.len();
        ensure!(written == shape.iter().product::<usize>(), "`{name}`: {written} values for {shape:?}");
    }
    let values = |at: usize| -> Result<Cow<'_, [f32]>> {
        let linear = &parameters[&expected[at].0];
        if linear.lora.is_none() {
            return Ok(linear.weight.values());
        }
        let mut merged = linear.clone();
        merged.merge();
        Ok(Cow::Owned(merged.weight.values().into_owned()))
    };
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write(&dir.join(WEIGHTS), &expected, dtype, &metadata, values)?;

    let mut config = config.clone();
    let key = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
    config.insert(key.to_owned(), json!(torch_name(dtype)?));
    let mut bytes = serde_json::to_vec_pretty(&config)?;
    bytes.push(b'\n');
    write_atomic(&path, &bytes)
}
