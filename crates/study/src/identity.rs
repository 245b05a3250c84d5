//! Keys of cells: everything that changes a cell's result and nothing that does not.

use lopper_diagnose::sentinel::SentinelOptions;
use lopper_heal::HealRecipe;
use lopper_tasks::{GenerationPolicy, ItemSelection};
use serde::Serialize;

/// Changes whenever a change of the program changes results that the other fields do not tell.
pub const REVISION: u32 = 4;

/// Layer scores over calibration text.
#[derive(Debug, Clone, Serialize)]
pub struct ScoreKey<'a> {
    pub revision: u32,
    pub model: &'a str,
    pub calibration: &'a str,
    gradients: bool,
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
    /// The hash of prompts that the other fields do not tell: those not of the pocket model's tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<&'a str>,
}

/// A finetuned cut.
#[derive(Debug, Clone, Serialize)]
pub struct HealKey<'a> {
    pub revision: u32,
    pub kept: &'a [usize],
    pub recipe: &'a HealRecipe,
    pub responses: ResponsesKey<'a>,
    /// The order in which gradients are summed depends on it.
    pub workers: usize,
}

/// One model on one task.
#[derive(Debug, Clone, Serialize)]
pub struct EvalKey<'a> {
    pub revision: u32,
    pub model: &'a str,
    pub kept: &'a [usize],
    pub healed: Option<HealKey<'a>>,
    pub task: &'a str,
    pub version: u32,
    /// The hash of file, rows and prompts of a task over rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<&'a str>,
    #[serde(flatten)]
    pub items: ItemSelection,
    /// The part of the generation policy that applies to the task.
    pub policy: &'a GenerationPolicy,
}

/// One model's sentinels.
#[derive(Debug, Clone, Serialize)]
pub struct SentinelKey<'a> {
    pub revision: u32,
    pub model: &'a str,
    pub kept: &'a [usize],
    pub healed: Option<HealKey<'a>>,
    pub options: &'a SentinelOptions,
}

pub fn sentinel_key<'a>(
    model: &'a str,
    kept: &'a [usize],
    healed: Option<HealKey<'a>>,
    options: &'a SentinelOptions,
) -> SentinelKey<'a> {
    SentinelKey { revision: REVISION, model, kept, healed, options }
}

pub fn score_key<'a>(model: &'a str, calibration: &'a str, gradients: bool) -> ScoreKey<'a> {
    ScoreKey { revision: REVISION, model, calibration, gradients }
}

pub fn responses_key<'a>(
    model: &'a str,
    tasks: &'a [String],
    heal: &crate::Heal,
    seed: u64,
    asked: Option<&'a str>,
) -> ResponsesKey<'a> {
    let crate::Heal { prompts, temperature, top_p, .. } = *heal;
    ResponsesKey { revision: REVISION, model, tasks, prompts, temperature, top_p, seed, asked }
}

pub fn heal_key<'a>(
    kept: &'a [usize],
    recipe: &'a HealRecipe,
    responses: ResponsesKey<'a>,
    workers: usize,
) -> HealKey<'a> {
    HealKey { revision: REVISION, kept, recipe, responses, workers }
}
