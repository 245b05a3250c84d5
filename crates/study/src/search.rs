//! Candidates evaluated on tasks, for ablations and searches.

use std::ops::Range;
use std::sync::Mutex;

use anyhow::Result;
use lopper_eval::{Cost, Drafts, EvalProgress, ManyOptions, Suite};
use lopper_infer::TextModel;
use lopper_prune::search::{Evaluator, ItemScores};

/// A suite of tasks as what a search evaluates candidates by.
pub struct SuiteEvaluator<'a> {
    text: &'a TextModel,
    suite: &'a Suite,
    options: ManyOptions,
    observer: &'a (dyn Fn(EvalProgress) + Sync),
    cost: Mutex<Cost>,
    drafts: Drafts,
}

impl<'a> SuiteEvaluator<'a> {
    /// Candidates of `text`'s model on the items of `suite`.
    pub fn new(
        text: &'a TextModel,
        suite: &'a Suite,
        options: ManyOptions,
        observer: &'a (dyn Fn(EvalProgress) + Sync),
    ) -> Self {
        Self { text, suite, options, observer, cost: Mutex::default(), drafts: Drafts::default() }
    }

    /// What all evaluations so far took.
    pub fn cost(&self) -> Cost {
        *self.cost.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Evaluator for SuiteEvaluator<'_> {
    fn items(&self) -> Vec<usize> {
        self.suite.items().collect()
    }

    fn evaluate(&self, candidates: &[Vec<usize>], range: Range<usize>) -> Result<Vec<ItemScores>> {
        let suite = self.suite.subset(range);
        let (outcomes, cost) = suite.run_many(self.text, candidates, &self.options, &self.drafts, self.observer)?;
        self.cost.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).add(&cost);
        Ok(outcomes.iter().map(|tasks| tasks.iter().map(lopper_eval::TaskOutcome::scores).collect()).collect())
    }
}
