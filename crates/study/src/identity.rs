//! Keys of cells: everything that changes a cell's result and nothing that does not.

use lopper_diagnose::sentinel::SentinelOptions;
use lopper_heal::HealRecipe;
use lopper_infer::Sampling;
use lopper_tasks::EvalOptions;
use serde::Serialize;

/// Changes whenever a change of the program changes results that the other fields do not tell.
const REVISION: u32 = 3;

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
    pub split: &'a str,
    pub limit: usize,
    pub seed: u64,
    pub sampling: Sampling,
    pub sampling_seed: u64,
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

pub fn eval_key<'a>(
    model: &'a str,
    kept: &'a [usize],
    healed: Option<HealKey<'a>>,
    task: (&'a str, u32, Option<&'a str>),
    options: &EvalOptions,
) -> EvalKey<'a> {
    let (task, version, rows) = task;
    EvalKey {
        revision: REVISION,
        model,
        kept,
        healed,
        task,
        version,
        rows,
        split: options.split.name(),
        limit: options.limit,
        seed: options.seed,
        sampling: options.sampling,
        sampling_seed: options.sampling_seed,
    }
}
