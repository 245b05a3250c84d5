//! What a training begins with: the models of its cuts, which have their weights in common, and the state of an
//! unfinished run.

use super::training::Training;
use super::{Cut, Rounds, Run, StateFile};
use crate::adapter::{attach_lora, is_adapter};
use crate::evaluation::{self, Evaluated, Evaluation, Keep, mean_loss};
use crate::recipe::{Distillation, HealRecipe, Method};
use crate::state::{self, RunState};
use crate::trainer::{Document, Trainer, TrainerConfig};
use lopper_model::Model;
use lopper_model::tensors::{EMBEDDING, layer_of};
use lopper_record::{Fault, LayerPosition, LayerSet, Progress, Result, key_hash};
use serde_json::{Value, json};

/// Fewest and most tokens of a micro-batch, apart from single longer examples.
const MICRO_TOKENS: (usize, usize) = (256, 2048);

/// The models of a training.
pub(super) struct Prepared {
    /// One for each cut.
    pub models: Vec<CutModel>,
    /// The model that is learned from, if one is.
    pub teacher: Option<(Model, Distillation)>,
}

/// A cut's layers.
pub(super) struct CutModel {
    /// With the weights that were given, where others are trained on.
    pub base: Option<Model>,
    /// What is trained, or given an adapter.
    pub trained_on: Model,
}

/// The cuts of `model`. What several of them have, they have in memory once; what a teacher has in memory its students
/// have in common with it.
pub(super) fn models(model: &Model, cuts: &[Cut<'_>], recipe: &HealRecipe) -> Prepared {
    let mut whole = model.clone();
    if recipe.distillation.is_some() && whole.is_small() {
        whole.load();
    }
    // Small cuts are held in memory, larger ones used as they are stored.
    let mut pools = [None, None];
    let mut models = Vec::with_capacity(cuts.len());
    for cut in cuts {
        let small = whole.keep(cut.kept).is_small();
        let pool = pools[usize::from(small)].get_or_insert_with(|| {
            let of_pool = |cut: &&Cut<'_>| whole.keep(cut.kept).is_small() == small;
            Pool::new(&whole, cuts.iter().filter(of_pool), small, recipe.load_in_4bit)
        });
        models.push(pool.cut(cut.kept));
    }
    Prepared { models, teacher: recipe.distillation.map(|distillation| (whole, distillation)) }
}

/// The layers that any of several cuts keeps.
struct Pool {
    layers: LayerSet<LayerPosition>,
    base: Model,
    quantized: Option<Model>,
}

impl Pool {
    fn new<'a>(whole: &Model, cuts: impl Iterator<Item = &'a Cut<'a>>, load: bool, quantize: bool) -> Self {
        let layers: LayerSet<LayerPosition> = cuts.flat_map(|cut| cut.kept.indices()).collect();
        let mut base = whole.keep(&layers);
        if load {
            base.load();
        }
        let quantized = quantize.then(|| {
            let mut quantized = base.clone();
            quantized.quantize_nf4();
            quantized
        });
        Self { layers, base, quantized }
    }

    fn cut(&self, kept: &LayerSet<LayerPosition>) -> CutModel {
        let within = kept.iter().filter_map(|layer| self.layers.place(layer)).collect();
        let base = self.base.keep(&within);
        match &self.quantized {
            None => CutModel { base: None, trained_on: base },
            Some(quantized) => CutModel { base: Some(base), trained_on: quantized.keep(&within) },
        }
    }
}

/// A training that begins or is continued.
pub(super) struct Begun<'a> {
    pub training: Training<'a>,
    /// The model before it, where the best weights are kept.
    pub start: Option<Model>,
}

/// Begins the training of `model`, the layers `kept`, or continues the one of the state file.
pub(super) fn begin<'a>(
    mut model: Model,
    teacher: Option<(Model, Distillation)>,
    kept: &LayerSet<LayerPosition>,
    documents: &'a [Document],
    (recipe, run): (&'a HealRecipe, &'a Run<'a>),
    progress: &dyn Progress,
) -> Result<Begun<'a>> {
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
    Ok(Begun { training: Training::new(trainer, state, best, documents, recipe, run), start })
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
    if let Some(steps) = run.most_steps {
        settings["steps"] = json!(steps);
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
