//! Supervised finetuning of a pruned model, with an adapter or of all weights.
//!
//! The result is a function of the model, the documents, the recipe and the number of workers. A run with a state file
//! can be interrupted at any step; called again with the same model, documents and recipe it continues, with the same
//! result.

use crate::adapter::{Base, attach_lora, is_adapter, save_adapter};
use crate::held_out::{HeldOutLoss, mean_loss};
use crate::recipe::{HealRecipe, Method};
use crate::state::{self, RunState};
use crate::trainer::{Document, Trainer, TrainerConfig};
use lopper_model::Model;
use lopper_record::study::HealInfo;
use lopper_record::{Fault, LayerPosition, LayerSet, Progress, Result, Step, ensure, key_hash};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// Fewest and most tokens of a micro-batch, apart from single longer examples.
const MICRO_TOKENS: (usize, usize) = (256, 2048);
/// Steps over which the last loss is averaged.
const LAST_STEPS: usize = 10;

/// How a run uses the machine, and what it is checked on.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Threads with a micro-batch each; with 1, all threads of the current rayon pool share each matrix multiplication.
    pub workers: usize,
    /// The file of an unfinished run; without one, an interrupted run is lost.
    pub state: Option<StateFile<'a>>,
    /// Documents that are not trained on; their loss is measured before and after. They change no result.
    pub held_out: &'a [Document],
}

/// The file of an unfinished run.
#[derive(Debug, Clone, Copy)]
pub struct StateFile<'a> {
    /// Its path. The caller removes the file once the result is written.
    pub path: &'a Path,
    /// Hash of the model; the run continues only with the same one.
    pub model: &'a str,
    /// How often it is written.
    pub save_every: Duration,
}

impl Run<'_> {
    /// The fastest choice for `model`, without a state file.
    pub fn for_model(model: &Model, threads: usize, recipe: &HealRecipe) -> Self {
        // Every worker has its own gradients: small for an adapter, as large as the weights otherwise.
        let cheap = recipe.method == Method::Lora && recipe.batch >= threads;
        // Products in bf16 run on the calling thread only.
        let many = recipe.mixed || cheap || model.is_small();
        Self { workers: if many { threads.max(1) } else { 1 }, state: None, held_out: &[] }
    }
}

/// Statistics of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealStats {
    /// Documents trained on.
    pub examples: usize,
    /// Optimiser steps.
    pub steps: usize,
    /// Of these, the ones of the warm-up.
    pub warmup: usize,
    /// Input tokens, over all epochs.
    pub tokens: u64,
    /// Tokens in the loss, over all epochs.
    pub response_tokens: u64,
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
            recipe: recipe.summary(self.steps),
            ..HealInfo::default()
        }
    }
}

/// A healed model.
#[derive(Debug, Clone)]
pub struct Healed {
    /// The kept layers, renumbered, with the adapter or the new weights.
    pub model: Model,
    /// The recipe of its training.
    pub recipe: HealRecipe,
    /// Statistics of its training.
    pub stats: HealStats,
}

impl Healed {
    /// Writes the adapter in PEFT's layout into the existing directory `directory`; see [`save_adapter`].
    pub fn save_adapter(&self, directory: &Path, base: Option<Base<'_>>) -> Result<()> {
        ensure!(self.recipe.method == Method::Lora, "a full finetuning leaves no adapter");
        save_adapter(directory, &self.model, &LayerSet::all(self.model.num_layers()), &self.recipe.lora, base)
    }
}

/// Finetunes the layers `kept` of `model` on `documents`. Frozen weights of a large model may stay in their file.
///
/// `progress` counts tokens, with the loss of the last step as message. After an interruption the state is saved, if
/// there is a file for it.
///
/// # Errors
/// A [`Fault`] for a recipe out of range, no documents or one that is too long, and a state file of another run;
/// [`Interrupted`](lopper_record::Interrupted).
pub fn heal(
    model: &Model,
    kept: &LayerSet<LayerPosition>,
    documents: &[Document],
    recipe: &HealRecipe,
    run: &Run<'_>,
    progress: &dyn Progress,
) -> Result<Healed> {
    check(model, kept, documents, recipe)?;
    check_documents(model, run.held_out, recipe)?;
    let mut teacher = recipe.distillation.map(|distillation| (model.clone(), distillation));
    let mut model = model.keep(kept);
    if model.is_small() {
        model.load();
        teacher.iter_mut().for_each(|(teacher, _)| teacher.load());
    }
    let threads = if run.workers > 1 { run.workers } else { rayon::current_num_threads() };
    // A new adapter changes nothing, so this is the loss before the training also where a run is continued.
    let loss_before = match run.held_out {
        [] => None,
        held_out => Some(mean_loss(&model, held_out, threads, progress)?),
    };
    let layers = LayerSet::all(model.num_layers());
    if recipe.method == Method::Lora {
        attach_lora(&mut model, &recipe.lora, recipe.seed, &layers)?;
    }
    let epoch_tokens: u64 = documents.iter().map(|d| d.tokens.len() as u64 - 1).sum();
    let total_tokens = epoch_tokens * recipe.epochs as u64;
    let config = TrainerConfig {
        workers: run.workers,
        micro_tokens: micro_tokens(epoch_tokens as usize, documents.len(), recipe.batch, run.workers),
        clip: recipe.clip,
        checkpointing: recipe.checkpointing,
        layer_drop: 0.0,
        mixed: recipe.mixed,
        seed: recipe.seed,
    };
    let lora = recipe.method == Method::Lora;
    let trainable = |name: &str| !lora || is_adapter(name);
    let mut trainer = Trainer::new(model, layers.slots(), trainable, recipe.adamw, config);
    if let Some((teacher, distillation)) = teacher {
        trainer = trainer.with_teacher(teacher, distillation);
    }

    let mut state = RunState::default();
    if let Some(file) = run.state {
        state.settings = settings(&file, kept, documents, recipe);
        state.recipe = key_hash(&state.settings)?;
        if file.path.exists() {
            state = state::load(file.path, &mut trainer, &state)?;
        }
    }
    let steps = recipe.steps(documents.len());
    let per_epoch = steps / recipe.epochs;
    let schedule = recipe.schedule(steps);
    let mut order = Order { epoch: usize::MAX, indices: Vec::new() };
    let progress = progress.step(Step::new("healing", "tokens", total_tokens as usize).found(state.tokens as usize));
    let mut saved = Instant::now();
    while (trainer.optimizer.step as usize) < steps {
        let (began, step) = (Instant::now(), trainer.optimizer.step as usize);
        let indices = order.of(step / per_epoch, documents.len(), recipe.seed);
        let from = step % per_epoch * recipe.batch;
        let batch: Vec<Document> =
            indices[from..].iter().take(recipe.batch).map(|index| documents[*index].clone()).collect();
        let rate = schedule.rate(step);
        let stats = trainer.step(&batch, rate)?;
        state.documents += batch.len() as u64;
        state.tokens += stats.tokens as u64;
        state.seconds += began.elapsed().as_secs_f64();
        state.losses.push(stats.loss);
        if recipe.distillation.is_some() {
            state.objectives.push(stats.objective);
        }
        progress.message(&format!("loss {:.3}", stats.objective));
        progress.set(state.tokens as usize);
        let interrupted = progress.check();
        if let Some(file) = run.state.filter(|file| interrupted.is_err() || saved.elapsed() >= file.save_every) {
            state::save(file.path, &trainer, &state)?;
            saved = Instant::now();
        }
        interrupted?;
    }

    let mut model = trainer.model;
    let trained_parameters = model.parameters().iter().filter(|(_, p)| p.slot.is_some()).map(|(_, p)| p.len()).sum();
    model.set_trainable(|_| false);
    let held_out = match loss_before {
        None => None,
        Some((first, tokens)) => {
            let (last, _) = mean_loss(&model, run.held_out, threads, &*progress)?;
            Some(HeldOutLoss { documents: run.held_out.len(), tokens, first, last })
        }
    };
    let losses = state.losses;
    let last = &losses[losses.len().saturating_sub(LAST_STEPS)..];
    let weighted = |d: &Document| d.weights[1..].iter().filter(|w| **w != 0.0).count() as u64;
    let stats = HealStats {
        examples: documents.len(),
        steps,
        warmup: schedule.warmup,
        tokens: state.tokens,
        response_tokens: documents.iter().map(weighted).sum::<u64>() * recipe.epochs as u64,
        trained_parameters,
        seconds: state.seconds,
        loss_first: losses.first().copied().unwrap_or(f64::NAN),
        loss_last: last.iter().sum::<f64>() / last.len() as f64,
        loss_curve: losses,
        objective_curve: state.objectives,
        held_out,
    };
    Ok(Healed { model, recipe: recipe.clone(), stats })
}

fn check(model: &Model, kept: &LayerSet<LayerPosition>, documents: &[Document], recipe: &HealRecipe) -> Result<()> {
    recipe.check()?;
    model.check_layers(kept)?;
    ensure!(!kept.is_empty(), "no layers to finetune");
    if documents.is_empty() {
        return Err(Fault::new("no examples to train on").expected("at least one").into());
    }
    check_documents(model, documents, recipe)
}

fn check_documents(model: &Model, documents: &[Document], recipe: &HealRecipe) -> Result<()> {
    let limit = recipe.max_length.min(model.config.max_position_embeddings);
    for (index, document) in documents.iter().enumerate() {
        let Document { tokens, weights } = document;
        ensure!(tokens.len() == weights.len(), "example {index}: one weight per token");
        ensure!(weights.iter().skip(1).any(|w| *w != 0.0), "example {index} has no token in the loss");
        if tokens.len() > limit {
            return Err(Fault::new(format!("example {index} is too long"))
                .expected(format!("at most {limit} tokens"))
                .got(tokens.len().to_string())
                .hint("leave it out, or raise the recipe's max_length")
                .into());
        }
        model.check_tokens(tokens)?;
    }
    Ok(())
}

/// Tokens of a micro-batch: enough for efficient matrix multiplications, and few enough that every worker gets at least
/// two of a batch, so that none waits long for another.
fn micro_tokens(epoch_tokens: usize, documents: usize, batch: usize, workers: usize) -> usize {
    if workers <= 1 {
        return MICRO_TOKENS.1;
    }
    let per_step = epoch_tokens / documents * batch;
    (per_step / (2 * workers)).clamp(MICRO_TOKENS.0, MICRO_TOKENS.1)
}

/// What determines the result, but for the number of workers: that changes only the order of sums and the
/// dropout masks, so a run can continue on another machine.
fn settings(
    file: &StateFile<'_>,
    kept: &LayerSet<LayerPosition>,
    documents: &[Document],
    recipe: &HealRecipe,
) -> Value {
    let mut hasher = blake3::Hasher::new();
    for document in documents {
        hasher.update(&(document.tokens.len() as u64).to_le_bytes());
        document.tokens.iter().for_each(|token| {
            hasher.update(&token.to_le_bytes());
        });
        document.weights.iter().for_each(|weight| {
            hasher.update(&weight.to_le_bytes());
        });
    }
    let documents = hasher.finalize().to_hex().to_string();
    json!({"model": file.model, "kept": kept, "documents": documents, "recipe": recipe})
}

/// The order of the documents in one epoch.
struct Order {
    epoch: usize,
    indices: Vec<usize>,
}

impl Order {
    fn of(&mut self, epoch: usize, documents: usize, seed: u64) -> &[usize] {
        if self.epoch != epoch {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(epoch as u64 + 1);
            self.indices = (0..documents).collect();
            // Fisher–Yates; the bias of the remainder of 64 bits is negligible.
            for i in (1..documents).rev() {
                self.indices.swap(i, (rng.next_u64() % (i as u64 + 1)) as usize);
            }
            self.epoch = epoch;
        }
        &self.indices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_has_each_document_once_in_another_order() {
        let mut order = Order { epoch: usize::MAX, indices: vec![] };
        let first = order.of(0, 20, 3).to_vec();
        let second = order.of(1, 20, 3).to_vec();
        assert_ne!(first, second);
        assert_ne!(first, Order { epoch: usize::MAX, indices: vec![] }.of(0, 20, 4));
        assert_eq!(first, order.of(0, 20, 3));
        for mut epoch in [first, second] {
            epoch.sort_unstable();
            assert_eq!(epoch, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_batch_is_divided_among_the_workers() {
        assert_eq!(micro_tokens(64_000, 640, 64, 2), 1600);
        assert_eq!(micro_tokens(6_400, 640, 8, 2), 256);
        assert_eq!(micro_tokens(640_000, 64, 64, 2), 2048);
        assert_eq!(micro_tokens(100, 10, 2, 1), 2048);
    }
}
