//! Model families: how each lowers its `config.json` to the one [`Config`] that drives the
//! decoder.
//!
//! A family is one file with a `parse` function, a line in [`FAMILIES`], and a fixture. What the
//! decoder cannot compute is refused here by key and value, never ignored: a model that runs
//! with a key left out is a different model. `docs/reference/families.md` says for users what each
//! family covers.

mod common;
mod gemma2;
mod gemma3;
mod granite;
mod layers;
mod llama;
mod mistral;
mod olmo2;
mod olmo3;
mod phi3;
mod qwen2;
mod qwen3;
mod refuse;
mod rope;
mod smollm3;
mod write;

#[cfg(test)]
mod tests;

use std::path::Path;

use lopper_record::{Fault, Result};
use serde_json::{Map, Value};

use crate::config::Config;
use crate::hf::Fields;

use common::Defaults;

pub use write::config_json;

/// A model family: one `model_type`.
#[derive(Clone, Copy)]
pub struct Family {
    /// The family's `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The class that transformers loads, for `architectures` in `config.json`.
    pub architecture: &'static str,
    parse: fn(Fields<'_>) -> Result<Config>,
}

/// Every supported family.
pub const FAMILIES: [Family; 11] = [
    llama::FAMILY,
    mistral::FAMILY,
    qwen2::FAMILY,
    qwen3::FAMILY,
    gemma2::FAMILY,
    gemma3::FAMILY,
    olmo2::FAMILY,
    olmo3::FAMILY,
    phi3::FAMILY,
    smollm3::FAMILY,
    granite::FAMILY,
];

impl Family {
    /// The family of this `model_type`, if it is supported.
    pub fn from_model_type(model_type: &str) -> Option<Self> {
        FAMILIES.into_iter().find(|family| family.model_type == model_type)
    }
}

/// Lowers a parsed `config.json` to a [`Config`]; `path` names the file in faults.
pub fn parse_config(json: &Map<String, Value>, path: &Path) -> Result<Config> {
    let fields = Fields::new(json, path);
    refuse::multimodal(fields)?;
    let supported = || {
        let names = FAMILIES.map(|family| format!("`{}`", family.model_type));
        names.join(", ")
    };
    let Some(model_type) = fields.text("model_type")? else {
        return Err(Fault::new("`model_type` is missing, so the family is not known")
            .file(path)
            .expected(format!("one of {}", supported()))
            .got("no `model_type` key")
            .hint("is this the config.json of a Hugging Face language model?")
            .into());
    };
    let Some(family) = Family::from_model_type(model_type) else {
        return Err(Fault::new(format!("unknown model family `{model_type}`"))
            .file(path)
            .expected(format!("`model_type` one of {}", supported()))
            .got(format!("`{model_type}`"))
            .hint("only these families can be read in this version")
            .into());
    };
    (family.parse)(fields)
}
