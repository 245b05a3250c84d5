//! What an adapter is, by its settings and the names and shapes of its weights, and which model its layers are
//! counted in.

use super::load::{Settings, Targets, WeightsFile};
use super::{ADAPTER_CONFIG, MAGNITUDE, PREFIX, load};
use crate::recipe::LoraConfig;
use lopper_model::Config;
use lopper_model::tensors::layer_of;
use lopper_record::{Fault, LayerPosition, LayerSet, Result};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The low-rank adapter of a module has two of these.
const LOW_RANK: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];

/// An adapter, as its files describe it.
#[derive(Debug, Clone, Serialize)]
pub struct AdapterInfo {
    /// `LoRA`, `rsLoRA`, `DoRA`, …
    pub kind: String,
    /// The settings that hold for most modules.
    pub settings: LoraConfig,
    /// The base model that it names: a directory or an id of the hub.
    pub base: Option<String>,
    /// The layers that it changes, in the numbering of the model that it was trained for.
    pub layers: LayerSet<LayerPosition>,
    /// Whether it is on every layer of that model.
    pub every_layer: bool,
    /// Projections with low-rank matrices, and modules and tokens that were trained whole, without layer numbers.
    pub modules: Vec<String>,
    /// All its numbers.
    pub parameters: u64,
    #[serde(skip)]
    directory: PathBuf,
}

impl AdapterInfo {
    /// Reads the settings and the header of the weights of the adapter in `directory`, for a model of this
    /// configuration.
    ///
    /// # Errors
    /// A [`Fault`] if there is no adapter, and for one that [`load_adapter`](super::load_adapter) refuses by its
    /// settings or by what its weights' header says.
    pub fn read(directory: &Path, model: &Config) -> Result<Self> {
        load::ensure_adapter(directory)?;
        let settings = Settings::read(&directory.join(ADAPTER_CONFIG), model)?;
        let weights = WeightsFile::read(directory)?;
        let tensors = weights.tensors()?;
        let (mut layers, mut modules, mut parameters) = (BTreeSet::new(), BTreeSet::new(), 0u64);
        for (name, view) in tensors.iter() {
            parameters += view.shape().iter().product::<usize>() as u64;
            let name = name.strip_prefix(PREFIX).unwrap_or(name);
            let layer = layer_of(name);
            layers.extend(layer.map(|(layer, _)| layer));
            let module = layer.map_or(name, |(_, rest)| rest);
            let module = LOW_RANK.iter().chain([&MAGNITUDE]).find_map(|end| module.strip_suffix(end)).unwrap_or(module);
            modules.insert(module.to_owned());
        }
        let whole = matches!(settings.targets, Targets::Named(_)) && settings.every_layer;
        Ok(Self {
            kind: settings.lora.kind().to_owned(),
            base: settings.base,
            layers: layers.into_iter().collect(),
            every_layer: whole,
            modules: modules.into_iter().collect(),
            parameters,
            settings: settings.lora,
            directory: directory.to_owned(),
        })
    }

    /// The layers of a model of `layers` that [`load_adapter`](super::load_adapter) puts this adapter on, where only
    /// `kept` of them run: these, if it was trained for the cut that they are; all, if it was trained for the uncut
    /// model, of which each layer's adapter goes with its layer. `names` are those of the model.
    ///
    /// An adapter on every layer shows by their number which of the two it is, and so does a layer that the cut does
    /// not have. What is on some of the first layers alone shows it by its `base_model_name_or_path`: nothing, as
    /// `lopper heal --drop` writes it, is the cut.
    ///
    /// # Errors
    /// A [`Fault`] for an adapter of neither, and for one that does not say of which it is.
    pub fn loaded_onto(
        &self,
        layers: usize,
        kept: &LayerSet<LayerPosition>,
        names: &[String],
    ) -> Result<LayerSet<LayerPosition>> {
        let all = LayerSet::all(layers);
        let beyond = self.layers.indices().last().map_or(0, |last| last + 1);
        if kept.len() == layers || beyond == 0 {
            return Ok(all);
        }
        let uncut = format!("layers 0 to {} of the uncut model", layers - 1);
        let cut = format!("layers 0 to {} of the cut", kept.len() - 1);
        let fault = |message: &str, got: String| {
            Fault::new(message).file(&self.directory).expected(format!("an adapter on {cut}, or on {uncut}")).got(got)
        };
        let on = format!("an adapter on layers {}", self.layers);
        if beyond > layers {
            return Err(fault("the adapter is of a model with more layers", on)
                .hint("an adapter fits only the model it was trained for, whole or with these layers cut")
                .into());
        }
        if beyond > kept.len() {
            if self.every_layer && beyond < layers {
                return Err(fault("the adapter is of a cut of another depth", on)
                    .hint("give --drop the layers that were cut when it was trained")
                    .into());
            }
            return Ok(all);
        }
        if self.every_layer {
            // Fewer layers than the cut has are refused when it is loaded.
            return Ok(kept.clone());
        }
        match &self.base {
            None => Ok(kept.clone()),
            Some(base) if names.contains(base) => Ok(all),
            Some(base) => {
                let base: String = base.chars().take(200).collect();
                Err(fault("whose layers the adapter is on cannot be known", format!("{on} of `{base}`"))
                    .hint(
                        "if that is the cut, write it with `lopper prune`, and give the written model with --adapter \
                         and without --drop; if it is the uncut model, let base_model_name_or_path in its \
                         adapter_config.json be as MODEL is given",
                    )
                    .into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(layers: &[usize], every_layer: bool, base: Option<&str>) -> AdapterInfo {
        AdapterInfo {
            kind: "LoRA".to_owned(),
            settings: LoraConfig::default(),
            base: base.map(str::to_owned),
            layers: layers.iter().copied().collect(),
            every_layer,
            modules: vec![],
            parameters: 0,
            directory: "adapter".into(),
        }
    }

    /// Of five layers, 1 and 3 are cut.
    fn onto(info: &AdapterInfo) -> Result<Vec<usize>> {
        let names = ["the/model".to_owned()];
        Ok(info.loaded_onto(5, &[0, 2, 4].into(), &names)?.indices().collect())
    }

    #[test]
    fn layers_show_which_model_an_adapter_is_of() {
        let (cut, uncut) = (vec![0, 2, 4], vec![0, 1, 2, 3, 4]);
        assert_eq!(onto(&info(&[0, 1, 2], true, Some("any"))).unwrap(), cut);
        assert_eq!(onto(&info(&[0, 1, 2, 3, 4], true, None)).unwrap(), uncut);
        assert_eq!(onto(&info(&[1, 3], false, Some("any"))).unwrap(), uncut, "the cut has no layer 3");
        assert_eq!(onto(&info(&[1, 2], false, None)).unwrap(), cut, "as `lopper heal --drop` writes it");
        assert_eq!(onto(&info(&[1, 2], false, Some("the/model"))).unwrap(), uncut);
        assert_eq!(onto(&info(&[], false, None)).unwrap(), uncut, "only embedding and head");
    }

    #[test]
    fn what_is_of_neither_or_of_either_is_refused() {
        for (info, message) in [
            (info(&[0, 1, 2, 3, 4, 5], true, None), "more layers"),
            (info(&[0, 1, 2, 3], true, None), "another depth"),
            (info(&[1, 2], false, Some("other")), "cannot be known"),
        ] {
            let fault = onto(&info).unwrap_err().into_fault().unwrap();
            assert!(fault.message.contains(message) && fault.hint.is_some(), "{fault}");
        }
        // Without a cut there is one model.
        let whole = info(&[1, 2], false, Some("other")).loaded_onto(5, &LayerSet::all(5), &[]).unwrap();
        assert_eq!(whole.len(), 5);
    }
}
