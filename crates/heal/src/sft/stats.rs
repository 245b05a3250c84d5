//! What is known of a training when it has ended.

use super::rounds::Removal;
use crate::divergence::Divergence;
use crate::evaluation::{Evaluated, HeldOutLoss};
use crate::recipe::HealRecipe;
use lopper_record::study::HealInfo;
use serde::{Deserialize, Serialize};

/// Statistics of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealStats {
    /// Documents trained on.
    pub examples: usize,
    /// Optimiser steps that were done.
    pub steps: usize,
    /// Steps that were planned, where the training stopped before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_steps: Option<usize>,
    /// Why it stopped, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// The step whose weights are the result, where the best ones are kept; 0: those before the training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_step: Option<usize>,
    /// Of these, the ones of the warm-up.
    pub warmup: usize,
    /// Input tokens, over all epochs.
    pub tokens: u64,
    /// Tokens in the loss, over all epochs.
    pub response_tokens: u64,
    /// Tokens that the model generated to learn on.
    #[serde(skip_serializing_if = "is_zero")]
    pub generated_tokens: u64,
    /// Trained parameters.
    pub trained_parameters: usize,
    /// Seconds of training, interruptions not counted.
    pub seconds: f64,
    /// Loss of the first step: mean over its response tokens, in nats, before any update.
    pub loss_first: f64,
    /// Mean loss of the last ten steps.
    pub loss_last: f64,
    /// Loss of every step.
    pub loss_curve: Vec<f64>,
    /// What every step minimised, where that is not the loss: with distillation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objective_curve: Vec<f64>,
    /// Loss on held-out documents, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOutLoss>,
    /// Layers that were removed during the training.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removals: Vec<Removal>,
    /// All evaluations on them, if there are some during the training.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evaluations: Vec<Evaluated>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Why a training stopped before its last step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Stopped {
    /// The held-out loss had not fallen for [`Evaluation::patience`](crate::Evaluation::patience) evaluations.
    Patience,
    /// The training diverged; the result are the weights of the best evaluation before.
    Diverged(Divergence),
}

impl HealStats {
    /// The run as records describe it; what they say of its data is the caller's to add.
    pub fn info(&self, recipe: &HealRecipe) -> HealInfo {
        HealInfo {
            method: recipe.method.name().to_owned(),
            seed: recipe.seed,
            examples: self.examples,
            tokens: self.response_tokens,
            steps: self.steps,
            warmup: self.warmup,
            seconds: self.seconds,
            train_loss_first: self.loss_first,
            train_loss_last: self.loss_last,
            held_out: self.held_out.map_or(0, |loss| loss.documents),
            held_out_loss_first: self.held_out.map(|loss| loss.first),
            held_out_loss_last: self.held_out.map(|loss| loss.last),
            recipe: recipe.summary(self.planned_steps.unwrap_or(self.steps)),
            ..HealInfo::default()
        }
    }
}
