//! The log of a training, one entry for each step, written while it runs: JSON Lines ([`JsonLog`]) and TensorBoard
//! event files ([`TensorBoardLog`]).
//!
//! Logs follow the run's state: one that is continued begins with the entry of the last saved step, and whatever an
//! interrupted run logged from there on is dropped, so that a log has every step once.

mod json;
mod tensorboard;

pub use json::JsonLog;
pub use tensorboard::TensorBoardLog;

use lopper_record::Result;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// What is logged of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Optimiser steps so far; 0 for the held-out loss before the training.
    pub step: usize,
    /// Training loss of this step, before its update: mean over the tokens in the loss, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Learning rate of this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Input tokens so far.
    pub tokens: u64,
    /// Seconds of training so far, without evaluations and interruptions.
    pub seconds: f64,
    /// Loss on held-out examples after this step, if it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_loss: Option<f64>,
}

/// Takes the entries of a run, in the order of their steps.
pub trait TrainingLog: Debug {
    /// Called once, before any entry. The first entry will be that of `step`: 0 for a run that begins; entries of this
    /// step and of later ones are dropped where the log has any.
    ///
    /// # Errors
    /// If the log cannot be written.
    fn begin(&self, step: usize) -> Result<()>;

    /// Adds an entry; it can be read by others when this returns.
    ///
    /// # Errors
    /// If the log cannot be written.
    fn record(&self, entry: &LogEntry) -> Result<()>;
}
