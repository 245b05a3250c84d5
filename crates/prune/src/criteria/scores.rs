//! Scores of every layer and every block of layers, from one pass over calibration text.

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

use super::{By, CRITERIA, Criterion};

/// Scores of a model's layers over calibration text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerScores {
    /// Per layer: 1 − cos(hidden state in, hidden state out), mean over all tokens.
    pub block_influence: Vec<f64>,
    /// Per block: angular distance at the last token of each sequence, mean over sequences.
    pub angular: BlockScores,
    /// Per block: angular distance, mean over tokens (over `angular_mean_tokens` of them).
    pub angular_mean: BlockScores,
    /// Per layer: ‖out − in‖ / ‖out‖, mean over all tokens.
    pub relative_magnitude: Vec<f64>,
    /// Tokens that were read.
    pub tokens: usize,
    /// Sequences that were read.
    pub sequences: usize,
    /// Tokens that `angular_mean` averages over: all of them, or an even sample where the hidden
    /// states of all would fill the memory.
    pub angular_mean_tokens: usize,
    /// Negative log-likelihood of the text without each layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<PerplexityScores>,
    /// Per layer: R² of a linear map from its input to its output, on tokens that the map was not fitted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linear_r2: Option<Vec<f64>>,
    /// Per layer: Σ |weight · gradient| over its weights (first-order Taylor).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taylor: Option<Vec<f64>>,
}

/// Mean negative log-likelihoods of the calibration text, in nats for each token; the perplexity is
/// their exponential.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerplexityScores {
    /// Of the uncut model.
    pub mean_nll: f64,
    /// Without each layer.
    pub without: Vec<f64>,
    /// 95 % interval of the uncut model's perplexity, from the sequences; none of a single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci95: Option<[f64; 2]>,
    /// 95 % intervals of the rises, from the sequences in pairs; empty of a single one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rises_ci95: Vec<[f64; 2]>,
}

impl PerplexityScores {
    /// By how much each layer's removal raises the mean negative log-likelihood.
    pub fn rises(&self) -> Vec<f64> {
        self.without.iter().map(|nll| nll - self.mean_nll).collect()
    }
}

impl LayerScores {
    /// Layers of the model.
    pub fn num_layers(&self) -> usize {
        self.block_influence.len()
    }

    /// The criteria that score single layers and were measured: name and scores, of which the smallest are removed
    /// first.
    pub fn by_criterion(&self) -> Vec<(&'static str, Vec<f64>)> {
        let of_layers = |criterion: &Criterion| match criterion.by {
            By::Layer(of) => of(self),
            // Of the two averages of one measure the usual one.
            By::Block(of) if criterion.name == "angular" => of(self).of_size(1).map(<[f64]>::to_vec),
            By::Block(_) | By::Place(_) => None,
        };
        CRITERIA.iter().filter_map(|criterion| Some((criterion.name, of_layers(criterion)?))).collect()
    }
}

/// A score for every contiguous block of layers: by its size, then by its first layer.
///
/// Written as `{"1": […], "2": […], …}`; the list for size n has one entry per first layer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockScores(Vec<Vec<f64>>);

impl BlockScores {
    /// From the lists for sizes 1, 2, ….
    pub fn new(by_size: Vec<Vec<f64>>) -> Self {
        Self(by_size)
    }

    /// The scores of the blocks of `size` layers, by first layer.
    pub fn of_size(&self, size: usize) -> Option<&[f64]> {
        self.0.get(size.checked_sub(1)?).map(Vec::as_slice)
    }

    /// Sizes and their scores, ascending.
    pub fn sizes(&self) -> impl Iterator<Item = (usize, &[f64])> {
        self.0.iter().enumerate().map(|(i, scores)| (i + 1, scores.as_slice()))
    }
}

impl Serialize for BlockScores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (size, scores) in self.sizes() {
            map.serialize_entry(&size.to_string(), scores)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for BlockScores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, Vec<f64>>::deserialize(deserializer)?;
        let mut by_size = BTreeMap::new();
        for (size, scores) in map {
            let size: usize = size.parse().map_err(serde::de::Error::custom)?;
            by_size.insert(size, scores);
        }
        if !by_size.keys().copied().eq(1..=by_size.len()) {
            return Err(serde::de::Error::custom("block sizes do not run from 1 without gaps"));
        }
        Ok(Self(by_size.into_values().collect()))
    }
}
