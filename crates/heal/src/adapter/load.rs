//! Reads an adapter that PEFT or Lopper wrote. Its files are not trusted.
//!
//! Besides low-rank matrices and magnitudes (DoRA), an adapter may hold whole modules and rows of the embedding; these
//! are put into the model's weights ([`trained`]).

mod patterns;
mod settings;
mod trained;

use super::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, MAGNITUDE, PREFIX, ends_in, has_adapter};
use crate::recipe::LoraConfig;
use lopper_model::Model;
use lopper_model::checkpoint::{TensorView, check_safetensors, is_weight_dtype};
use lopper_model::linear::Lora;
use lopper_model::param::Param;
use lopper_record::{Fault, LayerPosition, LayerSet, Result, ensure};
use safetensors::SafeTensors;
pub(super) use settings::{Settings, Targets};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) const MAX_WEIGHTS_BYTES: u64 = 1 << 36;

/// Adds the adapter in `directory` to the layers `kept`: its layer i to the i-th of them.
///
/// Where it holds whole modules or tokens, the weights that these change are copied into memory.
///
/// # Errors
/// A [`Fault`] if the adapter is of a kind that is not supported, was trained for another shape or number of layers, or
/// is damaged; the model is then unchanged.
pub fn load_adapter(directory: &Path, model: &mut Model, kept: &LayerSet<LayerPosition>) -> Result<LoraConfig> {
    model.check_layers(kept)?;
    ensure!(!has_adapter(model), "the model has an adapter already; merge it first");
    ensure_adapter(directory)?;
    let settings = Settings::read(&directory.join(ADAPTER_CONFIG), &model.config)?;
    let weights = WeightsFile::read(directory)?;
    let (path, tensors) = (weights.path.clone(), weights.tensors()?);
    let mut left: BTreeSet<&str> = tensors.names().into_iter().collect();
    let file = AdapterFile { tensors: &tensors, path: &path, layers: kept.len() };
    let mut adapted = model.clone();
    for (index, layer) in kept.indices().enumerate() {
        for (name, linear) in adapted.layers[layer].linears_mut() {
            let module = format!("model.layers.{index}.{name}");
            let (a, b) = (format!("{PREFIX}{module}.lora_A.weight"), format!("{PREFIX}{module}.lora_B.weight"));
            let present = left.remove(a.as_str()) | left.remove(b.as_str());
            let wanted = match &settings.targets {
                Targets::Named(names) => settings.every_layer && names.iter().any(|target| ends_in(name, target)),
                Targets::Pattern => false,
            };
            if !present && !wanted {
                continue;
            }
            let (rank, scale) = settings.rank_and_scale(&module)?;
            let magnitude = format!("{PREFIX}{module}{MAGNITUDE}");
            let magnitude = match settings.lora.dora {
                true => {
                    left.remove(magnitude.as_str());
                    Some(Param::vector(file.values(&magnitude, &[linear.outputs()])?))
                }
                false => None,
            };
            linear.lora = Some(Lora {
                a: file.matrix(&a, [rank, linear.inputs()])?,
                b: file.matrix(&b, [linear.outputs(), rank])?,
                scale,
                dropout: settings.lora.dropout as f32,
                magnitude,
            });
        }
    }
    let changed = trained::put_tokens(&file, &settings, &mut adapted, &mut left)?
        | trained::put_modules(&file, &settings, &mut adapted, kept, &mut left)?;
    if let Some(name) = left.first() {
        return Err(Fault::new("the adapter has weights that the model has no module for")
            .file(&path)
            .expected(format!("adapters on the projections of {} layers", kept.len()))
            .got(format!("`{name}`"))
            .hint("an adapter fits only the model it was trained for, with the same layers cut")
            .into());
    }
    if !has_adapter(&adapted) && !changed {
        return Err(Fault::new("the adapter is empty").file(&path).hint("it changes nothing; was it saved?").into());
    }
    *model = adapted;
    Ok(settings.lora)
}

/// Refuses what is no directory.
pub(super) fn ensure_adapter(directory: &Path) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    Err(Fault::new("there is no such adapter")
        .file(directory)
        .expected(format!("a directory with {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}"))
        .hint("`lopper heal --method lora` and PEFT's save_pretrained write one")
        .into())
}

/// The bytes of an adapter's weights.
pub(super) struct WeightsFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl WeightsFile {
    /// Reads the file in the adapter `directory`.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(ADAPTER_WEIGHTS);
        let bytes = read(&path, MAX_WEIGHTS_BYTES)?;
        check_safetensors(&bytes, &path)?;
        Ok(Self { path, bytes })
    }

    /// The tensors in it.
    pub fn tensors(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes).map_err(|error| {
            Fault::new("the adapter's weights cannot be read")
                .file(&self.path)
                .expected("a whole safetensors file")
                .got(error.to_string())
                .hint("the file may be cut short; fetch or write it again")
                .into()
        })
    }
}

/// The adapter's weights.
struct AdapterFile<'a> {
    tensors: &'a SafeTensors<'a>,
    path: &'a Path,
    /// Layers that it is loaded onto.
    layers: usize,
}

impl AdapterFile<'_> {
    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Param> {
        Ok(Param::matrix(self.values(name, &shape)?, shape[0], shape[1]))
    }

    /// The values of a tensor that must be of this shape.
    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Ok(view) = self.tensors.tensor(name) else {
            return Err(Fault::new(format!("the adapter lacks `{name}`"))
                .file(self.path)
                .expected(format!("an adapter for {} layers", self.layers))
                .hint("an adapter fits only the model it was trained for, with the same layers cut")
                .into());
        };
        if view.shape() != shape || !is_weight_dtype(view.dtype()) {
            return Err(Fault::new(format!("`{name}` does not fit the model"))
                .file(self.path)
                .expected(format!("{shape:?}, as F32, F16 or BF16"))
                .got(format!("{:?}, as {:?}", view.shape(), view.dtype()))
                .hint("an adapter fits only the model it was trained for")
                .into());
        }
        let values = TensorView { dtype: view.dtype(), shape: view.shape(), data: view.data() }.to_f32()?;
        match values.iter().find(|value| !value.is_finite()) {
            None => Ok(values),
            Some(value) => Err(Fault::new(format!("the adapter's weights are not all numbers: `{name}`"))
                .file(self.path)
                .expected("finite weights")
                .got(value.to_string())
                .hint("the file is damaged, or was saved after its training had diverged")
                .into()),
        }
    }
}

pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
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
