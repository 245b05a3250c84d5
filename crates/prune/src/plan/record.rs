//! What a plan records once the cut is written.

use lopper_model::hf::shorten;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
