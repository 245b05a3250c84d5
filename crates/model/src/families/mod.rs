//! Model families: how each lowers its `config.json` to the one [`Config`] that drives the
//! decoder.
//!
//! A family is one file with a `parse` function, a line in [`Family`], and a fixture. What the
//! decoder cannot compute is refused here by key and value, never ignored: a model that runs
//! with a key left out is a different model.

mod common;
mod llama;
mod qwen3;
mod tensors;
mod write;

#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::Result;
use lopper_record::Fault;
use serde_json::{Map, Value};

use crate::config::Config;
use crate::hf::Fields;

pub use tensors::{EMBEDDING, FINAL_NORM, HEAD, LAYER_PREFIX, expected_tensors, layer_of, layer_tensors, rename_layer};
pub use write::config_json;

/// The supported families, one per `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama 1 to 3 and everything of the same architecture (`llama`).
    Llama,
    /// Qwen3, dense (`qwen3`).
    Qwen3,
}

impl Family {
    /// Every supported family.
    pub const ALL: [Family; 2] = [Family::Llama, Family::Qwen3];

    /// The family's `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Qwen3 => "qwen3",
        }
    }

    /// The class that transformers loads, for `architectures` in `config.json`.
    pub fn architecture(self) -> &'static str {
        match self {
            Family::Llama => "LlamaForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// The family of this `model_type`, if it is supported.
    pub fn from_model_type(model_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.model_type() == model_type)
    }

    fn parse(self, fields: Fields<'_>) -> Result<Config> {
        match self {
            Family::Llama => llama::parse(fields),
            Family::Qwen3 => qwen3::parse(fields),
        }
    }
}

/// Lowers a parsed `config.json` to a [`Config`]; `path` names the file in faults.
pub fn parse_config(json: &Map<String, Value>, path: &Path) -> Result<Config> {
    let fields = Fields::new(json, path);
    let supported = || {
        let names = Family::ALL.map(|family| format!("`{}`", family.model_type()));
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
    family.parse(fields)
}
