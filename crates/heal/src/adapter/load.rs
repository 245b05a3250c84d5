//! Reads an adapter that PEFT or Lopper wrote. Its files are not trusted.

use super::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, PREFIX, ends_in, has_adapter};
use crate::recipe::{LoraConfig, PROJECTIONS};
use lopper_model::checkpoint::{TensorView, check_safetensors, is_weight_dtype};
use lopper_model::hf::{Fields, parse_object};
use lopper_model::linear::Lora;
use lopper_model::param::Param;
use lopper_model::{Config, Model};
use lopper_record::{Fault, LayerPosition, LayerSet, Result, ensure};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

const MAX_CONFIG_BYTES: u64 = 1 << 24;
const MAX_WEIGHTS_BYTES: u64 = 1 << 36;

/// The setting `target_modules`.
enum Targets {
    /// Ends of module names.
    Named(Vec<String>),
    /// A pattern: the modules that the weights are of.
    Pattern,
}

/// Adds the adapter in `directory` to the layers `kept`: its layer i to the i-th of them.
///
/// # Errors
/// A [`Fault`] if the adapter is of a kind that is not supported, was trained for another shape or number of layers, or
/// is damaged; the model is then unchanged.
pub fn load_adapter(directory: &Path, model: &mut Model, kept: &LayerSet<LayerPosition>) -> Result<LoraConfig> {
    model.check_layers(kept)?;
    ensure!(!has_adapter(model), "the model has an adapter already; merge it first");
    if !directory.is_dir() {
        return Err(Fault::new("there is no such adapter")
            .file(directory)
            .expected(format!("a directory with {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}"))
            .hint("`lopper heal --method lora` and PEFT's save_pretrained write one")
            .into());
    }
    let (config, targets, every_layer) = read_config(&directory.join(ADAPTER_CONFIG), &model.config)?;
    let path = directory.join(ADAPTER_WEIGHTS);
    let bytes = read(&path, MAX_WEIGHTS_BYTES)?;
    check_safetensors(&bytes, &path)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| {
        Fault::new("the adapter's weights cannot be read")
            .file(&path)
            .expected("a whole safetensors file")
            .got(error.to_string())
            .hint("the file may be cut short; fetch or write it again")
    })?;
    let mut left: BTreeSet<&str> = tensors.names().into_iter().collect();
    let mut adapted = model.clone();
    for (index, layer) in kept.indices().enumerate() {
        for (name, linear) in adapted.layers[layer].linears_mut() {
            let stem = format!("{PREFIX}model.layers.{index}.{name}");
            let (a, b) = (format!("{stem}.lora_A.weight"), format!("{stem}.lora_B.weight"));
            let present = left.remove(a.as_str()) | left.remove(b.as_str());
            let wanted = match &targets {
                Targets::Named(names) => every_layer && names.iter().any(|target| ends_in(name, target)),
                Targets::Pattern => false,
            };
            if !present && !wanted {
                continue;
            }
            let value = |name: &str, shape: [usize; 2]| matrix(&tensors, name, shape, &path, kept.len());
            linear.lora = Some(Lora {
                a: value(&a, [config.r, linear.inputs()])?,
                b: value(&b, [linear.outputs(), config.r])?,
                scale: config.scale(),
                dropout: config.dropout as f32,
            });
        }
    }
    if let Some(name) = left.first() {
        return Err(Fault::new("the adapter has weights that the model has no module for")
            .file(&path)
            .expected(format!("adapters on the projections of {} layers", kept.len()))
            .got(format!("`{name}`"))
            .hint("an adapter fits only the model it was trained for, with the same layers cut")
            .into());
    }
    if !has_adapter(&adapted) {
        return Err(Fault::new("the adapter is empty").file(&path).hint("it changes nothing; was it saved?").into());
    }
    *model = adapted;
    Ok(config)
}

fn matrix(tensors: &SafeTensors<'_>, name: &str, shape: [usize; 2], path: &Path, layers: usize) -> Result<Param> {
    let Ok(view) = tensors.tensor(name) else {
        return Err(Fault::new(format!("the adapter lacks `{name}`"))
            .file(path)
            .expected(format!("an adapter for {layers} layers"))
            .hint("an adapter fits only the model it was trained for, with the same layers cut")
            .into());
    };
    if view.shape() != shape || !is_weight_dtype(view.dtype()) {
        return Err(Fault::new(format!("`{name}` does not fit the model"))
            .file(path)
            .expected(format!("{shape:?}, as F32, F16 or BF16"))
            .got(format!("{:?}, as {:?}", view.shape(), view.dtype()))
            .hint("an adapter fits only the model it was trained for")
            .into());
    }
    let values = TensorView { dtype: view.dtype(), shape: view.shape(), data: view.data() }.to_f32()?;
    Ok(Param::matrix(values, shape[0], shape[1]))
}

/// The settings, the targets, and whether the adapter is on every layer.
fn read_config(path: &Path, model: &Config) -> Result<(LoraConfig, Targets, bool)> {
    let object = parse_object(&read(path, MAX_CONFIG_BYTES)?, path)?;
    let fields = Fields::new(&object, path);
    let unsupported = |key: &str, expected: &str| {
        fields.wrong(key, expected).hint("merge the adapter with PEFT (merge_and_unload) and give the merged model")
    };
    if fields.text("peft_type")?.is_some_and(|kind| kind != "LORA") {
        return Err(unsupported("peft_type", "LORA; other adapters are not supported").into());
    }
    if fields.text("bias")?.is_some_and(|bias| bias != "none") {
        return Err(unsupported("bias", "none: trained biases are not supported").into());
    }
    for key in ["use_dora", "use_qalora", "lora_bias", "fan_in_fan_out"] {
        if fields.flag(key)? == Some(true) {
            return Err(unsupported(key, "false: this kind of adapter is not supported").into());
        }
    }
    for key in [
        "rank_pattern",
        "alpha_pattern",
        "modules_to_save",
        "target_parameters",
        "trainable_token_indices",
        "alora_invocation_tokens",
        "layer_replication",
        "use_bdlora",
    ] {
        if fields.get(key).is_some_and(|value| !is_empty(value)) {
            return Err(unsupported(
                key,
                "nothing: only one rank and alpha for all modules, and no other trained parts, are supported",
            )
            .into());
        }
    }
    let (targets, named) = match fields.get("target_modules") {
        Some(Value::Array(names)) => {
            let names: Option<Vec<String>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
            let Some(names) = names else {
                return Err(fields.wrong("target_modules", "a list of names").into());
            };
            let known = PROJECTIONS.iter().filter(|name| names.iter().any(|target| ends_in(target, name)));
            let known = known.map(|name| (*name).to_owned()).collect();
            (Targets::Named(names), known)
        }
        // PEFT's name for every linear layer except the head.
        Some(Value::String(all)) if all == "all-linear" => {
            let all = LoraConfig::default().for_model(model).target_modules;
            (Targets::Named(all.clone()), all)
        }
        _ => (Targets::Pattern, LoraConfig::default().for_model(model).target_modules),
    };
    let config = LoraConfig {
        r: fields.required_size("r", 1 << 16)?,
        alpha: match fields.positive("lora_alpha")? {
            Some(alpha) => alpha,
            None => return Err(fields.wrong("lora_alpha", "a number greater than 0").into()),
        },
        dropout: fields.number("lora_dropout")?.unwrap_or(0.0),
        target_modules: named,
        rslora: fields.flag("use_rslora")?.unwrap_or(false),
    };
    if !(0.0..1.0).contains(&config.dropout) {
        return Err(fields.wrong("lora_dropout", "from 0 up to, not including, 1").into());
    }
    let every_layer = fields.get("layers_to_transform").is_none() && fields.get("exclude_modules").is_none();
    Ok((config, targets, every_layer))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)) {
        Ok(_) if bytes.len() as u64 <= most => Ok(bytes),
        Ok(_) => Err(Fault::new("the file is too large").file(path).expected(format!("at most {most} bytes")).into()),
        Err(error) => Err(Fault::new("a file of the adapter cannot be read")
            .file(path)
            .expected(format!("{ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}"))
            .got(error.to_string())
            .hint("adapters in pickled files (.bin) are not read; save them with safe_serialization")
            .into()),
    }
}
