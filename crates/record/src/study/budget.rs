//! The depth budget: how many layers may go. The decision itself is made in `lopper-measure`; here is its form.

use serde::{Deserialize, Serialize};

use crate::{Retention, finite};

mod sentence;

/// The depth budget for a task, or for a group of tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetLine {
    /// What must be kept.
    pub scope: Scope,
    /// Whether this is its group's first answer: that of the worst task, or of the only one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub headline: bool,
    /// The group of tasks.
    pub group: String,
    /// The task, of a budget for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The tasks that are judged.
    pub tasks: Vec<String>,
    /// The tasks that are left out: the uncut model scores too little on them, or no better than guessing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Whether a judged task has a score of guessing, so that its retention is that above chance.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub above_chance: bool,
    /// The retention to keep, such as 0.9.
    #[serde(with = "finite")]
    pub threshold: f64,
    /// Whether the cut is healed.
    pub healed: bool,
    /// What it is healed on, where it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub healing_data: String,
    /// How the layers are chosen; empty where that is not known.
    pub strategy: String,
    /// The most layers that may go: the deepest cut that holds when every shallower one does. 0 where the shallowest
    /// cut fails; absent where that is not decided.
    pub max_layers: Option<usize>,
    /// The decision in a sentence; see [`BudgetLine::sentence`].
    pub statement: String,
    /// The bounds at each depth that was measured, in ascending order.
    pub depths: Vec<BudgetDepth>,
}

/// What a budget demands to be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The score of one task.
    Task,
    /// The score of every task of a group, so that of the worst.
    Worst,
    /// The mean of the retentions of a group's tasks.
    #[default]
    Mean,
}

/// One depth as the budget sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetDepth {
    /// Layers removed.
    pub removed: usize,
    /// The retention that is judged, above chance where tasks have a score of guessing; absent where there is none.
    pub retention: Option<Retention>,
    /// The same as cut ÷ uncut score, whatever a guess scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The task that keeps least, of a budget for the worst.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst: Option<String>,
    /// Whether the lower bound reaches the threshold.
    pub holds: bool,
    /// Whether the threshold is kept, lost, or the items do not decide.
    pub verdict: Verdict,
    /// How many items would decide it, where it is undecided and that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needed: Option<ItemsNeeded>,
}

/// How many items would decide a verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ItemsNeeded {
    /// Items, of the task or of all tasks of the group.
    pub items: usize,
    /// Items that were measured.
    pub measured: usize,
    /// The one task that needs them; absent where all tasks together do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

/// What a retention's one-sided 95 % bounds say of a floor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The lower bound reaches the floor.
    Holds,
    /// The upper bound is below the floor.
    Fails,
    /// Neither: there are too few items.
    #[default]
    Undecided,
}

impl Verdict {
    /// The verdict on a retention.
    pub fn of(retention: &Retention, floor: f64) -> Self {
        if retention.lower95 >= floor {
            Self::Holds
        } else if retention.upper95 < floor {
            Self::Fails
        } else {
            Self::Undecided
        }
    }
}

impl BudgetLine {
    /// Items of all judged tasks together.
    pub fn items(&self) -> usize {
        self.depths.iter().find_map(|depth| Some(depth.retention?.n)).unwrap_or(0)
    }
}
