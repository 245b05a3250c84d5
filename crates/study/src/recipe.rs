//! The study file: what is measured, cut, healed and decided. Every key has a default, which is
//! the pocket study; a key that is not known is refused.

use anyhow::{Context, Result};
use lopper_eval::diagnostics::sentinel::GAP;
use lopper_eval::{EvalOptions, known_tasks};
use lopper_heal::{HealRecipe, Method};
use lopper_infer::Sampling;
use lopper_pocket::Split;
use lopper_record::study::{CLASSIFICATION, GENERATIVE};
use serde::{Deserialize, Serialize};

/// A resolved study file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// MODEL: a directory or `pocket`.
    pub model: String,
    /// Seeds items, random cuts, self-generation, healing and intervals.
    pub seed: u64,
    /// How many items are measured.
    pub items: Items,
    /// Which tasks, by group.
    pub tasks: Tasks,
    /// Which cuts.
    pub cuts: Cuts,
    /// How cuts are healed.
    pub heal: Heal,
    /// What warns, and what ends a strategy early.
    pub sentinels: Sentinels,
    /// How the depth budget is decided.
    pub budget: Budget,
}

/// Numbers of items. Selection, healing and reporting draw from splits that cannot overlap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Items {
    /// Items per task whose scores are reported.
    pub report: usize,
    /// Items per task that the layer map and the choice of the main strategy are measured on.
    pub select: usize,
    /// Documents of calibration text for the layer criteria.
    pub calibration: usize,
}

/// Tasks of both groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tasks {
    /// Scored by log-likelihood.
    pub classification: Vec<String>,
    /// Scored on generated text.
    pub generative: Vec<String>,
}

/// Cuts to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cuts {
    /// Ways of choosing layers: any criterion of `lopper prune`, or `ablation` (the layers whose
    /// single removal costs least on the selection items).
    pub strategies: Vec<String>,
    /// Numbers of layers to remove.
    pub depths: Vec<usize>,
    /// The strategy that is healed and that the budget is about; `auto` takes the one that keeps
    /// most on the selection items at the depth in the middle.
    pub main: String,
    /// Layers that always stay, in the measured `ablation` strategy (METHOD section 1 keeps layer 0).
    pub keep: Vec<usize>,
}

/// Healing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heal {
    /// Depths to heal; empty for none.
    pub depths: Vec<usize>,
    /// Prompts the uncut model answers, over all tasks together.
    pub prompts: usize,
    /// Sampling temperature of the answers.
    pub temperature: f64,
    /// Nucleus of the answers.
    pub top_p: f64,
    /// The finetuning recipe.
    pub recipe: HealRecipe,
}

/// The cheap bundle that is read of every cut before it is measured in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sentinels {
    /// Whether a strategy that is not the main one ends at the depth where nothing is left.
    pub stop: bool,
    /// By how much classification's retention may exceed generation's before the alarm is raised.
    pub gap: f64,
}

/// The depth budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Retentions to keep.
    pub thresholds: Vec<f64>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            model: "pocket".into(),
            seed: 0,
            items: Items::default(),
            tasks: Tasks::default(),
            cuts: Cuts::default(),
            heal: Heal::default(),
            sentinels: Sentinels::default(),
            budget: Budget::default(),
        }
    }
}

impl Default for Sentinels {
    fn default() -> Self {
        Self { stop: true, gap: GAP }
    }
}

impl Default for Items {
    fn default() -> Self {
        Self { report: 120, select: 48, calibration: 128 }
    }
}

impl Default for Tasks {
    fn default() -> Self {
        let of = |group: &str| {
            let tasks = known_tasks().iter().filter(|t| t.group == group);
            tasks.map(|t| t.name.to_owned()).collect()
        };
        Self { classification: of(CLASSIFICATION), generative: of(GENERATIVE) }
    }
}

impl Default for Cuts {
    fn default() -> Self {
        Self {
            strategies: ["ablation", "bi", "angular", "reverse", "random"].map(String::from).to_vec(),
            depths: (1..=9).collect(),
            main: "auto".into(),
            keep: vec![0],
        }
    }
}

impl Default for Heal {
    fn default() -> Self {
        Self {
            depths: vec![5, 6, 7, 8, 9],
            prompts: 2000,
            temperature: 0.9,
            top_p: 0.95,
            recipe: HealRecipe::for_pocket(Method::Lora),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { thresholds: vec![0.9] }
    }
}

impl Recipe {
    /// The recipe as a study file.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("a recipe cannot be written as TOML")
    }

    /// All tasks, classification first.
    pub fn task_names(&self) -> Vec<String> {
        self.tasks.classification.iter().chain(&self.tasks.generative).cloned().collect()
    }

    /// How items of `split` are evaluated: greedily, so that a score has no sampling noise.
    pub fn eval_options(&self, split: Split) -> EvalOptions {
        let limit = if split == Split::Select { self.items.select } else { self.items.report };
        EvalOptions { split, limit, seed: self.seed, sampling: Sampling::Greedy, sampling_seed: self.seed }
    }
}
