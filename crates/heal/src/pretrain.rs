//! Training from random weights on a stream of documents, resumable at any moment.

use crate::muon::Muon;
use crate::optimizer::AdamWConfig;
use crate::schedule::Schedule;
use crate::state::{self, Position};
use crate::trainer::{Document, StepStats, Trainer, TrainerConfig};
use anyhow::Result;
use lopper_model::Model;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// What determines the result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Recipe {
    /// Names the data: its generator, seed and mixture.
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
    /// Workers (their number changes the order of sums, and which layers a micro-batch skips).
    pub workers: usize,
    /// Tokens a worker takes through the model at once.
    pub micro_tokens: usize,
    /// Matrix products with bf16 operands and f32 sums.
    pub mixed: bool,
}

impl Recipe {
    /// Hash of everything in the recipe but the schedule's length, so that a run whose rate has not
    /// begun to fall may be extended.
    pub fn identity(&self) -> String {
        let mut same = self.clone();
        (same.schedule.steps, same.schedule.decay) = (0, 0.0);
        let json = serde_json::to_string(&same).unwrap_or_default();
        blake3::hash(json.as_bytes()).to_hex()[..16].to_owned()
    }
}

/// Told about every step; returns whether to go on.
pub type Observer<'a> = dyn FnMut(usize, &Position, &StepStats, &Trainer) -> bool + 'a;

/// Runs (or continues, when `state_file` exists) the recipe over `documents(index)`; the state is
/// saved every `save_every` and at the end, also when the observer stops the run.
pub fn run(
    model: Model,
    recipe: &Recipe,
    documents: &(dyn Fn(u64) -> Document + Sync),
    state_file: &Path,
    save_every: Duration,
    observer: &mut Observer<'_>,
) -> Result<(Trainer, Position)> {
    let kept = model.all_layers();
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
    let mut position = Position { recipe: identity.clone(), documents: 0, tokens: 0, seconds: 0.0, losses: Vec::new() };
    if state_file.exists() {
        position = state::load(state_file, &mut trainer, &identity)?;
    }
    let mut saved = Instant::now();
    while (trainer.optimizer.step as usize) < recipe.schedule.steps {
        let began = Instant::now();
        let step = trainer.optimizer.step as usize;
        let (mut batch, mut tokens) = (Vec::new(), 0);
        while tokens < recipe.batch_tokens {
            let document = documents(position.documents);
            position.documents += 1;
            tokens += document.tokens.len();
            batch.push(document);
        }
        let stats = trainer.step(&batch, recipe.schedule.rate(step))?;
        position.tokens += stats.tokens as u64;
        position.seconds += began.elapsed().as_secs_f64();
        let go_on = observer(step, &position, &stats, &trainer);
        if !go_on || saved.elapsed() >= save_every {
            state::save(state_file, &trainer, &position)?;
            saved = Instant::now();
        }
        if !go_on {
            return Ok((trainer, position));
        }
    }
    state::save(state_file, &trainer, &position)?;
    Ok((trainer, position))
}

/// Slots and shapes of the matrices inside the layers.
fn hidden_matrices(model: &Model) -> BTreeMap<usize, (usize, usize)> {
    let hidden = |name: &str| name.contains(".layers.") && name.ends_with("_proj.weight");
    let trained = model.parameters().into_iter().filter(|(name, _)| hidden(name));
    trained.filter_map(|(_, p)| p.slot.map(|slot| (slot, (p.rows, p.cols)))).collect()
}
