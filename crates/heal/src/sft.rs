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
mod prepare;
mod rounds;
mod stats;
mod together;
mod training;

pub(crate) use order::first_epoch;
pub use own_answers::OwnAnswers;
pub use rounds::{Choose, Removal, Rounds};
pub use stats::{HealStats, Stopped};

use crate::adapter::{Base, save_adapter};
use crate::evaluation::{Evaluation, Keep};
use crate::log::TrainingLog;
use crate::recipe::{HealRecipe, Method};
use crate::trainer::Document;
use lopper_model::Model;
use lopper_record::{Fault, LayerPosition, LayerSet, Progress, Result, Step, ensure};
use prepare::{CutModel, Prepared};
use std::path::Path;
use std::time::Duration;
use together::{End, Member};

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
    /// Steps of the training, where these are fewer than the recipe's epochs have; the learning rate follows a schedule
    /// of so many.
    pub most_steps: Option<usize>,
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
        let (state, rounds, most_steps) = (None, None, None);
        let (held_out, stop_tokens, rows, logs) = (&[], &[], &[], &[]);
        Self { workers, state, held_out, evaluation, most_steps, divergence_steps: 0, stop_tokens, rounds, rows, logs }
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

    /// Steps of a training on so many documents.
    pub(crate) fn steps(&self, recipe: &HealRecipe, documents: usize) -> usize {
        let all = recipe.steps(documents);
        self.most_steps.map_or(all, |most| most.min(all))
    }

    fn check(&self, layers: usize, documents: usize, recipe: &HealRecipe) -> Result<()> {
        let Evaluation { every, keep, patience } = self.evaluation;
        if let Some(rounds) = &self.rounds {
            rounds.check(layers, self.steps(recipe, documents))?;
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
    let cut = Cut { kept, state: run.state, logs: run.logs };
    let healed = heal_cuts(model, &[cut], documents, recipe, run, progress)?;
    healed.into_iter().next().expect("a result for each cut")
}

/// A cut to heal together with others.
#[derive(Debug, Clone, Copy)]
pub struct Cut<'a> {
    /// The layers that stay.
    pub kept: &'a LayerSet<LayerPosition>,
    /// The file of its unfinished run; the one that [`heal`] of this cut alone would continue, too.
    pub state: Option<StateFile<'a>>,
    /// Logs of its steps.
    pub logs: &'a [&'a dyn TrainingLog],
}

/// Finetunes several cuts of `model` in one pass over `documents`. Each is to the bit what [`heal`] makes of it, also
/// where another one diverges or ends early. Computed once are the uncut model's distributions, where they are learned,
/// and the layers before the first trained one, as far as cuts have the same ones; weights are in memory once.
///
/// `state` and `logs` of `run` are not used. `progress` counts the tokens of all cuts; the seconds of a step are
/// divided evenly among them.
///
/// # Errors
/// As [`heal`]; what is the matter with one cut is the error of its own result.
pub fn heal_cuts(
    model: &Model,
    cuts: &[Cut<'_>],
    documents: &[Document],
    recipe: &HealRecipe,
    run: &Run<'_>,
    progress: &dyn Progress,
) -> Result<Vec<Result<Healed>>> {
    let runs: Vec<Run<'_>> = cuts.iter().map(|cut| Run { state: cut.state, logs: cut.logs, ..*run }).collect();
    check_documents(model, run.held_out, recipe)?;
    for Cut { kept, .. } in cuts {
        check(model, kept, documents, recipe)?;
        run.check(kept.len(), documents.len(), recipe)?;
    }
    ensure!(cuts.len() == 1 || run.rounds.is_none(), "layers are removed from one cut at a time");
    let Prepared { models, teacher } = prepare::models(model, cuts, recipe);
    let mut members = Vec::with_capacity(cuts.len());
    let mut rest = Vec::with_capacity(cuts.len());
    for ((CutModel { base, trained_on }, cut), run) in models.into_iter().zip(cuts).zip(&runs) {
        let begun = prepare::begin(trained_on, teacher.clone(), cut.kept, documents, (recipe, run), progress)?;
        members.push(Member { training: begun.training, end: End::None });
        rest.push((base, begun.start));
    }
    drop(teacher);
    let tokens = members.iter().map(|member| member.training.all_tokens()).sum();
    let step = Step::new("healing", "tokens", tokens);
    let found = members.iter().map(|member| member.training.tokens_so_far()).sum();
    let progress = progress.step(step.found(found));
    let apart = recipe.distillation.is_some_and(|distillation| distillation.on_policy.is_some());
    together::run(&mut members, apart, &*progress)?;
    let members = members.into_iter().zip(rest).zip(cuts);
    Ok(members.map(|((member, (base, start)), cut)| finished(member, start, base, cut.kept)).collect())
}

/// The result of a training of the layers `kept`: with the weights of its start, where these may be the best, and on
/// those of `base`, where it was trained on others.
fn finished(
    Member { training, end }: Member<'_>,
    start: Option<Model>,
    base: Option<Model>,
    kept: &LayerSet<LayerPosition>,
) -> Result<Healed> {
    let healed = match end {
        End::Done(stopped) => training.finish(start, stopped)?,
        End::Failed(error) => return Err(error),
        End::None => unreachable!("a training ends"),
    };
    let positions: LayerSet<LayerPosition> = healed.kept;
    // The model that was trained has the layers `kept`.
    let kept = positions.indices().filter_map(|layer| kept.indices().nth(layer)).collect();
    let healed = Healed { kept, ..healed };
    Ok(match base {
        Some(base) => healed.on_weights_of(base.keep(&positions)),
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
