//! Writing a model that was computed (trained, merged) as a Hugging Face directory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use lopper_record::{Context, Result, ensure, write_atomic};
use serde_json::{Map, Value, json};

use super::Model;
use crate::checkpoint::write_tensors;
use crate::dtype::{Dtype, torch_name};
use crate::families::parse_config;
use crate::hf::{CONFIG, WEIGHTS};
use crate::linear::Linear;
use crate::tensors::expected_tensors;

impl Model {
    /// Writes `config.json` and `model.safetensors` into the existing directory `dir`,
    /// the weights as `dtype`.
    ///
    /// `config` is the `config.json` to write: that of the checkpoint the model came from, or
    /// [`crate::families::config_json`] for a new one. It must describe this model; only its dtype is
    /// set here. Adapters are folded in, one matrix at a time.
    pub fn save(&self, dir: &Path, config: &Map<String, Value>, dtype: Dtype) -> Result<()> {
        let path = dir.join(CONFIG);
        let described = parse_config(config, &path)?;
        ensure!(described == self.config, "the configuration describes another model");
        let mut parameters: BTreeMap<String, Linear> = BTreeMap::new();
        for (name, param) in self.parameters() {
            if !name.contains(".lora_") {
                parameters.insert(name, Linear::new(param));
            }
        }
        for (index, layer) in self.clone().layers.iter_mut().enumerate() {
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
        write_tensors(&dir.join(WEIGHTS), &expected, dtype, &metadata, values)?;

        let mut config = config.clone();
        let key = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        config.insert(key.to_owned(), json!(torch_name(dtype)?));
        let mut bytes = serde_json::to_vec_pretty(&config)?;
        bytes.push(b'\n');
        write_atomic(&path, &bytes)
    }
}
