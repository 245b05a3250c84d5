//! Supervised finetuning of a pruned model, with an adapter or of all weights.
//!
//! With [`HealRecipe::load_in_4bit`] an adapter is trained, and evaluated, on a copy of the projections in NF4; the
//! result is the adapter on the weights as they were.
//!
//! The result is a function of the model, the documents, the recipe and the number of workers. A run with a state file
//! can be interrupted at any step; called again with the same model, documents and recipe it continues, with the same
//! result.

mod order;
mod own_answers;
mod rounds;
mod stats;
mod training;

pub(crate) use order::first_epoch;
pub use own_answers::OwnAnswers;
pub use rounds::{Choose, Removal, Rounds};
pub use stats::{HealStats, Stopped};

use crate::adapter::{Base, attach_lora, is_adapter, save_adapter};
use crate::evaluation::{self, Evaluated, Evaluation, Keep, mean_loss};
use crate::log::TrainingLog;
use crate::recipe::{HealRecipe, Method};
use crate::state::{self, RunState};
use crate::trainer::{Document, Trainer, TrainerConfig};
use lopper_model::Model;
use lopper_model::tensors::{EMBEDDING, layer_of};
use lopper_record::{Fault, LayerPosition, LayerSet, Progress, Result, Step, ensure, key_hash};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use training::Training;

/// Fewest and most tokens of a micro-batch, apart from single longer examples.
const MICRO_TOKENS: (usize, usize) = (256, 2048);

/// How a run uses the machine, and what it is checked on.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Threads with a micro-batch each; with 1, all threads of the current rayon pool share each matrix multiplication.
    pub workers: usize,
    /// The file of an unfinished run; without one, an interrupted run is lost.
    pub state: Option<StateFile<'a>>,
    /// Documents that are not trained on; their loss is measured before and after. They change no result, unless the
    /// evaluation has the best weights kept or the training stopped.
    pub held_out: &'a [Document],
    /// When they are evaluated, and what follows from it.
    pub evaluation: Evaluation,
    /// Stop where the loss has been above its start for so many steps ([`Divergence`](crate::Divergence)); 0: only
    /// where it is no number.
    pub divergence_steps: usize,
    /// Tokens that end an answer, where the model answers itself (`HealRecipe::distillation`'s `on_policy`).
    pub stop_tokens: &'a [u32],
    /// Layers that are removed while the model is trained; none: it keeps the layers it is given.
    pub rounds: Option<Rounds<'a>>,
    /// What users call each document to train on (the number of its row), for messages; empty: their index.
    pub rows: &'a [usize],
    /// Logs that take an entry for each step.
    pub logs: &'a [&'a dyn TrainingLog],
}

/// The file of an unfinished run.
#[derive(Debug, Clone, Copy)]
pub struct StateFile<'a> {
    /// Its path. The caller removes the file once the result is written; where a run diverges and leaves nothing, it is
    /// removed here.
    pub path: &'a Path,
    /// Hash of the model; the run continues only with the same one.
    pub model: &'a str,
    /// How often it is written.
    pub save_every: Duration,
}

impl Run<'_> {
    /// With so many workers, and nothing else.
    pub const fn with_workers(workers: usize) -> Self {
        let evaluation = Evaluation { every: 0, keep: Keep::Last, patience: 0 };
        let (state, rounds) = (None, None);
        let (held_out, stop_tokens, rows, logs) = (&[], &[], &[], &[]);
        Self { workers, state, held_out, evaluation, divergence_steps: 0, stop_tokens, rounds, rows, logs }
    }

    /// The fastest choice for `model`, without a state file.
    pub fn for_model(model: &Model, threads: usize, recipe: &HealRecipe) -> Self {
        // Every worker has its own gradients: small for an adapter, as large as the weights otherwise.
        let cheap = recipe.method == Method::Lora && recipe.batch >= threads;
        // Products in bf16 run on the calling thread only.
        let many = recipe.mixed || cheap || model.is_small();
        Self::with_workers(if many { threads.max(1) } else { 1 })
    }

    /// Threads of evaluations.
    pub(crate) fn threads(&self) -> usize {
        if self.workers > 1 { self.workers } else { rayon::current_num_threads() }
    }

    fn check(&self, layers: usize, documents: usize, recipe: &HealRecipe) -> Result<()> {
        let Evaluation { every, keep, patience } = self.evaluation;
        if let Some(rounds) = &self.rounds {
            rounds.check(layers, recipe.steps(documents))?;
            if keep == Keep::Best || patience > 0 {
                return Err(Fault::new("evaluations of cuts of different depths cannot be compared")
                    .expected("the weights of the last step, and no early stopping")
                    .got("the best weights, or patience")
                    .hint("leave them out, or remove all layers at once")
                    .into());
            }
            if !recipe.layers.is_all() {
                return Err(Fault::new("which layers are trained is chosen before layers are removed")
                    .expected("all layers")
                    .got(recipe.layers.to_string())
                    .hint("leave the choice of layers out, or remove all layers at once")
                    .into());
            }
        }
        if every == 0 && (keep == Keep::Best || patience > 0) {
            return Err(Fault::new("there are no evaluations during the training to choose weights or stop by")
                .expected("the number of steps between two evaluations")
                .got("0")
                .into());
        }
        if every > 0 && self.held_out.is_empty() {
            return Err(Fault::new("there are no held-out examples to evaluate")
                .expected("at least one")
                .hint("hold some out, or name a file of them")
                .into());
        }
        Ok(())
    }
}

/// A healed model.
#[derive(Debug, Clone)]
pub struct Healed {
    /// The kept layers, renumbered, with the adapter or the new weights.
    pub model: Model,
    /// The kept layers, by their position in the model that was given.
    pub kept: LayerSet<LayerPosition>,
    /// The same as it was trained, where that was on weights in 4 bits; [`Healed::model`] has the adapter on the
    /// weights that were given.
    pub quantized: Option<Model>,
    /// The recipe of its training.
    pub recipe: HealRecipe,
    /// Statistics of its training.
    pub stats: HealStats,
}

impl Healed {
    /// The model as it was trained: what the losses in [`Healed::stats`] are of.
    pub fn trained(&self) -> &Model {
        self.quantized.as_ref().unwrap_or(&self.model)
    }

    /// The adapter on the weights of `original`, the kept layers without one.
    fn on_weights_of(self, mut original: Model) -> Self {
        for (to, from) in original.layers.iter_mut().zip(&mut self.model.clone().layers) {
            for ((_, to), (_, from)) in to.linears_mut().into_iter().zip(from.linears_mut()) {
                to.lora = from.lora.take();
            }
        }
        Self { model: original, quantized: Some(self.model), ..self }
    }

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
/// A [`Fault`] for a recipe out of range, no documents or one that is too long, a state file of another run, and a
/// training that diverges where no better weights have been kept; [`Interrupted`](lopper_record::Interrupted).
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
    run.check(kept.len(), documents.len(), recipe)?;
    let mut whole = model.clone();
    if recipe.distillation.is_some() && whole.is_small() {
        whole.load();
    }
    // What a teacher has in memory its student shares.
    let mut model = whole.keep(kept);
    let teacher = recipe.distillation.map(|distillation| (whole, distillation));
    if model.is_small() {
        model.load();
    }
    let original = recipe.load_in_4bit.then(|| model.clone());
    if recipe.load_in_4bit {
        model.quantize_nf4();
    }
    let before = model.clone();
    let trained = recipe.layers.of(kept);
    let lora = recipe.method == Method::Lora;
    if lora {
        attach_lora(&mut model, &recipe.lora, recipe.seed, &trained)?;
    }
    let start = (run.evaluation.keep == Keep::Best).then(|| model.clone());
    let epoch_tokens: u64 = documents.iter().map(|d| d.tokens.len() as u64 - 1).sum();
    let config = TrainerConfig {
        workers: run.workers,
        micro_tokens: micro_tokens(epoch_tokens as usize, documents.len(), recipe, run.workers),
        clip: recipe.clip,
        checkpointing: recipe.checkpointing,
        layer_drop: 0.0,
        mixed: recipe.mixed,
        seed: recipe.seed,
    };
    let tied = model.config.tie_word_embeddings;
    let trainable = |name: &str| match lora {
        true => is_adapter(name),
        false => recipe.layers.is_all() || is_in(&trained, tied, name),
    };
    let layers = LayerSet::all(model.num_layers());
    let mut trainer = Trainer::new(model, layers.slots(), trainable, recipe.adamw, config);
    if let Some((teacher, distillation)) = teacher {
        trainer = trainer.with_teacher(teacher, distillation);
    }

    let (mut state, mut best) = (RunState::default(), None);
    if let Some(file) = run.state {
        state.settings = settings(&file, kept, documents, recipe, run);
        state.recipe = key_hash(&state.settings)?;
        if file.path.exists() {
            (state, best) = state::load(file.path, &mut trainer, &state)?;
        }
    }
    let best_step = evaluation::best(&state.evaluations).map_or(0, |index| state.evaluations[index].step);
    if run.evaluation.keep == Keep::Best && best_step > 0 && best.is_none() {
        return Err(Fault::new("training state is unusable: the best weights are not in it")
            .expected(format!("the weights of step {best_step}"))
            .hint("remove it to start over")
            .into());
    }
    if run.evaluation.every == 0 {
        // Which documents they were on is not in the state.
        state.evaluations.clear();
    }
    if !run.held_out.is_empty() && state.evaluations.is_empty() && run.rounds.is_none() {
        // A new adapter changes nothing, so this is the loss before the training also where a run is continued.
        let (loss, _) = mean_loss(&before, run.held_out, run.threads(), progress)?;
        state.evaluations.push(Evaluated { step: 0, loss });
    }
    drop(before);
    let training = Training::new(trainer, state, best, documents, recipe, run);
    let step = Step::new("healing", "tokens", (epoch_tokens * recipe.epochs as u64) as usize);
    let progress = progress.step(step.found(training.tokens_so_far()));
    let healed = training.run(start, &*progress)?;
    let positions: LayerSet<LayerPosition> = healed.kept;
    // The model that was trained has the layers `kept`.
    let healed = Healed { kept: positions.indices().filter_map(|layer| kept.indices().nth(layer)).collect(), ..healed };
    Ok(match original {
        Some(original) => healed.on_weights_of(original.keep(&positions)),
        None => healed,
    })
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

/// Whether the parameter `name` belongs to the layers `trained`, or to what comes after all layers.
fn is_in(trained: &LayerSet<LayerPosition>, tied: bool, name: &str) -> bool {
    match layer_of(name) {
        Some((layer, _)) => trained.contains(LayerPosition(layer)),
        None => tied || name != EMBEDDING,
    }
}

/// Tokens of a micro-batch: enough for efficient matrix multiplications. In `f32` half of a worker's part of a step,
/// which stays in its caches; in bf16, where weights are packed anew for each micro-batch, all of it.
fn micro_tokens(epoch_tokens: usize, documents: usize, recipe: &HealRecipe, workers: usize) -> usize {
    if workers <= 1 {
        return MICRO_TOKENS.1;
    }
    let per_worker = epoch_tokens / documents * recipe.batch / workers;
    // Steps have more or fewer tokens.
    let tokens = if recipe.mixed { per_worker * 3 / 2 } else { per_worker / 2 };
    tokens.clamp(MICRO_TOKENS.0, MICRO_TOKENS.1)
}

/// What determines the result, but for the number of workers: that changes only the order of sums and the
/// dropout masks, so a run can continue on another machine.
fn settings(
    file: &StateFile<'_>,
    kept: &LayerSet<LayerPosition>,
    documents: &[Document],
    recipe: &HealRecipe,
    run: &Run<'_>,
) -> Value {
    let mut settings = json!({"model": file.model, "kept": kept, "documents": hash(documents), "recipe": recipe});
    if run.evaluation != Evaluation::default() {
        settings["evaluation"] = json!(run.evaluation);
    }
    // Losses on them are in the state.
    if run.evaluation != Evaluation::default() || run.rounds.is_some() {
        settings["held_out"] = json!(hash(run.held_out));
    }
    if let Some(Rounds { remove, at_once, criterion, .. }) = run.rounds {
        settings["rounds"] = json!({"remove": remove, "at_once": at_once, "criterion": criterion});
    }
    if recipe.distillation.is_some_and(|distillation| distillation.on_policy.is_some()) {
        settings["stop_tokens"] = json!(run.stop_tokens);
    }
    settings
}

fn hash(documents: &[Document]) -> String {
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
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_divided_among_the_workers() {
        let tokens = |epoch, documents, batch, workers, mixed| {
            let recipe = HealRecipe { batch, mixed, ..HealRecipe::default() };
            micro_tokens(epoch, documents, &recipe, workers)
        };
        assert_eq!(tokens(64_000, 640, 64, 2, false), 1600);
        assert_eq!(tokens(6_400, 640, 8, 2, false), 256);
        assert_eq!(tokens(64_000, 640, 20, 2, true), 1500);
        assert_eq!(tokens(640_000, 64, 64, 2, false), 2048);
        assert_eq!(tokens(100, 10, 2, 1, false), 2048);
    }
}
