//! `cut.json`: which layers of which model were removed, and how they were chosen.
//!
//! Layers are always counted from 0 in the numbering of the original, uncut model, however often a
//! model has been cut: a cut of a cut composes. The file travels with the pruned model, so whoever
//! has it can repeat the cut, and knows what `--drop 21` means for a model that has lost layer 3.
//!
//! Keys are only ever added to the format, and optional: older files are read, and older readers
//! ignore what they do not know. Other tools' lists of layers: [`PlanFormat`], [`MergekitCut`].

mod export;
mod mergekit;
mod numbering;
mod record;

#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::Result;
use lopper_model::Checkpoint;
use lopper_record::Fault;
use serde::{Deserialize, Serialize};

pub use export::PlanFormat;
pub use mergekit::MergekitCut;
pub use numbering::Numbering;
pub use record::{ConfigChange, Verification};

/// The plan's name beside a pruned model.
pub const PLAN_FILE: &str = "cut.json";
/// The format that this version writes and reads.
pub const PLAN_FORMAT: u32 = 1;
/// Says in the file how its layers are counted.
pub const LAYER_NUMBERING: &str = "0-based, in the original uncut model";

const MAX_PLAN_BYTES: u64 = 1 << 24;

/// A model that a plan speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelId {
    /// What the user called it: a directory, a hub id, `pocket`.
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
}

impl Choice {
    /// The user named the layers.
    pub fn given() -> Self {
        Self { criterion: "given".to_owned(), scores: None, seed: None, calibration: None }
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
    /// Layers that stay, ascending.
    pub kept: Vec<usize>,
    /// Layers that are gone, ascending; those missing from `source` already are among them.
    pub dropped: Vec<usize>,
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
    /// How the written model compared with its source, if they were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
}

impl Plan {
    /// The plan to remove the layers `drop` (original numbers, in any order) from `checkpoint`,
    /// which the user calls `id`.
    pub fn new(checkpoint: &Checkpoint, id: &str, drop: &[usize], choice: Choice) -> Result<Self> {
        let mut plan = Self::unhashed(checkpoint, id, drop, choice)?;
        plan.source.hash = checkpoint.hash().to_owned();
        Ok(plan)
    }

    /// As [`Plan::new`] without the source's hash, for which all its weights would be read: the
    /// writer, which reads them anyway, fills it in.
    pub fn unhashed(checkpoint: &Checkpoint, id: &str, drop: &[usize], choice: Choice) -> Result<Self> {
        let numbering = Numbering::of(checkpoint)?;
        let mut positions = numbering.positions(drop)?;
        positions.sort_unstable();
        lopper_record::check_dropped(&positions, numbering.present().len())?;
        let kept: Vec<usize> = numbering.present().iter().copied().filter(|layer| !drop.contains(layer)).collect();
        let dropped = (0..numbering.original_layers()).filter(|layer| kept.binary_search(layer).is_err()).collect();
        let plan = Self {
            format: PLAN_FORMAT,
            lopper_version: env!("CARGO_PKG_VERSION").to_owned(),
            layer_numbering: LAYER_NUMBERING.to_owned(),
            source: ModelId {
                id: id.to_owned(),
                hash: String::new(),
                num_hidden_layers: checkpoint.config().num_hidden_layers,
            },
            original: numbering.original().cloned(),
            kept,
            dropped,
            choice,
            command: None,
            dtype: Some(checkpoint.dtype().to_string()),
            config_changes: Vec::new(),
            verification: None,
        };
        plan.validate(Path::new(PLAN_FILE))?;
        Ok(plan)
    }

    /// Reads and checks a plan file.
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

    /// Which layers of `checkpoint`, by position, the plan keeps. Faults if the plan was made for
    /// another model.
    pub fn kept_positions(&self, checkpoint: &Checkpoint) -> Result<Vec<usize>> {
        if !self.source.hash.is_empty() && self.source.hash != checkpoint.hash() {
            return Err(Fault::new("the plan was made for another model")
                .file(checkpoint.path_of(""))
                .expected(format!("`{}`, hash {}", self.source.id, self.source.hash))
                .got(format!("hash {}", checkpoint.hash()))
                .hint("to cut this model at the same layers, name them with --drop")
                .into());
        }
        Numbering::of(checkpoint)?.positions(&self.kept)
    }

    fn validate(&self, path: &Path) -> Result<()> {
        let fault = |message: &str, expected: String, got: String| -> Result<()> {
            Err(Fault::new(message).file(path).expected(expected).got(got).into())
        };
        if self.format != PLAN_FORMAT {
            let expected = format!("format {PLAN_FORMAT}");
            return fault("a plan of another version", expected, format!("format {}", self.format));
        }
        let layers = self.original.as_ref().unwrap_or(&self.source).num_hidden_layers;
        // Checked first: it bounds the counting below by the length of the file.
        if self.kept.len().checked_add(self.dropped.len()) != Some(layers) {
            let got = format!("{} kept and {} dropped", self.kept.len(), self.dropped.len());
            return fault("the plan does not account for every layer", format!("{layers} layers"), got);
        }
        let ascending = |list: &[usize]| list.windows(2).all(|pair| pair[0] < pair[1]);
        let mut all = [self.kept.as_slice(), self.dropped.as_slice()].concat();
        all.sort_unstable();
        let complete = all.iter().enumerate().all(|(index, layer)| index == *layer);
        if !ascending(&self.kept) || !ascending(&self.dropped) || !complete {
            let expected = format!("each of 0 to {} once, in ascending order", layers.saturating_sub(1));
            let got = format!("kept {:?}, dropped {:?}", self.kept, self.dropped);
            return fault("the plan's layers are not those of one model", expected, got);
        }
        if self.choice.scores.iter().flatten().any(|score| !score.is_finite()) {
            return fault("the plan's scores are not all numbers", "finite scores".into(), "NaN or infinity".into());
        }
        if self.verification.as_ref().is_some_and(|v| !v.is_finite()) {
            let got = "NaN or infinity".into();
            return fault("the plan's verification is not in numbers", "finite differences".into(), got);
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

/// The bytes of a plan file, at most one more than a plan may have.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(MAX_PLAN_BYTES + 1).read_to_end(&mut bytes)).map_err(
        |error| Fault::new("the plan cannot be read").file(path).got(error.to_string()).hint("check the path"),
    )?;
    Ok(bytes)
}
