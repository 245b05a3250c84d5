//! Refusing a study file that makes no sense, before anything is computed.

use std::fmt::Debug;

use lopper_infer::Sampling;
use lopper_prune::criteria::{self, Request};
use lopper_record::{Error, Fault, LayerNumbering, Result};

use crate::cuts::{Cuts, Kind};
use crate::heal_seeds::MOST_SEEDS;
use crate::healing_data::GENERAL_INSTRUCTIONS;
use crate::recipe::{AnswerSampling, Shots, TASKS};
use crate::{Heal, Recipe};

/// Most items or prompts of a kind; more would not fit into memory rather than be of use.
const MOST: usize = 1_000_000;
/// Most answers to an item.
const MOST_SAMPLES: usize = 1000;
pub(crate) const PRINT: &str = "`lopper study --print-recipe` prints every key with its default";

type Checked = std::result::Result<(), Fault>;

impl Recipe {
    /// Refuses values that make no sense whatever the model.
    pub fn check(&self) -> Checked {
        self.check_numbers()?;
        self.cuts.check(&self.heal.depths)?;
        self.check_tasks()?;
        self.check_sampling()?;
        if let Some(t) = self.budget.thresholds.iter().find(|t| !(**t > 0.0 && **t <= 1.0)) {
            return Err(refuse("`budget.thresholds` holds no retention", "numbers above 0 and at most 1", t)
                .hint("0.9 keeps 90 % of the uncut model's score"));
        }
        let markers = &self.reasoning.markers;
        if !markers.is_empty() && (markers.len() != 2 || markers.iter().any(|marker| marker.trim().is_empty())) {
            return Err(refuse("`reasoning.markers` is no pair of texts", "two texts, or none", markers)
                .hint("[\"<think>\", \"</think>\"] for most models"));
        }
        let gap = self.sentinels.gap;
        if !(gap > 0.0 && gap <= 1.0) {
            return Err(refuse("`sentinels.gap` is no share", "above 0 and at most 1", gap)
                .hint("0.2 warns when classification keeps 20 points more than generation"));
        }
        if !self.heal.seeds.is_valid() {
            let expected = format!("a number from 1 to {MOST_SEEDS}, or a list of as many different seeds");
            return Err(refuse("`heal.seeds` names no seeds", &expected, &self.heal.seeds)
                .hint("1 heals every depth once; 3 shows how much a seed changes"));
        }
        if self.heal.depths.is_empty() {
            return Ok(());
        }
        let sampling =
            Sampling::Sample { temperature: self.heal.temperature, top_k: None, top_p: Some(self.heal.top_p) };
        sampling.check().and_then(|()| self.heal.recipe.check()).map_err(into_fault)
    }

    fn check_numbers(&self) -> Checked {
        let items = &self.items;
        let numbers = [
            ("items.report", items.report, 2),
            ("items.select", items.select, 2),
            ("items.calibration", items.calibration, 1),
            ("heal.prompts", self.heal.prompts, 1),
            ("heal.samples", self.heal.samples, 1),
        ];
        match numbers.into_iter().find(|(_, value, least)| value < least || *value > MOST) {
            Some((key, value, least)) => {
                Err(refuse(&format!("`{key}` is out of range"), &format!("from {least} to {MOST}"), value).hint(PRINT))
            }
            None => Ok(()),
        }
    }

    fn check_tasks(&self) -> Checked {
        let tasks = self.resolved_tasks()?;
        self.cuts.objective.tasks(&tasks)?;
        if let Some(goal) = self.budget.parsed_goal()? {
            goal.check(&tasks)?;
        }
        if let Shots::Each(numbers) = &self.rows.shots
            && let Some(word) = numbers.keys().find(|word| !tasks.members.iter().any(|member| member.is_named(word)))
        {
            let expected = format!("tasks and groups among {}", tasks.names().join(", "));
            return Err(refuse(
                &format!("`rows.shots` names `{word}`, which is no task of the study"),
                &expected,
                word,
            )
            .hint("tasks that are not named have the number of their own file"));
        }
        if self.heal.data.trim().is_empty() {
            return Err(refuse("`heal.data` is empty", "`tasks`, or a file of prompts", &self.heal.data).hint(PRINT));
        }
        let Heal { split, config, column, answer_column, .. } = &self.heal;
        let of_rows = [("split", split), ("config", config), ("column", column), ("answer_column", answer_column)];
        if self.heal.data == TASKS
            && let Some((key, given)) = of_rows.iter().find(|(_, given)| !given.is_empty())
        {
            let message = format!("`heal.{key}` belongs to rows of files and data sets");
            return Err(refuse(&message, "`heal.data` with a file or a data set", given).hint(format!(
                "leave `heal.{key}` out, or name a data set with `heal.data`, such as `{GENERAL_INSTRUCTIONS}`"
            )));
        }
        if column.is_empty() && !answer_column.is_empty() {
            let message = "`heal.answer_column` needs the column of the prompts";
            return Err(refuse(message, "`heal.column` as well", answer_column)
                .hint("leave both out where the columns are known by their names"));
        }
        Ok(())
    }

    fn check_sampling(&self) -> Checked {
        let AnswerSampling { temperature, top_p, samples, .. } = &self.sampling;
        self.sampling.sampling().check().map_err(into_fault)?;
        if !(*top_p > 0.0 && *top_p <= 1.0) {
            return Err(refuse("`sampling.top_p` is out of range", "above 0 and at most 1", top_p).hint(PRINT));
        }
        if *samples == 0 || *samples > MOST_SAMPLES {
            let expected = format!("from 1 to {MOST_SAMPLES}");
            return Err(refuse("`sampling.samples` is out of range", &expected, samples).hint(PRINT));
        }
        if *samples == 1 {
            return Ok(());
        }
        if *temperature == 0.0 {
            let expected = "`sampling.temperature` above 0, or one sample";
            return Err(refuse("`sampling.samples` are all the same", expected, samples)
                .hint("the paper draws at temperature 0.9 with top_k 50"));
        }
        let tasks = self.resolved_tasks()?;
        match tasks.members.iter().find(|member| member.entry.rows.is_none()) {
            Some(member) => {
                let message = format!("{} takes one answer to each item", member.entry.name);
                Err(refuse(&message, "`sampling.samples = 1`, or tasks over rows of data sets only", samples)
                    .hint("raise `items.report` instead: other items say more than other answers to the same"))
            }
            None => Ok(()),
        }
    }

    /// Refuses cuts that a model with these layers does not allow; plans are checked where they are read
    /// ([`Strategies::resolve`](crate::strategy::Strategies::resolve)).
    ///
    /// # Errors
    /// A [`Fault`] for a depth that leaves no layer, or that a strategy cannot reach.
    pub fn check_model(&self, numbering: &LayerNumbering) -> Result<()> {
        let Cuts { depths, keep, .. } = &self.cuts;
        let num_layers = numbering.present().len();
        let deepest = depths.last().copied().unwrap_or(0);
        let hint = format!("the model has {num_layers} layers: change `cuts.depths`");
        if deepest >= num_layers {
            let expected = format!("at most {} of the model's {num_layers} layers", num_layers.saturating_sub(1));
            return Err(refuse(&format!("{deepest} layers cannot be cut"), &expected, deepest).hint(hint).into());
        }
        if let Some(layer) = keep.iter().find(|layer| !numbering.present().contains(*layer)) {
            let expected = format!("layers among {}", numbering.present());
            let fault = refuse("`cuts.keep` names a layer that the model does not have", &expected, layer);
            return Err(fault.hint("layers are counted from 0, in the original model's numbering").into());
        }
        for (name, kind) in self.cuts.named()? {
            match kind {
                Kind::Ablation | Kind::Search(_) => {
                    let free = num_layers - keep.len();
                    if deepest > free {
                        let message = format!("`{name}` cannot cut {deepest} layers and keep {keep}");
                        let expected = format!("at most the {free} layers that `cuts.keep` leaves");
                        return Err(refuse(&message, &expected, deepest).hint(hint).into());
                    }
                }
                // Those that choose without a measurement can be tried; the others reach every depth.
                Kind::Criterion(criterion, _) if !criterion.needs_scores => {
                    let request = Request { num_layers, remove: deepest, scores: None, seed: self.seed };
                    criteria::select(criterion, &request)?;
                }
                Kind::Criterion(..) | Kind::Given(_) => {}
            }
        }
        Ok(())
    }
}

fn refuse(message: &str, expected: &str, got: impl Debug) -> Fault {
    Fault::new(message).expected(expected).got(format!("{got:?}"))
}

fn into_fault(error: Error) -> Fault {
    error.into_fault().unwrap_or_else(|error| Fault::new(error.to_string()))
}
