//! `--thinking-budgets`: scores of the uncut and the cut model against the tokens that they may think for. What a cut
//! takes first is the gain from thinking longer (arXiv 2510.22228).

use std::collections::BTreeMap;

use lopper_infer::TextModel;
use lopper_measure::{Execution, compare_all, evaluate};
use lopper_record::{Fault, LayerSet, LayerSlot, Result, Score};
use lopper_tasks::{GenerationPolicy, ItemSelection, Resources, Suite, TaskOutcome, ThoughtCounts};
use serde::Serialize;

use super::{interval, percent};
use crate::args::BudgetArg;
use crate::context::Context;
use crate::table;

/// What is evaluated at every budget.
pub struct Sweep<'a> {
    pub text: &'a TextModel,
    pub tasks: &'a [String],
    pub selection: &'a ItemSelection,
    pub policy: &'a GenerationPolicy,
    pub resources: &'a Resources,
    /// The models by name, the uncut one first.
    pub models: &'a [(&'static str, LayerSet<LayerSlot>)],
}

/// All models at one budget.
#[derive(Serialize)]
pub struct BudgetPoint {
    /// Most tokens of reasoning; none: no limit.
    max_thinking_tokens: Option<usize>,
    /// By name.
    models: BTreeMap<&'static str, BTreeMap<String, TaskPoint>>,
    /// Of the cut model against the uncut one at this budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    group_mean_retention: Option<f64>,
}

/// A model on one task at one budget.
#[derive(Serialize)]
struct TaskPoint {
    metric: String,
    score: Score,
    /// Nothing where the model marked nothing as reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<ThoughtCounts>,
}

impl Sweep<'_> {
    /// Evaluates every budget. All are prepared before the first is run, so that a budget without room for an answer is
    /// refused at once.
    pub fn run(&self, context: &Context, budgets: &[BudgetArg]) -> Result<Vec<BudgetPoint>> {
        let mut suites = Vec::with_capacity(budgets.len());
        for budget in budgets {
            let policy = GenerationPolicy { max_thinking_tokens: budget.0, ..self.policy.clone() };
            let suite = Suite::prepare(self.text, self.tasks, self.selection, &policy, self.resources)?;
            if suite.requests().generations.is_empty() || !suite.requests().choices.is_empty() {
                return Err(Fault::new("a thinking budget means nothing where choices are scored")
                    .expected("tasks whose answers are generated")
                    .got(self.tasks.join(", "))
                    .hint("`lopper tasks` lists which tasks are generative")
                    .into());
            }
            suites.push((budget.0, suite));
        }
        // Answers under one budget are drafts under the next.
        let execution = Execution::default();
        let candidates: Vec<_> = self.models.iter().map(|(_, layers)| layers.clone()).collect();
        let mut points = Vec::with_capacity(suites.len());
        for (max_thinking_tokens, suite) in suites {
            let all = evaluate(self.text, &suite, &candidates, &execution, &context.progress)?.outcomes;
            let comparison = match all.as_slice() {
                [base, cut] => Some(compare_all(base, cut, self.selection.seed)?),
                _ => None,
            };
            let models = self.models.iter().zip(&all).map(|((name, _), outcomes)| (*name, task_points(outcomes)));
            points.push(BudgetPoint {
                max_thinking_tokens,
                models: models.collect(),
                group_mean_retention: comparison.and_then(|comparison| comparison.group_mean_retention),
            });
        }
        Ok(points)
    }
}

fn task_points(outcomes: &[TaskOutcome]) -> BTreeMap<String, TaskPoint> {
    let point = |outcome: &TaskOutcome| TaskPoint {
        metric: outcome.primary.clone(),
        score: *outcome.primary_score(),
        reasoning: outcome.thoughts(),
    };
    outcomes.iter().map(|outcome| (outcome.task.clone(), point(outcome))).collect()
}

/// A row for each task, model and budget.
pub fn human(points: &[BudgetPoint]) -> String {
    let mut rows: Vec<[String; 8]> = Vec::new();
    let tasks: Vec<&String> =
        points.iter().take(1).flat_map(|point| point.models.values().next()).flatten().map(|(task, _)| task).collect();
    for task in tasks {
        // The uncut model's name comes last in the alphabet, and first for a reader.
        let names: Vec<&str> = points.iter().take(1).flat_map(|point| point.models.keys().rev()).copied().collect();
        for name in names {
            for point in points {
                let Some(own) = point.models.get(name).and_then(|tasks| tasks.get(task)) else { continue };
                rows.push(row(task, name, point.max_thinking_tokens, own));
            }
        }
    }
    let header = ["task", "model", "budget", "thinking tokens", "unfinished", "score", "95 % interval", "n"];
    table::render(header, &rows)
}

fn row(task: &str, model: &str, budget: Option<usize>, point: &TaskPoint) -> [String; 8] {
    let count = |n: usize| table::count(n as u64);
    let TaskPoint { score, reasoning, .. } = point;
    let tokens = reasoning.as_ref().and_then(|counts| counts.mean_tokens);
    [
        task.to_owned(),
        model.to_owned(),
        budget.map_or_else(|| "none".to_owned(), count),
        tokens.map_or_else(|| "0".to_owned(), |tokens| format!("{tokens:.1}")),
        count(reasoning.as_ref().map_or(0, |counts| counts.unfinished)),
        percent(score.value),
        interval(score.ci95),
        count(score.n),
    ]
}
