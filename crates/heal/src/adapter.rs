//! Low-rank adapters (LoRA, Hu et al., arXiv 2106.09685) on the projections of a model, in PEFT's layout:
//! `adapter_config.json` and `adapter_model.safetensors`.
//!
//! In the files, layers are numbered as in the pruned model that the adapter was trained for, because that is the model
//! other programs load it onto. In memory, an adapter may also be on some layers of the uncut model.
//!
//! Read, but not made here: ranks and alphas that differ between modules, modules and tokens trained whole.
//!
//! Not covered, and refused: low-rank adapters on embedding or head, trained biases, initialisations that change the
//! base's weights, adapters in pickled files.

mod info;
mod load;

pub use info::AdapterInfo;
pub use load::load_adapter;

use crate::recipe::LoraConfig;
use lopper_model::checkpoint::{Array, Dtype, save_safetensors};
use lopper_model::linear::Lora;
use lopper_model::param::Param;
use lopper_model::tensors::layer_of;
use lopper_model::{Model, Threads};
use lopper_record::{LayerPosition, LayerSet, Result, ensure, write_atomic};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// The file of the adapter's settings.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The file of the adapter's weights.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// PEFT's prefix of parameter names.
const PREFIX: &str = "base_model.model.";
/// The end of the names of DoRA's magnitudes.
const MAGNITUDE: &str = ".lora_magnitude_vector";

/// Adds a new adapter to the layers `kept`; returns the number of weights added.
///
/// As in PEFT, A is drawn uniformly from ±1/√inputs (Kaiming's rule with a = √5) and B is zero, so that the model's
/// outputs do not change. The draws depend on the seed and on the order of the kept layers, not on their positions.
/// DoRA's magnitudes are the norms of the weight's rows.
///
/// # Errors
/// A [`Fault`](lopper_record::Fault) for settings out of range; an error for a position that the model does not have,
/// and for a model that has an adapter.
pub fn attach_lora(model: &mut Model, config: &LoraConfig, seed: u64, kept: &LayerSet<LayerPosition>) -> Result<usize> {
    config.check()?;
    let config = &config.for_model(&model.config);
    model.check_layers(kept)?;
    ensure!(!has_adapter(model), "the model has an adapter already; merge it first");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut added = 0;
    for layer in kept.indices() {
        for (name, linear) in model.layers[layer].linears_mut() {
            if !targets(config, name) {
                continue;
            }
            let (inputs, outputs, rank) = (linear.inputs(), linear.outputs(), config.r);
            let bound = 1.0 / (inputs as f32).sqrt();
            let uniform = |rng: &mut ChaCha8Rng| (f64::from(rng.next_u32()) / 2_147_483_648.0 - 1.0) as f32 * bound;
            let a = (0..rank * inputs).map(|_| uniform(&mut rng)).collect();
            linear.lora = Some(Lora {
                a: Param::matrix(a, rank, inputs),
                b: Param::matrix(vec![0.0; outputs * rank], outputs, rank),
                scale: config.scale(),
                dropout: config.dropout as f32,
                magnitude: None,
            });
            added += rank * (inputs + outputs);
            if config.dora {
                let norms = Param::vector(linear.row_norms(Threads::Pool));
                added += outputs;
                linear.lora.iter_mut().for_each(|lora| lora.magnitude = Some(norms.clone()));
            }
        }
    }
    Ok(added)
}

/// Whether any layer has an adapter.
pub fn has_adapter(model: &Model) -> bool {
    model.parameters().iter().any(|(name, _)| is_adapter(name))
}

/// Whether the parameter of this name belongs to an adapter.
pub fn is_adapter(name: &str) -> bool {
    [".lora_A.weight", ".lora_B.weight", MAGNITUDE].iter().any(|end| name.ends_with(end))
}

/// Identifies the adapter in `directory` by the bytes of its files.
///
/// # Errors
/// A [`Fault`](lopper_record::Fault) if they cannot be read.
pub fn adapter_hash(directory: &Path) -> Result<String> {
    load::ensure_adapter(directory)?;
    let mut hasher = blake3::Hasher::new();
    for name in [ADAPTER_CONFIG, ADAPTER_WEIGHTS] {
        hasher.update(&load::read(&directory.join(name), load::MAX_WEIGHTS_BYTES)?);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Merges every adapter into its weight.
pub fn merge(model: &mut Model) {
    for layer in &mut model.layers {
        for (_, linear) in layer.linears_mut() {
            linear.merge();
        }
    }
}

/// The base model of an adapter, as recorded in PEFT's `adapter_config.json`.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// A directory or an id of the hub.
    pub name: &'a str,
    /// The commit of a model of the hub.
    pub revision: Option<&'a str>,
}

/// Writes the adapter of the layers `kept` into the existing directory `directory`. `base` is the model that PEFT loads
/// it onto: the pruned one; `None` if that has not been written.
///
/// # Errors
/// If the model has no adapter, or the files cannot be written.
pub fn save_adapter(
    directory: &Path,
    model: &Model,
    kept: &LayerSet<LayerPosition>,
    config: &LoraConfig,
    base: Option<Base<'_>>,
) -> Result<()> {
    let config = &config.for_model(&model.config);
    let parameters = model.keep(kept).parameters();
    let arrays: Vec<Array<'_>> = parameters
        .iter()
        .filter(|(name, _)| is_adapter(name))
        .map(|(name, param)| Array {
            name: format!("{PREFIX}{name}"),
            shape: if name.ends_with(MAGNITUDE) { vec![param.cols] } else { vec![param.rows, param.cols] },
            values: &param.data,
        })
        .collect();
    ensure!(!arrays.is_empty(), "the model has no adapter to write");
    let adapters = parameters.iter().filter(|(name, _)| is_adapter(name));
    let mut layers: Vec<usize> = adapters.filter_map(|(name, _)| Some(layer_of(name)?.0)).collect();
    layers.dedup();
    let layers = (layers.len() < kept.len()).then_some(layers);
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    save_safetensors(&directory.join(ADAPTER_WEIGHTS), &arrays, Dtype::F32, &metadata)?;
    // The keys without a suitable default in PEFT's LoraConfig, and those of features that are not used.
    let settings = json!({
        "alpha_pattern": {},
        "base_model_name_or_path": base.map(|base| base.name),
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": layers,
        "lora_alpha": number(config.alpha),
        "lora_dropout": config.dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": config.r,
        "rank_pattern": {},
        "revision": base.and_then(|base| base.revision),
        "target_modules": config.target_modules,
        "task_type": "CAUSAL_LM",
        "use_dora": config.dora,
        "use_rslora": config.rslora,
    });
    let mut bytes = serde_json::to_vec_pretty(&settings)?;
    bytes.push(b'\n');
    write_atomic(&directory.join(ADAPTER_CONFIG), &bytes)
}

/// Whole numbers without a fraction, as PEFT writes alpha.
fn number(value: f64) -> serde_json::Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

/// Whether the projection `name` (`self_attn.q_proj`) has an adapter. PEFT's rule: a target is the end of a name.
fn targets(config: &LoraConfig, name: &str) -> bool {
    config.target_modules.iter().any(|target| ends_in(name, target))
}

fn ends_in(name: &str, target: &str) -> bool {
    name.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
