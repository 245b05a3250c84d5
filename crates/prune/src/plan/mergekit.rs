//! A cut written as a mergekit configuration: a `passthrough` of slices of one model, in order.
//!
//! Only what such a cut needs is read; whatever would make mergekit compute other weights (another
//! merge method, scaling, several models, a layer taken twice) is refused by name. Follows
//! `MergeConfiguration` in `mergekit/config.py` of mergekit 0.1.5.

use std::path::Path;

use lopper_record::{Fault, LayerNumbering, LayerPosition, LayerSet, Result};
use serde_json::Value;

use super::{MAX_PLAN_BYTES, read_file};

/// Keys that change nothing about the weights of a passthrough of one model.
const HARMLESS: [&str; 6] = ["merge_method", "slices", "dtype", "out_dtype", "tokenizer_source", "base_model"];

/// The layers that a mergekit configuration keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergekitCut {
    /// The model, as the file calls it.
    pub model: String,
    /// The dtype that mergekit would convert the weights to, if it names one.
    pub dtype: Option<String>,
    /// Where the kept layers are in that model.
    pub kept: LayerSet<LayerPosition>,
}

impl MergekitCut {
    /// Reads the file `path` if it is a mergekit configuration; `None` where it looks like something else, such as a
    /// `cut.json`.
    ///
    /// # Errors
    /// A [`Fault`] where the file cannot be read, and where its cut is not a plain one.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        Self::parse(&read_file(path)?, path)
    }

    /// As [`MergekitCut::read`]; `path` names the file in faults.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Option<Self>> {
        if bytes.len() as u64 > MAX_PLAN_BYTES {
            return Ok(None);
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return Ok(None) };
        // JSON is YAML, but a damaged `cut.json` should not be reported as bad YAML.
        let document: Value = match serde_json::from_str(text) {
            Ok(document) => document,
            Err(_) if text.trim_start().starts_with(['{', '[']) => return Ok(None),
            // An empty file, or one line of prose, is no mapping and falls through below.
            Err(_) => serde_saphyr::from_str(text).map_err(|error| {
                let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                fault("neither a plan nor valid YAML", path).got(first)
            })?,
        };
        let Some(object) = document.as_object() else { return Ok(None) };
        if !object.contains_key("slices") && !object.contains_key("merge_method") {
            return Ok(None);
        }
        let wrong = |message: &str, got: &Value| fault(message, path).got(lopper_model::hf::shorten(got));
        for (key, value) in object {
            if !HARMLESS.contains(&key.as_str()) {
                return Err(wrong(&format!("`{key}` is not part of a plain cut"), value).into());
            }
        }
        match object.get("merge_method").and_then(Value::as_str) {
            Some("passthrough") => {}
            _ => {
                let got = object.get("merge_method").unwrap_or(&Value::Null);
                return Err(wrong("the merge method is not `passthrough`", got).into());
            }
        }
        let slices = object.get("slices").and_then(Value::as_array);
        let Some(slices) = slices.filter(|slices| !slices.is_empty()) else {
            return Err(wrong("there are no slices", object.get("slices").unwrap_or(&Value::Null)).into());
        };
        let (mut model, mut dtype, mut kept) = (String::new(), None, Vec::new());
        for key in ["dtype", "out_dtype"] {
            if let Some(value) = object.get(key).filter(|value| !value.is_null()) {
                dtype = Some(value.as_str().ok_or_else(|| wrong("the dtype is not a name", value))?.to_owned());
            }
        }
        for slice in slices {
            let (source, first, end) = source(slice).ok_or_else(|| wrong("a slice that is not one source", slice))?;
            // `ModelReference` in mergekit's `common.py`.
            if let Some((base, adapter)) = source.split_once('+') {
                return Err(fault(&format!("`{source}` is a model with an adapter merged into it"), path)
                    .got(format!("the adapter `{adapter}` on `{base}`"))
                    .hint("merge the adapter first (mergekit, or PEFT's merge_and_unload) and name the merged model")
                    .into());
            }
            if model.is_empty() {
                source.clone_into(&mut model);
            } else if source != model {
                return Err(fault(&format!("the slices come from `{model}` and `{source}`"), path).into());
            }
            if kept.last().is_some_and(|last| first <= *last) {
                return Err(wrong("the slices repeat layers, or are out of order", slice).into());
            }
            if end as u64 > MAX_LAYERS {
                return Err(wrong("no model has so many layers", slice).into());
            }
            kept.extend(first..end);
        }
        Ok(Some(Self { model, dtype, kept: kept.into() }))
    }

    /// Whether the model that the file names may be the one that goes by one of `names`: a path, or an id of the hub.
    /// The last parts of both must be the same, since directories are called differently on every machine.
    pub fn is_of(&self, names: &[String]) -> bool {
        let last = |name: &str| {
            // `@` begins a revision.
            let name = name.split('@').next().unwrap_or_default().trim_end_matches(['/', '\\']);
            name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned()
        };
        names.iter().any(|name| *name == self.model || !last(name).is_empty() && last(name) == last(&self.model))
    }

    /// The layers that the cut removes from a model with this numbering; `path` names the file in faults.
    ///
    /// # Errors
    /// A [`Fault`] where it keeps layers that the model does not have.
    pub fn dropped(&self, numbering: &LayerNumbering, path: &Path) -> Result<LayerSet> {
        let layers = numbering.present().len();
        if let Some(layer) = self.kept.indices().find(|layer| *layer >= layers) {
            return Err(fault("the slices go beyond the model's end", path)
                .expected(format!("layers below {layers}"))
                .got(layer.to_string())
                .hint(format!("`layer_range` is half-open: the last layer is [{}, {layers}]", layers - 1))
                .into());
        }
        numbering.originals(&self.kept.complement(layers))
    }
}

/// Bounds what a range is expanded to.
const MAX_LAYERS: u64 = 1 << 16;

/// Model and half-open range of a slice with exactly one source and nothing else.
fn source(slice: &Value) -> Option<(&str, usize, usize)> {
    let slice = slice.as_object().filter(|slice| slice.len() == 1)?;
    let [source] = slice.get("sources")?.as_array()?.as_slice() else { return None };
    let source = source.as_object().filter(|source| source.len() == 2)?;
    let [first, end] = source.get("layer_range")?.as_array()?.as_slice() else { return None };
    let (first, end) = (usize::try_from(first.as_u64()?).ok()?, usize::try_from(end.as_u64()?).ok()?);
    let model = source.get("model")?.as_str().filter(|model| !model.is_empty())?;
    (first < end).then_some((model, first, end))
}

fn fault(message: &str, path: &Path) -> Fault {
    Fault::new(message)
        .file(path)
        .expected("a cut.json, or mergekit's `passthrough` of slices of one model, in order and without overlap")
        .hint("to name layers without a plan, use --drop")
}
