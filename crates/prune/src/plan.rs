//! `cut.json`: which layers of which model were removed, and how they were chosen.
//!
//! Layers are always counted from 0 in the numbering of the original, uncut model, however often a model has been cut:
//! a cut of a cut composes. The file is part of the pruned model, so whoever has the model can repeat the cut, and
//! `--drop 21` has a meaning for a model that has lost layer 3.
//!
//! New keys of the format are always optional: older files are read, and older readers ignore keys they do not know.
//! Other tools' lists of layers: [`PlanFormat`], [`MergekitCut`].

mod export;
mod mergekit;
mod order;
mod record;

#[cfg(test)]
mod tests;

use std::path::Path;

use lopper_model::Checkpoint;
use lopper_record::{Fault, LayerNumbering, LayerPosition, LayerSet, OriginalLayer, Result};
use serde::{Deserialize, Deserializer, Serialize};

pub use export::PlanFormat;
pub use mergekit::MergekitCut;
pub use record::{
    AdapterId, CompensatedGap, Compensation, CompensationLoss, ConfigChange, MergeLoss, MergedAdapter, Verification,
};

/// The plan's file in the directory of a pruned model.
pub const PLAN_FILE: &str = "cut.json";
/// The format that this version writes and reads.
pub const PLAN_FORMAT: u32 = 1;
/// The value of `layer_numbering`: how the file counts layers.
pub const LAYER_NUMBERING: &str = "0-based, in the original uncut model";

const MAX_PLAN_BYTES: u64 = 1 << 24;

/// A model that a plan names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelId {
    /// As the user named it: a directory, a hub id, `pocket`.
    pub id: String,
    /// [`Checkpoint::hash`]; empty until it is known ([`Plan::unhashed`]).
    pub hash: String,
    /// Its decoder layers.
    pub num_hidden_layers: usize,
}

/// The text over which a criterion was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationId {
    /// Identifies the token sequences.
    pub hash: String,
    /// How many sequences.
    pub sequences: usize,
    /// How many tokens in all.
    pub tokens: usize,
}

/// How the layers were chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The criterion's name; `given` where the user named the layers.
    pub criterion: String,
    /// Its scores, by position in `source`: one per layer, or one per position of a block.
    pub scores: Option<Vec<f64>>,
    /// The seed of a criterion that draws.
    pub seed: Option<u64>,
    /// The calibration text of a criterion that measures.
    pub calibration: Option<CalibrationId>,
    /// The removed layers in the order in which they were chosen, where each was chosen given those before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Vec<OriginalLayer>>,
    /// The adapter that the model had when they were chosen.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "chosen_with_adapter")]
    pub adapter: Option<AdapterId>,
}

impl Choice {
    /// The user named the layers.
    pub fn given() -> Self {
        Self { criterion: "given".to_owned(), scores: None, seed: None, calibration: None, order: None, adapter: None }
    }
}

/// A cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_FORMAT`].
    pub format: u32,
    /// The version that made the plan.
    pub lopper_version: String,
    /// [`LAYER_NUMBERING`].
    pub layer_numbering: String,
    /// The model that is cut.
    pub source: ModelId,
    /// The uncut model that `source` is itself a cut of; absent where `source` is uncut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<ModelId>,
    /// The layers that are kept.
    #[serde(deserialize_with = "ascending")]
    pub kept: LayerSet<OriginalLayer>,
    /// The layers that are removed, with those that `source` lacks already.
    #[serde(deserialize_with = "ascending")]
    pub dropped: LayerSet<OriginalLayer>,
    /// How they were chosen.
    #[serde(flatten)]
    pub choice: Choice,
    /// The command line that made the cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// How the source's weights are stored: `F32`, `F16` or `BF16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// What was changed in `config.json`, once the cut is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config_changes: Vec<ConfigChange>,
    /// How the weights of kept layers were changed to make up for the removed ones, where they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensation: Option<Compensation>,
    /// The adapter that was folded into the written weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_adapter: Option<MergedAdapter>,
    /// How the written model compared with its source, if they were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
}

impl Plan {
    /// The plan to remove the layers `drop` from `checkpoint`, which the user calls `id`.
    ///
    /// # Errors
    /// A [`Fault`] for layers that the checkpoint does not have, and where no layer would be left.
    pub fn new(checkpoint: &Checkpoint, id: &str, drop: &LayerSet, choice: Choice) -> Result<Self> {
        let mut plan = Self::unhashed(checkpoint, id, drop, choice)?;
        plan.source.hash = checkpoint.hash().to_owned();
        Ok(plan)
    }

    /// As [`Plan::new`] without the source's hash, for which all its weights would be read: the writer, which reads
    /// them anyway, fills it in.
    pub fn unhashed(checkpoint: &Checkpoint, id: &str, drop: &LayerSet, choice: Choice) -> Result<Self> {
        let numbering = layer_numbering(checkpoint)?;
        numbering.positions(drop)?;
        let kept = numbering.present().without(drop);
        if kept.is_empty() {
            return Err(Fault::new("every layer would be dropped")
                .expected(format!("at most {} of the {} layers", drop.len().saturating_sub(1), drop.len()))
                .got(format!("`{drop}`"))
                .hint("keep at least one layer")
                .into());
        }
        let plan = Self {
            format: PLAN_FORMAT,
            lopper_version: env!("CARGO_PKG_VERSION").to_owned(),
            layer_numbering: LAYER_NUMBERING.to_owned(),
            source: ModelId {
                id: id.to_owned(),
                hash: String::new(),
                num_hidden_layers: checkpoint.config().num_hidden_layers,
            },
            original: Self::of_checkpoint(checkpoint)?.map(|earlier| earlier.original_model().clone()),
            dropped: kept.complement(numbering.original_layers()),
            kept,
            choice,
            command: None,
            dtype: Some(checkpoint.dtype().to_string()),
            config_changes: Vec::new(),
            compensation: None,
            merged_adapter: None,
            verification: None,
        };
        plan.validate(Path::new(PLAN_FILE))?;
        Ok(plan)
    }

    /// The plan in the directory of a pruned model; none where `checkpoint` is an uncut model.
    ///
    /// # Errors
    /// A [`Fault`] where the file is not a plan, or not one of this model.
    pub fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        let Some(bytes) = checkpoint.file(PLAN_FILE)? else { return Ok(None) };
        let (path, layers) = (checkpoint.path_of(PLAN_FILE), checkpoint.config().num_hidden_layers);
        let plan = Self::parse(&bytes, &path)?;
        if plan.kept.len() != layers {
            return Err(Fault::new("cut.json contradicts the model in its directory")
                .file(&path)
                .expected(format!("{layers} kept layers, by config.json"))
                .got(plan.kept.len().to_string())
                .hint("remove cut.json if it belongs to another model")
                .into());
        }
        Ok(Some(plan))
    }

    /// The uncut model.
    pub fn original_model(&self) -> &ModelId {
        self.original.as_ref().unwrap_or(&self.source)
    }

    /// Reads and checks a plan file.
    ///
    /// # Errors
    /// A [`Fault`] where it cannot be read or is not a plan.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&read_file(path)?, path)
    }

    /// Reads and checks a plan; `path` names its file in faults.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let wrong = |got: String| {
            Fault::new("not a plan")
                .file(path)
                .expected("a cut.json as `lopper prune` writes it")
                .got(got)
                .hint("to name layers without a plan, use --drop")
        };
        if bytes.len() as u64 > MAX_PLAN_BYTES {
            return Err(wrong(format!("more than {MAX_PLAN_BYTES} bytes")).into());
        }
        let plan: Self = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        if plan.source.hash.is_empty() {
            return Err(wrong("no hash of its source".to_owned()).into());
        }
        plan.validate(path)?;
        Ok(plan)
    }

    /// The plan as the text of its file.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Where the kept layers are in `checkpoint`.
    ///
    /// # Errors
    /// A [`Fault`] where the plan was made for another model.
    pub fn kept_positions(&self, checkpoint: &Checkpoint) -> Result<LayerSet<LayerPosition>> {
        if !self.source.hash.is_empty() && self.source.hash != checkpoint.hash() {
            return Err(Fault::new("the plan was made for another model")
                .file(checkpoint.path_of(""))
                .expected(format!("`{}`, hash {}", self.source.id, self.source.hash))
                .got(format!("hash {}", checkpoint.hash()))
                .hint("to cut this model at the same layers, name them with --drop")
                .into());
        }
        layer_numbering(checkpoint)?.positions(&self.kept)
    }

    fn validate(&self, path: &Path) -> Result<()> {
        let fault = |message: &str, expected: String, got: String| -> Result<()> {
            Err(Fault::new(message).file(path).expected(expected).got(got).into())
        };
        if self.format != PLAN_FORMAT {
            let expected = format!("format {PLAN_FORMAT}");
            return fault("a plan of another version", expected, format!("format {}", self.format));
        }
        let layers = self.original_model().num_hidden_layers;
        // Checked first: it bounds the counting below by the length of the file.
        if self.kept.len().checked_add(self.dropped.len()) != Some(layers) {
            let got = format!("{} kept and {} dropped", self.kept.len(), self.dropped.len());
            return fault("the plan does not account for every layer", format!("{layers} layers"), got);
        }
        if self.kept.complement(layers) != self.dropped {
            let expected = format!("each of 0 to {} once", layers.saturating_sub(1));
            let got = format!("kept {}, dropped {}", self.kept, self.dropped);
            return fault("the plan's layers are not those of one model", expected, got);
        }
        if self.choice.scores.iter().flatten().any(|score| !score.is_finite()) {
            return fault("the plan's scores are not all numbers", "finite scores".into(), "NaN or infinity".into());
        }
        if self.verification.as_ref().is_some_and(|v| !v.is_finite()) {
            let got = "NaN or infinity".into();
            return fault("the plan's verification is not in numbers", "finite differences".into(), got);
        }
        if self.compensation.as_ref().is_some_and(|compensation| !compensation.is_finite()) {
            let got = "NaN or infinity".into();
            return fault("the plan's compensation is not in numbers", "finite losses and factors".into(), got);
        }
        if self.merged_adapter.as_ref().is_some_and(|adapter| !adapter.is_finite()) {
            let got = "NaN or infinity".into();
            return fault("the plan's record of an adapter is not in numbers", "finite losses".into(), got);
        }
        if let Some(got) = self.order_fault() {
            let expected = format!("each layer that goes, of {}, once", self.dropped);
            return fault("the plan's order is not that of its layers", expected, got);
        }
        if self.kept.is_empty() {
            return fault("the plan keeps no layer", "at least one kept layer".into(), "none".into());
        }
        if self.original.is_some() && self.kept.len() > self.source.num_hidden_layers {
            let expected = format!("at most the {} layers of its source", self.source.num_hidden_layers);
            return fault("the plan keeps layers that its source lacks", expected, self.kept.len().to_string());
        }
        Ok(())
    }
}

/// Which layer of the original, uncut model each layer of `checkpoint` is, from the `cut.json` in its directory;
/// without one, it is an uncut model.
///
/// # Errors
/// As [`Plan::of_checkpoint`].
pub fn layer_numbering(checkpoint: &Checkpoint) -> Result<LayerNumbering> {
    Ok(match Plan::of_checkpoint(checkpoint)? {
        None => LayerNumbering::uncut(checkpoint.config().num_hidden_layers),
        Some(plan) => LayerNumbering::new(plan.kept.clone(), plan.original_model().num_hidden_layers),
    })
}

/// Refuses lists that are not in ascending order, or hold a layer twice, which a set would not show any more.
fn ascending<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LayerSet<OriginalLayer>, D::Error> {
    let list = Vec::<usize>::deserialize(deserializer)?;
    if !list.is_sorted_by(|a, b| a < b) {
        return Err(serde::de::Error::custom("layers are not in ascending order, each once"));
    }
    Ok(list.into())
}

/// The bytes of a plan file, at most one more than a plan may have.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(MAX_PLAN_BYTES + 1).read_to_end(&mut bytes)).map_err(
        |error| Fault::new("the plan cannot be read").file(path).got(error.to_string()).hint("check the path"),
    )?;
    Ok(bytes)
}
