//! How layers were chosen: by which tasks, and what searches found.

use serde::{Deserialize, Serialize};

use crate::{LayerSet, finite};

/// The tasks whose group mean retention layers and strategies are chosen by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectiveTasks {
    /// As the study file has it: `all`, `generative`, `classification`, or names.
    pub chosen: String,
    /// The tasks.
    pub tasks: Vec<String>,
}

/// A search, and the cuts that it found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchRecord {
    /// The strategy's name.
    pub strategy: String,
    /// The cuts, from the shallowest on; each of a greedy search holds the one before.
    pub cuts: Vec<SearchedCut>,
    /// Items that candidates were evaluated on, of all rounds and tasks together.
    pub evaluations: usize,
}

/// A cut that a search found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchedCut {
    /// How many layers it lacks.
    pub removed: usize,
    /// Which, in the original numbering.
    pub dropped: LayerSet,
    /// Its group mean retention on the selection items it was evaluated on.
    #[serde(with = "finite")]
    pub score: f64,
    /// What its last round could have removed instead as far as the items can tell, the best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ties: Vec<LayerSet>,
}
