//! What a study would compute, and what that takes: every cell, whether an earlier run has finished it, time from a
//! measured minute, memory, and bytes on disk. Nothing is written.
//!
//! Cuts follow from scores, and scores from cells. As long as those are not there, the cells of cuts are counted by
//! strategy and depth, which is the most there can be: strategies often agree.

use std::path::Path;

use lopper_heal::memory::{self, Need};
use lopper_record::{NoProgress, Progress, Result, Store};
use serde::Serialize;

use crate::prepared::Prepared;
use crate::speed::{bytes_of, processor};
use crate::{Recipe, StudyInputs, StudyModel};

mod rates;
mod stages;

/// What a study would compute.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StudyPlan {
    /// Its stages, in order.
    pub stages: Vec<PlannedStage>,
    /// Seconds that the missing cells will take.
    pub seconds: f64,
    /// Seconds that measuring took.
    pub measuring: f64,
    /// The processor it was measured on.
    pub processor: String,
    /// The threads it was measured with.
    pub threads: usize,
    /// What the stages need in memory: estimates from shapes, without tokenizer and program.
    pub memory: Vec<Need>,
    /// Bytes that the missing cells will take on disk.
    pub disk_bytes: u64,
    /// Whether cuts are counted by strategy and depth, since what chooses their layers is not there yet.
    pub at_most: bool,
}

/// A stage of a study.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PlannedStage {
    /// Its name, as a running study shows it.
    pub name: String,
    /// Its cells.
    pub cells: Vec<PlannedCell>,
}

/// A unit of work that is recorded by itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PlannedCell {
    /// What it is, such as `bi: without 3,5`.
    pub what: String,
    /// Whether an earlier run has finished it.
    pub finished: bool,
    /// Seconds that it will take; 0 where it is finished.
    pub seconds: f64,
}

impl PlannedStage {
    /// How many cells are finished.
    pub fn finished(&self) -> usize {
        self.cells.iter().filter(|cell| cell.finished).count()
    }

    /// Seconds that the missing cells will take.
    pub fn seconds(&self) -> f64 {
        self.cells.iter().map(|cell| cell.seconds).sum()
    }
}

/// What the study of `recipe` in `directory` would compute.
///
/// # Errors
/// As [`run`](crate::run), before its first cell.
pub fn plan(
    model: &StudyModel,
    recipe: &Recipe,
    inputs: &StudyInputs,
    directory: &Path,
    progress: &dyn Progress,
) -> Result<StudyPlan> {
    let prepared = Prepared::new(model, recipe, inputs)?;
    let store = Store::read_only(directory);
    let mut study = prepared.study(&store, "", &NoProgress)?;
    let rates = rates::measure(&prepared, &mut study, progress)?;
    let (engine, card) = (&prepared.model.text.engine, &prepared.model.card);
    let config = &engine.model().config;
    let mut plan = StudyPlan {
        measuring: rates.measuring,
        processor: processor(),
        threads: engine.threads(),
        memory: memory::needs_of_study(config, card.parameters * bytes_of(&card.dtype), engine.threads(), heal(recipe)),
        ..StudyPlan::default()
    };
    stages::walk(&prepared, study, &rates, &mut plan)?;
    plan.seconds = plan.stages.iter().map(PlannedStage::seconds).sum();
    Ok(plan)
}

/// How cuts are healed, where any is.
fn heal(recipe: &Recipe) -> Option<&lopper_heal::HealRecipe> {
    (!recipe.heal.depths.is_empty()).then_some(&recipe.heal.recipe)
}
