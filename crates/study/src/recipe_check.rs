//! Reading a study file, and refusing one that makes no sense before anything is computed.

use std::fmt::Debug;
use std::path::Path;

use lopper_heal::HealRecipe;
use lopper_infer::Sampling;
use lopper_prune::criteria::{self, Request};
use lopper_record::{Error, Fault, LayerNumbering, Result};

use crate::heal_seeds::MOST_SEEDS;
use crate::healing_data::GENERAL_INSTRUCTIONS;
use crate::recipe::{POCKET, TASKS};
use crate::strategy::ABLATION;
use crate::{Cuts, Heal, Recipe};

/// Largest study file that is read.
const MAX_BYTES: u64 = 1 << 20;
/// Most items or prompts of a kind; more would not fit into memory rather than be of use.
const MOST: usize = 1_000_000;
const PRINT: &str = "`lopper study --print-recipe` prints every key with its default";

/// The finetuning recipe of a study file that could be read. What it leaves out is `default`'s, also
/// where it names some keys: serde's own defaults would then be the paper's.
fn heal_recipe(text: &str, default: HealRecipe) -> anyhow::Result<HealRecipe> {
    let mut whole = toml::Table::try_from(default)?;
    let file: toml::Table = toml::from_str(text)?;
    if let Some(given) = file.get("heal").and_then(|heal| heal.get("recipe")).and_then(toml::Value::as_table) {
        overlay(&mut whole, given);
    }
    Ok(whole.try_into()?)
}

/// Whether a study file that could be read names a key of a table.
fn names_key(text: &str, table: &str, key: &str) -> anyhow::Result<bool> {
    let file: toml::Table = toml::from_str(text)?;
    Ok(file.get(table).and_then(toml::Value::as_table).is_some_and(|table| table.contains_key(key)))
}

/// Replaces the values of `under` by those of `over`, table by table.
fn overlay(under: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (under.get_mut(key).and_then(toml::Value::as_table_mut), value.as_table()) {
            (Some(under), Some(over)) => overlay(under, over),
            _ => drop(under.insert(key.clone(), value.clone())),
        }
    }
}

type Checked = std::result::Result<(), Fault>;

impl Recipe {
    /// Reads a study file.
    ///
    /// # Errors
    /// A [`Fault`] for a file that cannot be read, a key that is not known, or a value that makes
    /// no sense.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_for(path, None)
    }

    /// Reads a study file for a model of so many `parameters`: what the file leaves out of the finetuning recipe
    /// follows its size, as `lopper heal` does, and it is healed on [`GENERAL_INSTRUCTIONS`] unless the file says
    /// otherwise. The pocket model has its own recipe, and its tasks' prompts.
    ///
    /// # Errors
    /// See [`Recipe::read`].
    pub fn read_for(path: &Path, parameters: Option<usize>) -> Result<Self> {
        let unreadable = |got: String| {
            let fault = Fault::new("the study file cannot be read").file(path).expected("a TOML file of at most 1 MiB");
            fault.got(got).hint("check the path")
        };
        let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(unreadable(format!("{size} bytes")).into());
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        let mut recipe: Self = toml::from_str(&text).map_err(|error| {
            Fault::new("the study file is not as it should be")
                .file(path)
                .got(error.to_string().trim_end().to_owned())
                .hint(PRINT)
        })?;
        let method = recipe.heal.recipe.method;
        let default = match parameters.filter(|_| recipe.model != POCKET) {
            Some(parameters) => HealRecipe::for_size(parameters, method),
            None => HealRecipe::for_pocket(method),
        };
        recipe.heal.recipe = heal_recipe(&text, default)?;
        let general = parameters.is_some() && recipe.model != POCKET && !recipe.heal.depths.is_empty();
        if general && !names_key(&text, "heal", "data")? {
            recipe.heal.data = GENERAL_INSTRUCTIONS.to_owned();
        }
        recipe.check().map_err(|fault| fault.file(path))?;
        Ok(recipe)
    }

    /// Refuses values that make no sense whatever the model.
    pub fn check(&self) -> Checked {
        self.check_numbers()?;
        self.check_cuts()?;
        self.check_tasks()?;
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
        ];
        match numbers.into_iter().find(|(_, value, least)| value < least || *value > MOST) {
            Some((key, value, least)) => {
                Err(refuse(&format!("`{key}` is out of range"), &format!("from {least} to {MOST}"), value).hint(PRINT))
            }
            None => Ok(()),
        }
    }

    fn check_cuts(&self) -> Checked {
        let Cuts { strategies, depths, main, .. } = &self.cuts;
        for (key, list) in [("cuts.depths", depths), ("heal.depths", &self.heal.depths)] {
            if list.contains(&0) || !list.is_sorted_by(|a, b| a < b) {
                let expected = "ascending numbers of layers, each at least 1";
                return Err(
                    refuse(&format!("`{key}` is not a list of depths"), expected, list).hint("such as [1, 2, 4]")
                );
            }
        }
        if strategies.is_empty() || depths.is_empty() {
            return Err(Fault::new("the study cuts nothing")
                .expected("at least one strategy and one depth")
                .got(format!("`cuts.strategies` {strategies:?} and `cuts.depths` {depths:?}"))
                .hint("leave a key out to take its default"));
        }
        if let Some(depth) = self.heal.depths.iter().find(|d| !depths.contains(d)) {
            return Err(refuse(
                "`heal.depths` names a depth that is not cut",
                &format!("depths from {depths:?}"),
                depth,
            )
            .hint("add it to `cuts.depths`: what healing brings back is told against the cut"));
        }
        for (index, strategy) in strategies.iter().enumerate() {
            if strategy != ABLATION {
                criteria::criterion(strategy).map_err(into_fault)?;
            }
            if strategies[..index].contains(strategy) {
                return Err(twice("cuts.strategies", strategy));
            }
        }
        if main != "auto" && !strategies.contains(main) {
            let expected = format!("`auto` or one of {strategies:?}");
            return Err(refuse("`cuts.main` is not one of the strategies", &expected, main)
                .hint("`auto` takes the one that keeps most on the selection items"));
        }
        Ok(())
    }

    fn check_tasks(&self) -> Checked {
        self.resolved_tasks()?;
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

    /// Refuses cuts that a model with these layers does not allow.
    ///
    /// # Errors
    /// A [`Fault`] for a depth that leaves no layer, or that a strategy cannot reach.
    pub fn check_model(&self, numbering: &LayerNumbering) -> Result<()> {
        let Cuts { strategies, depths, keep, .. } = &self.cuts;
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
        for strategy in strategies {
            if strategy == ABLATION {
                let free = num_layers - keep.len();
                if deepest > free {
                    let message = format!("`{ABLATION}` cannot cut {deepest} layers and keep {keep}");
                    let expected = format!("at most the {free} layers that `cuts.keep` leaves");
                    return Err(refuse(&message, &expected, deepest).hint(hint).into());
                }
                continue;
            }
            // Those that choose without a measurement can be tried; the others reach every depth.
            let criterion = criteria::criterion(strategy)?;
            if !criterion.needs_scores {
                criteria::select(criterion, &Request { num_layers, remove: deepest, scores: None, seed: self.seed })?;
            }
        }
        Ok(())
    }
}

fn refuse(message: &str, expected: &str, got: impl Debug) -> Fault {
    Fault::new(message).expected(expected).got(format!("{got:?}"))
}

fn twice(key: &str, name: &str) -> Fault {
    refuse(&format!("`{key}` names `{name}` twice"), "each name once", name).hint("leave one out")
}

fn into_fault(error: Error) -> Fault {
    error.into_fault().unwrap_or_else(|error| Fault::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Recipe {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Recipe::read(file.path()).unwrap()
    }

    #[test]
    fn what_a_file_leaves_out_is_the_pocket_studys() {
        assert_eq!(read(""), Recipe::default());
        assert_eq!(read(&Recipe::default().to_toml().unwrap()), Recipe::default());
        let mut expected = Recipe::default();
        expected.heal.recipe.epochs = 3;
        expected.heal.recipe.lora.r = 8;
        assert_eq!(read("[heal.recipe]\nepochs = 3\n[heal.recipe.lora]\nr = 8\n"), expected);
        expected = Recipe::default();
        expected.heal.recipe = HealRecipe::for_pocket(lopper_heal::Method::Full);
        assert_eq!(read("heal.recipe.method = \"full\""), expected);
    }
}
