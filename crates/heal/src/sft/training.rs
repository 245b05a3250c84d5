//! A training under way: its step, evaluation, log and state, and what ends it. The loop is in [`super::together`].
//!
//! What follows a step (its evaluation, its log entry, the decision to stop) is done at the beginning of the next turn
//! of the loop, from the state alone. So a run that is continued does it as well, whenever it was interrupted.

use super::order::Order;
use super::own_answers::Writer;
use super::rounds::Removal;
use super::stats::{HealStats, Stopped};
use super::{Healed, Run, StateFile};
use crate::divergence::{self, Divergence};
use crate::evaluation::{Evaluated, HeldOutLoss, Keep, best, counted_tokens, mean_loss};
use crate::log::LogEntry;
use crate::recipe::{HealRecipe, OnPolicy};
use crate::rounding::round_trained;
use crate::schedule::Schedule;
use crate::state::{self, RunState};
use crate::trainer::{Document, StepStats, Trainer};
use lopper_model::Model;
use lopper_record::{Fault, LayerPosition, LayerSet, Progress, Result, ensure};
use std::time::Duration;

/// Steps over which the last loss is averaged.
const LAST_STEPS: usize = 10;
/// Most examples that a message names.
const NAMED: usize = 32;

/// What comes next in a training.
pub(super) enum Turn {
    /// Another step.
    GoOn,
    /// Nothing, and why it ended before its last step, if it did.
    End(Option<Stopped>),
}

/// A training under way.
pub(super) struct Training<'a> {
    pub(super) trainer: Trainer,
    state: RunState,
    /// The weights of the best evaluation after the start, if they are kept.
    best: Option<Model>,
    documents: &'a [Document],
    recipe: &'a HealRecipe,
    run: &'a Run<'a>,
    order: Order,
    steps: usize,
    schedule: Schedule,
}

impl<'a> Training<'a> {
    pub(super) fn new(
        trainer: Trainer,
        state: RunState,
        best: Option<Model>,
        documents: &'a [Document],
        recipe: &'a HealRecipe,
        run: &'a Run<'a>,
    ) -> Self {
        let steps = run.steps(recipe, documents.len());
        let mut order = Order::new(documents.len(), recipe.batch, recipe.seed);
        let mut state = state;
        if state.response_tokens == 0 {
            // A state file of an earlier version.
            let tokens = |index: &usize| in_loss(&documents[*index]);
            let of_step = |step| order.batch(step).iter().map(tokens).sum::<u64>();
            state.response_tokens = (0..trainer.optimizer.step as usize).map(of_step).sum();
        }
        Self { trainer, state, best, documents, recipe, run, order, steps, schedule: recipe.schedule(steps) }
    }

    /// Input tokens of all steps.
    pub(super) fn all_tokens(&self) -> usize {
        let (steps, per_epoch) = (self.steps, self.documents.len().div_ceil(self.recipe.batch));
        let tokens =
            |indices: &[usize]| indices.iter().map(|index| self.documents[*index].tokens.len() - 1).sum::<usize>();
        let all: Vec<usize> = (0..self.documents.len()).collect();
        let mut order = Order::new(self.documents.len(), self.recipe.batch, self.recipe.seed);
        let rest: usize = (steps - steps % per_epoch..steps).map(|step| tokens(order.batch(step))).sum();
        tokens(&all) * (steps / per_epoch) + rest
    }

    pub(super) fn tokens_so_far(&self) -> usize {
        self.state.tokens as usize
    }

    /// Steps done.
    pub(super) fn step(&self) -> usize {
        self.trainer.optimizer.step as usize
    }

    /// The step that the logs begin or go on after.
    pub(super) fn begin_logs(&self) -> Result<()> {
        self.run.logs.iter().try_for_each(|log| log.begin(self.step()))
    }

    /// What follows the last step, and whether the training ends there.
    pub(super) fn follow_up(&mut self, progress: &dyn Progress) -> Result<Turn> {
        self.remove(progress)?;
        if let Some(divergence) = self.evaluate(progress)?.or_else(|| self.divergence()) {
            return Ok(Turn::End(Some(Stopped::Diverged(divergence))));
        }
        self.log()?;
        if self.step() >= self.steps {
            return Ok(Turn::End(None));
        }
        Ok(match self.run.evaluation.is_exhausted(&self.state.evaluations) {
            true => Turn::End(Some(Stopped::Patience)),
            false => Turn::GoOn,
        })
    }

    /// The loss of the last step.
    pub(super) fn last_loss(&self) -> f64 {
        self.state.losses.last().copied().unwrap_or(f64::NAN)
    }

    /// Where its state is saved, and how often.
    pub(super) fn state_file(&self) -> Option<StateFile<'a>> {
        self.run.state
    }

    pub(super) fn save(&self) -> Result<()> {
        match self.run.state {
            Some(file) => state::save(file.path, &self.trainer, &self.state, self.best.as_ref()),
            None => Ok(()),
        }
    }

    /// Removes the state of a run that leads nowhere, so that one with other settings can begin.
    fn forget(&self) {
        if let Some(file) = self.run.state {
            let _ = std::fs::remove_file(file.path);
        }
    }

    /// The examples of the next step, as they are learned.
    pub(super) fn batch(&mut self, progress: &dyn Progress) -> Result<Vec<Document>> {
        let step = self.step();
        let indices = self.order.batch(step);
        let mut batch: Vec<Document> = indices.iter().map(|index| self.documents[*index].clone()).collect();
        if let Some(on_policy) = self.recipe.distillation.and_then(|distillation| distillation.on_policy) {
            self.write_answers(on_policy, step, progress)?;
            self.state.own_answers.iter().for_each(|own| own.put_into(step, &mut batch));
        }
        if self.recipe.train_on_inputs {
            batch.iter_mut().for_each(|document| document.weights.fill(1.0));
        }
        Ok(batch)
    }

    /// Does the step whose gradients on `batch` have been computed. Returns where it diverged, if better weights have
    /// been kept.
    pub(super) fn update(&mut self, batch: &[Document], stats: &StepStats) -> Result<Option<Divergence>> {
        if !stats.is_finite() {
            return self.not_finite(stats).map(Some);
        }
        let step = self.step();
        self.trainer.update(self.schedule.rate(step));
        if self.recipe.stochastic_rounding {
            round_trained(&mut self.trainer.model, self.recipe.seed, step as u64);
        }
        self.state.documents += batch.len() as u64;
        self.state.tokens += stats.tokens as u64;
        self.state.response_tokens += batch.iter().map(in_loss).sum::<u64>();
        self.state.losses.push(stats.loss);
        if self.recipe.distillation.is_some() {
            self.state.objectives.push(stats.objective);
        }
        Ok(None)
    }

    /// Counts the time of a step.
    pub(super) fn count(&mut self, time: Duration) {
        self.state.seconds += time.as_secs_f64();
    }

    /// Removes the layers whose turn it is.
    fn remove(&mut self, progress: &dyn Progress) -> Result<()> {
        let Some(rounds) = self.run.rounds else { return Ok(()) };
        let mut left = self.left();
        self.trainer.kept = left.slots();
        while let Some(count) = rounds.due(self.step(), self.steps, self.state.removals.len()) {
            let before = self.trainer.model.keep(&left);
            let chosen = (rounds.choose)(&before, count, progress)?;
            ensure!(chosen.len() == count, "{} layers were chosen to remove, not {count}", chosen.len());
            let layers: LayerSet<LayerPosition> = chosen.indices().filter_map(|at| left.indices().nth(at)).collect();
            left = left.indices().filter(|layer| !layers.contains(LayerPosition(*layer))).collect();
            let held_out_loss = match self.run.held_out {
                [] => None,
                documents => {
                    let loss = |model: &Model| mean_loss(model, documents, self.run.threads(), progress);
                    Some([loss(&before)?.0, loss(&self.trainer.model.keep(&left))?.0])
                }
            };
            if let (Some([_, loss]), true) = (held_out_loss, self.state.evaluations.is_empty()) {
                self.state.evaluations.push(Evaluated { step: self.step(), loss });
            }
            self.state.removals.push(Removal { step: self.step(), layers, held_out_loss });
            self.trainer.kept = left.slots();
        }
        Ok(())
    }

    /// The layers that are left, by their position in the trainer's model.
    fn left(&self) -> LayerSet<LayerPosition> {
        let is_left = |layer: &usize| !self.state.removals.iter().any(|r| r.layers.contains(LayerPosition(*layer)));
        (0..self.trainer.model.num_layers()).filter(is_left).collect()
    }

    /// The model with the layers that are left.
    fn model(&self) -> Model {
        match self.run.rounds {
            Some(_) => self.trainer.model.keep(&self.left()),
            None => self.trainer.model.clone(),
        }
    }

    /// Lets the cut, as it is, answer the prompts of the steps from `step` on, if it has not done so.
    fn write_answers(&mut self, settings: OnPolicy, step: usize, progress: &dyn Progress) -> Result<()> {
        if self.state.own_answers.as_ref().is_some_and(|own| own.are_for(step)) {
            return Ok(());
        }
        let until = (step + settings.every).min(self.steps);
        let batch = |step| self.order.batch(step).iter().map(|index| &self.documents[*index]).collect();
        let batches: Vec<Vec<&Document>> = (step..until).map(batch).collect();
        let model = &self.model();
        let writer = Writer {
            settings,
            seed: self.recipe.seed,
            stop_tokens: self.run.stop_tokens,
            max_length: self.recipe.max_length.min(model.config.max_position_embeddings),
            threads: self.run.threads(),
        };
        let own = writer.write(model, step, &batches, progress)?;
        self.state.generated_tokens += own.tokens();
        self.state.own_answers = Some(own);
        Ok(())
    }

    /// Evaluates, if that is due and has not been done. Returns a divergence where the loss is no number.
    fn evaluate(&mut self, progress: &dyn Progress) -> Result<Option<Divergence>> {
        let (step, settings) = (self.step(), self.run.evaluation);
        let done = self.state.evaluations.last().is_some_and(|evaluated| evaluated.step == step);
        if self.run.held_out.is_empty() || done || !settings.is_due(step, self.steps) {
            return Ok(None);
        }
        let (loss, _) = mean_loss(&self.model(), self.run.held_out, self.run.threads(), progress)?;
        if settings.every > 0 && !loss.is_finite() {
            let documents = self.order.batch(step.saturating_sub(1)).to_vec();
            let start = self.state.losses.first().copied().unwrap_or(f64::NAN);
            return Ok(Some(Divergence { step, noticed: step, start, loss, documents }));
        }
        self.state.evaluations.push(Evaluated { step, loss });
        if settings.keep == Keep::Best && self.best_step() == Some(step) {
            self.best = Some(self.trainer.model.clone());
        }
        Ok(None)
    }

    /// The step of the best evaluation.
    fn best_step(&self) -> Option<usize> {
        best(&self.state.evaluations).map(|index| self.state.evaluations[index].step)
    }

    /// Logs the step that was done last, or the evaluation before the first.
    fn log(&self) -> Result<()> {
        let step = self.step();
        let evaluated = self.state.evaluations.last().filter(|evaluated| evaluated.step == step);
        if step == 0 && evaluated.is_none() {
            return Ok(());
        }
        let entry = LogEntry {
            step,
            loss: self.state.losses.last().copied(),
            learning_rate: step.checked_sub(1).map(|before| self.schedule.rate(before)),
            tokens: self.state.tokens,
            seconds: self.state.seconds,
            held_out_loss: evaluated.map(|evaluated| evaluated.loss),
        };
        self.run.logs.iter().try_for_each(|log| log.record(&entry))
    }

    /// Where the training has diverged with a finite loss.
    fn divergence(&mut self) -> Option<Divergence> {
        // A cut may well give other tokens than the written ones when it comes nearer to its teacher.
        let losses = if self.recipe.distillation.is_some() { &self.state.objectives } else { &self.state.losses };
        // A removal raises the loss.
        let from = self.state.removals.last().map_or(0, |removal| removal.step);
        let (step, loss) = divergence::found(losses.get(from..)?, self.run.divergence_steps)?;
        let (step, noticed, start) = (step + from, losses.len(), losses[from]);
        // The batch of step `step - 1`, which is counted from 0 here.
        let documents = self.order.batch(step.saturating_sub(2)).to_vec();
        Some(Divergence { step, noticed, start, loss, documents })
    }

    /// The divergence at a step whose loss or gradient is no number.
    ///
    /// # Errors
    /// A fault where no better weights have been kept.
    fn not_finite(&mut self, stats: &StepStats) -> Result<Divergence> {
        let step = self.step();
        let documents = self.order.batch(step).to_vec();
        if self.best.is_none() {
            self.forget();
            let mut fault = stats.not_finite(step);
            let got = fault.got.take().unwrap_or_default();
            return Err(fault.got(format!("{got}; in the batch: {}", named(self.run, &documents))).into());
        }
        let start = self.state.losses.first().copied().unwrap_or(f64::NAN);
        Ok(Divergence { step: step + 1, noticed: step + 1, start, loss: f64::NAN, documents })
    }

    /// The result: the model that is kept, and what is known of its training.
    pub(super) fn finish(mut self, start: Option<Model>, stopped: Option<Stopped>) -> Result<Healed> {
        let trained = self.trainer.model.parameters();
        let trained_parameters = trained.iter().filter(|(_, p)| p.slot.is_some()).map(|(_, p)| p.len()).sum();
        drop(trained);
        let stopped = match (stopped, self.best.is_some()) {
            (Some(Stopped::Diverged(divergence)), false) => {
                self.forget();
                return Err(diverged(self.run, &divergence).into());
            }
            (Some(Stopped::Diverged(divergence)), true) => {
                let documents = divergence.documents.iter().map(|index| row(self.run, *index)).collect();
                Some(Stopped::Diverged(Divergence { documents, ..divergence }))
            }
            (stopped, _) => stopped,
        };
        let (left, last_model) = (self.left(), self.model());
        let (steps, evaluations) = (self.step(), std::mem::take(&mut self.state.evaluations));
        let kept = match self.run.evaluation.keep {
            Keep::Best => best(&evaluations),
            Keep::Last => evaluations.len().checked_sub(1),
        };
        let mut model = match (self.run.evaluation.keep, self.best, start) {
            (Keep::Best, Some(best), _) => best,
            (Keep::Best, None, Some(start)) => start,
            _ => last_model,
        };
        model.set_trainable(|_| false);
        let held_out = evaluations.first().zip(kept).map(|(first, kept)| HeldOutLoss {
            documents: self.run.held_out.len(),
            tokens: counted_tokens(self.run.held_out),
            // Of the same layers as the last one.
            first: self.state.removals.last().and_then(|r| r.held_out_loss).map_or(first.loss, |[_, after]| after),
            last: evaluations[kept].loss,
        });
        let every = self.run.evaluation.every > 0;
        let losses = self.state.losses;
        let last = &losses[losses.len().saturating_sub(LAST_STEPS)..];
        let stats = HealStats {
            examples: self.documents.len(),
            steps,
            planned_steps: stopped.is_some().then_some(self.steps),
            stopped,
            kept_step: kept.filter(|_| self.run.evaluation.keep == Keep::Best).map(|kept| evaluations[kept].step),
            warmup: self.schedule.warmup,
            tokens: self.state.tokens,
            response_tokens: self.state.response_tokens,
            generated_tokens: self.state.generated_tokens,
            trained_parameters,
            seconds: self.state.seconds,
            loss_first: losses.first().copied().unwrap_or(f64::NAN),
            loss_last: last.iter().sum::<f64>() / last.len() as f64,
            loss_curve: losses,
            objective_curve: self.state.objectives,
            held_out,
            removals: self.state.removals,
            evaluations: if every { evaluations } else { Vec::new() },
        };
        Ok(Healed { model, kept: left, quantized: None, recipe: self.recipe.clone(), stats })
    }
}

/// Tokens of a document in the loss.
fn in_loss(document: &Document) -> u64 {
    document.weights[1..].iter().filter(|weight| **weight != 0.0).count() as u64
}

/// What users call the document `index`.
fn row(run: &Run<'_>, index: usize) -> usize {
    run.rows.get(index).copied().unwrap_or(index)
}

/// The documents of a batch, for messages.
fn named(run: &Run<'_>, documents: &[usize]) -> String {
    let mut rows: Vec<usize> = documents.iter().map(|index| row(run, *index)).collect();
    rows.sort_unstable();
    rows.dedup();
    let mut text: Vec<String> = rows.iter().take(NAMED).map(usize::to_string).collect();
    if rows.len() > NAMED {
        text.push(format!("and {} more", rows.len() - NAMED));
    }
    format!("{} {}", if rows.len() == 1 { "row" } else { "rows" }, text.join(", "))
}

/// The fault of a training that diverged where nothing better was kept.
fn diverged(run: &Run<'_>, divergence: &Divergence) -> Fault {
    let Divergence { step, noticed, start, loss, documents } = divergence;
    Fault::new(format!("training diverged: from step {step} to step {noticed} the loss was above its start"))
        .expected(format!("a loss below that of the first step, {start:.3}"))
        .got(format!("{loss:.3} on average; in the batch before: {}", named(run, documents)))
        .hint(
            "use a smaller learning rate or more warm-up steps, or look at these examples; evaluations during the \
             training keep the best weights before a divergence",
        )
}
