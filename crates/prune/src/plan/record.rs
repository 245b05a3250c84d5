//! What a plan records once the cut is written.

use lopper_model::hf::shorten;
use lopper_record::LayerSet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::CalibrationId;
use crate::compensation::CompensationMethod;

/// A key of `config.json` that the cut changed, with both values as short JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// The key.
    pub key: String,
    /// Its value in the source; absent where the key is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Its value in the cut model; absent where the key was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl ConfigChange {
    /// Every key in which `after` differs from `before`, in the order of the files.
    pub(crate) fn between(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<Self> {
        let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
        keys.filter(|key| before.get(*key) != after.get(*key))
            .map(|key| Self {
                key: key.clone(),
                before: before.get(key).map(shorten),
                after: after.get(key).map(shorten),
            })
            .collect()
    }
}

/// A comparison of the written model with its source run without the removed layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Largest absolute difference between two logits.
    pub max_logit_difference: f64,
    /// Tokens whose logits were compared.
    pub tokens: usize,
    /// What the written model was compared with.
    pub compared_with: String,
    /// The difference up to which the models count as the same.
    pub tolerance: f64,
}

impl Verification {
    pub(super) fn is_finite(&self) -> bool {
        self.max_logit_difference.is_finite() && self.tolerance.is_finite()
    }
}

/// An adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterId {
    /// Its directory, as the user named it.
    pub id: String,
    /// Identifies its files by their bytes.
    pub hash: String,
}

/// An adapter that was folded into the written weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergedAdapter {
    /// Which.
    #[serde(flatten)]
    pub adapter: AdapterId,
    /// What the written weights are stored in.
    pub stored_as: String,
    /// What that did to the loss, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<MergeLoss>,
}

/// Mean negative log-likelihood of a text, in nats per token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeLoss {
    /// Sequences of the text.
    pub sequences: usize,
    /// Tokens that were predicted.
    pub tokens: u64,
    /// Of the cut without the adapter.
    pub without: f64,
    /// With the adapter apart, in f32.
    pub apart: f64,
    /// Of the written model.
    pub written: f64,
}

impl MergedAdapter {
    pub(super) fn is_finite(&self) -> bool {
        self.loss.as_ref().is_none_or(|loss| [loss.without, loss.apart, loss.written].iter().all(|x| x.is_finite()))
    }
}

/// How the weights of kept layers were changed to make up for the removed ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compensation {
    /// How.
    pub method: CompensationMethod,
    /// The ridge of a linear map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ridge: Option<f64>,
    /// The text it was fitted to.
    pub fitted_to: CalibrationId,
    /// The text the loss was measured on.
    pub held_out: CalibrationId,
    /// The loss on it.
    pub loss: CompensationLoss,
    /// The gaps in order.
    pub gaps: Vec<CompensatedGap>,
    /// The changed tensors, in the numbering of the written model.
    pub changed: Vec<String>,
}

/// Mean negative log-likelihood of a held-out text, in nats per token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompensationLoss {
    /// Of the source.
    pub uncut: f64,
    /// Of the source without the removed layers.
    pub cut: f64,
    /// Of the written model.
    pub compensated: f64,
    /// 95 % interval of `compensated` − `cut`; absent where there are too few sequences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_ci95: Option<[f64; 2]>,
}

/// What was done at one run of removed layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompensatedGap {
    /// The removed layers, in the original numbering.
    pub removed: LayerSet,
    /// The factor of the hidden states, where the method is `magnitude`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// ‖state − target‖² ÷ ‖target‖² at the seam, mean over the tokens it was fitted to, before and after.
    pub error: [f64; 2],
}

impl Compensation {
    pub(super) fn is_finite(&self) -> bool {
        let CompensationLoss { uncut, cut, compensated, change_ci95 } = &self.loss;
        let gaps = self.gaps.iter().flat_map(|gap| gap.error.into_iter().chain(gap.factor));
        let all = [*uncut, *cut, *compensated].into_iter().chain(change_ci95.iter().flatten().copied());
        all.chain(self.ridge).chain(gaps).all(f64::is_finite)
    }
}
