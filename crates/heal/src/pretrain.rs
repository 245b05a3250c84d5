//! Training from random weights on a stream of documents, resumable at any step.

use crate::muon::Muon;
use crate::optimizer::AdamWConfig;
use crate::schedule::Schedule;
use crate::state::{self, RunState};
use crate::trainer::{Document, Trainer, TrainerConfig};
use lopper_model::Model;
use lopper_record::{LayerPosition, LayerSet, Progress, Result, Step};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Everything that determines the result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Recipe {
    /// Description of the data: its generator, seed and mixture.
    pub data: String,
    /// Seed of the random weights.
    pub init_seed: u64,
    /// Seed of stochastic depth.
    pub seed: u64,
    /// Tokens per optimiser step, roughly (whole documents).
    pub batch_tokens: usize,
    /// Learning rate.
    pub schedule: Schedule,
    /// Probability of skipping the last layer; falls linearly to zero at the first.
    pub layer_drop: f64,
    /// Constants of AdamW.
    pub adamw: AdamWConfig,
    /// Muon for the hidden matrices.
    pub muon: bool,
    /// Worker threads (their number changes the order of sums, and which layers a micro-batch skips).
    pub workers: usize,
    /// Tokens in a worker's micro-batch.
    pub micro_tokens: usize,
    /// Matrix products with bf16 operands and f32 sums.
    pub mixed: bool,
}

impl Recipe {
    /// Hash of the recipe without the schedule's length, so that a run can be extended while its rate has not begun to
    /// fall.
    pub fn identity(&self) -> String {
        let mut same = self.clone();
        (same.schedule.steps, same.schedule.decay) = (0, 0.0);
        let json = serde_json::to_string(&same).unwrap_or_default();
        blake3::hash(json.as_bytes()).to_hex()[..16].to_owned()
    }
}

/// Steps between two log entries.
const LOG_EVERY: usize = 100;

/// Trains by the recipe on `documents(index)`, or continues the run in `state_file`. The state is saved every
/// `save_every`, at the end, and after an interruption.
///
/// `progress` counts steps; its message is the smoothed loss and the speed.
///
/// # Errors
/// A [`Fault`](lopper_record::Fault) for a state file of another recipe; [`Interrupted`](lopper_record::Interrupted).
pub fn run(
    model: Model,
    recipe: &Recipe,
    documents: &(dyn Fn(u64) -> Document + Sync),
    state_file: &Path,
    save_every: Duration,
    progress: &dyn Progress,
) -> Result<(Trainer, RunState)> {
    let kept = LayerSet::<LayerPosition>::all(model.num_layers()).slots();
    let config = TrainerConfig {
        workers: recipe.workers,
        micro_tokens: recipe.micro_tokens,
        layer_drop: recipe.layer_drop,
        seed: recipe.seed,
        mixed: recipe.mixed,
        ..TrainerConfig::default()
    };
    let mut trainer = Trainer::new(model, kept, |_| true, recipe.adamw, config);
    if recipe.muon {
        let shapes = hidden_matrices(&trainer.model);
        let muon = Muon { shapes, momentum: 0.95, weight_decay: recipe.adamw.weight_decay };
        trainer.optimizer = trainer.optimizer.clone().with_muon(muon);
    }
    let identity = recipe.identity();
    let mut state = RunState { recipe: identity, ..RunState::default() };
    if state_file.exists() {
        (state, _) = state::load(state_file, &mut trainer, &state)?;
    }
    let done = trainer.optimizer.step as usize;
    let progress = progress.step(Step::new("training", "steps", recipe.schedule.steps).found(done));
    let mut smoothed: Option<f64> = None;
    let mut saved = Instant::now();
    while (trainer.optimizer.step as usize) < recipe.schedule.steps {
        let began = Instant::now();
        let step = trainer.optimizer.step as usize;
        let (mut batch, mut tokens) = (Vec::new(), 0);
        while tokens < recipe.batch_tokens {
            let document = documents(state.documents);
            state.documents += 1;
            tokens += document.tokens.len();
            batch.push(document);
        }
        let stats = trainer.step(&batch, recipe.schedule.rate(step))?;
        state.tokens += stats.tokens as u64;
        state.seconds += began.elapsed().as_secs_f64();
        let loss = smoothed.map_or(stats.loss, |mean| 0.95 * mean + 0.05 * stats.loss);
        smoothed = Some(loss);
        let rate = state.tokens as f64 / state.seconds.max(1e-9);
        if (step + 1).is_multiple_of(LOG_EVERY) {
            tracing::info!(step = step + 1, loss, tokens = state.tokens, rate, "training");
        }
        progress.message(&format!("loss {loss:.4}, {rate:.0} tokens/s"));
        progress.set(step + 1);
        let interrupted = progress.check();
        if interrupted.is_err() || saved.elapsed() >= save_every {
            state::save(state_file, &trainer, &state, None)?;
            saved = Instant::now();
        }
        interrupted?;
    }
    state::save(state_file, &trainer, &state, None)?;
    Ok((trainer, state))
}

/// Slots and shapes of the matrices inside the layers.
fn hidden_matrices(model: &Model) -> BTreeMap<usize, (usize, usize)> {
    let hidden = |name: &str| name.contains(".layers.") && name.ends_with("_proj.weight");
    let trained = model.parameters().into_iter().filter(|(name, _)| hidden(name));
    trained.filter_map(|(_, p)| p.slot.map(|slot| (slot, (p.rows, p.cols)))).collect()
}
