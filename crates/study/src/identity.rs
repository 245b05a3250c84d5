//! Keys of cells: everything that changes a cell's result and nothing that does not.

use std::collections::BTreeMap;

use lopper_diagnose::sentinel::SentinelOptions;
use lopper_heal::{DataFilters, HealRecipe};
use lopper_prune::search::Strategy;
use lopper_record::{LayerPosition, LayerSet};
use lopper_tasks::{GenerationPolicy, ItemSelection};
use serde::Serialize;

use crate::recipe::KeepAnswers;

/// Changes whenever a change of the program changes results that the other fields do not show.
pub const REVISION: u32 = 6;

/// Variables of the chat template.
pub type TemplateVariables = BTreeMap<String, serde_json::Value>;

/// Layer scores over calibration text.
#[derive(Debug, Clone, Serialize)]
pub struct ScoreKey<'a> {
    pub revision: u32,
    pub model: &'a str,
    pub calibration: &'a str,
    pub gradients: bool,
    /// Whether the rise of perplexity without each layer is among them.
    #[serde(skip_serializing_if = "is_true")]
    pub perplexity: bool,
}

fn is_one(number: &usize) -> bool {
    *number == 1
}

fn is_true(value: &bool) -> bool {
    *value
}

/// Self-generated responses of the uncut model.
#[derive(Debug, Clone, Serialize)]
pub struct ResponsesKey<'a> {
    pub revision: u32,
    pub model: &'a str,
    pub tasks: &'a [String],
    pub prompts: usize,
    pub temperature: f64,
    pub top_p: f64,
    pub seed: u64,
    #[serde(skip_serializing_if = "is_one")]
    pub samples: usize,
    #[serde(skip_serializing_if = "KeepAnswers::is_all")]
    pub keep: KeepAnswers,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub template: &'a TemplateVariables,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub reasoning_markers: &'a [String],
    /// The hash of prompts that the other fields do not determine: those not of the pocket model's tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_hash: Option<&'a str>,
}

/// A finetuned cut.
#[derive(Debug, Clone, Serialize)]
pub struct HealKey<'a> {
    pub revision: u32,
    pub kept: &'a LayerSet<LayerPosition>,
    pub recipe: &'a HealRecipe,
    pub responses: ResponsesKey<'a>,
    /// What is left out of the responses.
    pub filters: &'a DataFilters,
    /// The hash of which responses are left out because an evaluated item is in them, if any is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<&'a str>,
    /// The hash of the reference answers that are learned in place of the responses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<&'a str>,
    /// The order in which gradients are summed depends on it.
    pub workers: usize,
}

/// One model on one task.
#[derive(Debug, Clone, Serialize)]
pub struct EvalKey<'a> {
    pub revision: u32,
    pub model: &'a str,
    pub kept: &'a LayerSet<LayerPosition>,
    pub healed: Option<HealKey<'a>>,
    pub task: &'a str,
    pub version: u32,
    /// The hash of file, rows and prompts of a task over rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_hash: Option<&'a str>,
    #[serde(flatten)]
    pub items: ItemSelection,
    /// The part of the generation policy that applies to the task.
    pub policy: &'a GenerationPolicy,
}

/// A round of a search.
#[derive(Debug, Clone, Serialize)]
pub struct SearchKey<'a> {
    pub revision: u32,
    pub model: &'a str,
    pub strategy: Strategy,
    /// Layers that stay whatever they score.
    pub protected: &'a LayerSet<LayerPosition>,
    /// Layers that the search is to remove; none where it removes one in each round, so that it may go on.
    pub remove: Option<usize>,
    /// From 0; what the rounds before it found follows from the rest.
    pub round: usize,
    /// The tasks that choose, and the hash of their definitions, items and policies.
    pub objective: &'a [String],
    pub tasks: &'a str,
}

/// What a candidate of a search scores.
#[derive(Debug, Clone, Serialize)]
pub struct SearchScoresKey<'a> {
    pub revision: u32,
    pub model: &'a str,
    pub kept: &'a LayerSet<LayerPosition>,
    /// The hash of the tasks that choose, their items and policies.
    pub tasks: &'a str,
    /// The first item of each task, and that after the last.
    pub items: [usize; 2],
}

/// One model's sentinels.
#[derive(Debug, Clone, Serialize)]
pub struct SentinelKey<'a> {
    pub revision: u32,
    pub model: &'a str,
    pub kept: &'a LayerSet<LayerPosition>,
    pub healed: Option<HealKey<'a>>,
    pub options: &'a SentinelOptions,
}

/// How fast models run on a machine.
#[derive(Debug, Clone, Serialize)]
pub struct SpeedKey<'a> {
    pub revision: u32,
    pub model: &'a str,
    /// The models, by their kept layers.
    pub models: &'a [LayerSet<LayerPosition>],
    pub processor: &'a str,
    pub threads: usize,
}
