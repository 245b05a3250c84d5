//! A suite of tasks as what a search evaluates candidates on.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use lopper_infer::TextModel;
use lopper_measure::{Cost, Execution, ItemScores, evaluate};
use lopper_record::{LayerPosition, LayerSet, Progress, Result};
use lopper_tasks::{Group, Suite, TaskOutcome};

use super::Evaluator;

/// Evaluates cuts of one model on the items of a suite.
pub struct SuiteEvaluator<'a> {
    text: &'a TextModel,
    suite: &'a Suite,
    execution: Execution,
    cost: Mutex<Cost>,
}

impl<'a> SuiteEvaluator<'a> {
    /// Candidates of `text`'s model on the items of `suite`.
    pub fn new(text: &'a TextModel, suite: &'a Suite, execution: Execution) -> Self {
        Self { text, suite, execution, cost: Mutex::default() }
    }

    /// The work of all evaluations so far.
    pub fn cost(&self) -> Cost {
        *self.cost_so_far()
    }

    fn cost_so_far(&self) -> MutexGuard<'_, Cost> {
        self.cost.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Evaluator for SuiteEvaluator<'_> {
    fn tasks(&self) -> Vec<(Group, usize)> {
        self.suite.groups().zip(self.suite.items()).collect()
    }

    fn evaluate(
        &self,
        candidates: &[LayerSet<LayerPosition>],
        range: Range<usize>,
        progress: &dyn Progress,
    ) -> Result<Vec<ItemScores>> {
        let slots: Vec<_> = candidates.iter().map(LayerSet::slots).collect();
        let evaluation = evaluate(self.text, &self.suite.subset(range), &slots, &self.execution, progress)?;
        self.cost_so_far().add(&evaluation.cost);
        let scores = |tasks: &Vec<TaskOutcome>| tasks.iter().map(TaskOutcome::scores).collect();
        Ok(evaluation.outcomes.iter().map(scores).collect())
    }
}
