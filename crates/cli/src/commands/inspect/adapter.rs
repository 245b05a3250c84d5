//! What `lopper inspect --adapter` says of an adapter.

use std::path::{Path, PathBuf};

use lopper_heal::AdapterInfo;
use lopper_heal::adapter::adapter_hash;
use lopper_model::Model;
use lopper_record::{LayerSet, Result};
use serde::Serialize;

use crate::open_model::OpenModel;
use crate::table;

/// An adapter and what it fits.
#[derive(Serialize)]
pub struct Adapter {
    directory: PathBuf,
    hash: String,
    #[serde(flatten)]
    info: AdapterInfo,
    /// Whether it goes onto the model without a layer removed.
    fits: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

impl Adapter {
    /// Reads the adapter in `directory`, and loads it onto the model, whose weights stay in their file.
    pub fn read(opened: &OpenModel, directory: &Path) -> Result<Self> {
        let info = AdapterInfo::read(directory, opened.config())?;
        let mut model = Model::mapped(&opened.checkpoint)?;
        let all = LayerSet::all(model.num_layers());
        let why_not = match lopper_heal::load_adapter(directory, &mut model, &all) {
            Ok(_) => None,
            Err(error) => Some(error.into_fault()?.message),
        };
        let directory = directory.to_owned();
        Ok(Self { hash: adapter_hash(&directory)?, directory, info, fits: why_not.is_none(), why_not })
    }

    /// The same for people.
    pub fn human(&self) -> String {
        let Self { directory, info, why_not, hash, .. } = self;
        let settings = &info.settings;
        let layers = match info.every_layer {
            true => format!("{} (all of the model it is for)", info.layers),
            false => info.layers.to_string(),
        };
        let fits = match why_not {
            None => "this model, with all of its layers".to_owned(),
            Some(why) => format!("not this model with all of its layers: {why}"),
        };
        let lines = [
            ("adapter", directory.display().to_string()),
            ("  kind", info.kind.clone()),
            ("  rank", format!("{}, alpha {}, dropout {}", settings.r, settings.alpha, settings.dropout)),
            ("  layers", layers),
            ("  modules", info.modules.join(", ")),
            ("  parameters", table::count(info.parameters)),
            ("  trained on", info.base.clone().unwrap_or_else(|| "a model that it does not name".to_owned())),
            ("  fits", fits),
            ("  hash", hash.clone()),
        ];
        lines.map(|(label, value)| format!("{label:<14} {value}")).join("\n")
    }
}
