//! Reading a study: a file, a preset, or a file whose keys go before a preset's.

use std::path::{Path, PathBuf};

use lopper_heal::HealRecipe;
use lopper_record::study::ModelCard;
use lopper_record::{Context, Fault, Result};

use crate::Recipe;
use crate::presets::Preset;
use crate::recipe::POCKET;
use crate::recipe_check::PRINT;

/// Largest study file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Where a study's recipe comes from; nothing at all is the pocket study.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecipeSource {
    /// The study file.
    pub file: Option<PathBuf>,
    /// The preset, in place of the one that the file names.
    pub preset: Option<String>,
    /// The model, in place of the file's and the preset's.
    pub model: Option<String>,
}

impl RecipeSource {
    /// Reads it for the model that `card` describes: what neither file nor preset says of finetuning follows its size,
    /// as `lopper heal` does, and a preset's depths follow its layers. The pocket model's finetuning has its own
    /// defaults, and so has what is read for no model.
    ///
    /// # Errors
    /// A [`Fault`] for a file that cannot be read, a key that is not known, a preset that is not there, or a value that
    /// makes no sense.
    pub fn read(&self, card: Option<&ModelCard>) -> Result<Recipe> {
        let in_file = |fault: Fault| match &self.file {
            Some(path) => fault.file(path),
            None => fault,
        };
        let text = self.file.as_deref().map(read_text).transpose()?.unwrap_or_default();
        let malformed = |error: toml::de::Error| {
            let fault = Fault::new("the study file is not as it should be");
            in_file(fault.got(error.to_string().trim_end().to_owned()).hint(PRINT))
        };
        // By itself first, so that a fault of the file names its line.
        let own: Recipe = toml::from_str(&text).map_err(malformed)?;
        let mut whole: toml::Table = toml::from_str(&text).map_err(malformed)?;
        let preset = self.preset.as_ref().or(own.preset.as_ref());
        if let Some(name) = preset {
            whole = over_preset(Preset::named(name).map_err(in_file)?, &whole, card)?;
        }
        if let Some(model) = &self.model {
            whole.insert("model".to_owned(), model.as_str().into());
        }
        let mut recipe: Recipe = whole.clone().try_into().context("the study file cannot be put over its preset")?;
        let method = recipe.heal.recipe.method;
        let default = match (card, preset) {
            _ if recipe.model == POCKET => HealRecipe::for_pocket(method),
            (Some(card), _) => HealRecipe::for_size(card.parameters as usize, method),
            (None, Some(_)) => HealRecipe::paper(method),
            (None, None) => HealRecipe::for_pocket(method),
        };
        recipe.heal.recipe = heal_recipe(&whole, default)?;
        recipe.check().map_err(in_file)?;
        Ok(recipe)
    }
}

impl Recipe {
    /// Reads a study file.
    ///
    /// # Errors
    /// See [`RecipeSource::read`].
    pub fn read(path: &Path) -> Result<Self> {
        RecipeSource { file: Some(path.to_owned()), ..RecipeSource::default() }.read(None)
    }
}

fn read_text(path: &Path) -> Result<String> {
    let unreadable = |got: String| {
        let fault = Fault::new("the study file cannot be read").file(path).expected("a TOML file of at most 1 MiB");
        fault.got(got).hint("check the path")
    };
    let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(unreadable(format!("{size} bytes")).into());
    }
    std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()).into())
}

/// The preset with the keys of a file over it. Depths that the preset would heal and the file does not cut are left
/// out.
fn over_preset(preset: &Preset, file: &toml::Table, card: Option<&ModelCard>) -> anyhow::Result<toml::Table> {
    let mut whole = preset.table(card)?;
    let key = |table: &str, key: &str| file.get(table).and_then(|table| table.get(key));
    if let (Some(depths), None) = (key("cuts", "depths").and_then(toml::Value::as_array), key("heal", "depths")) {
        let heal = whole.get_mut("heal").and_then(|heal| heal.get_mut("depths"));
        if let Some(healed) = heal.and_then(toml::Value::as_array_mut) {
            healed.retain(|depth| depths.contains(depth));
        }
    }
    overlay(&mut whole, file);
    whole.insert("preset".to_owned(), preset.name.into());
    Ok(whole)
}

/// The finetuning recipe of a study file that could be read. What it leaves out is `default`'s, also
/// where it names some keys: serde's own defaults would then be the paper's.
fn heal_recipe(file: &toml::Table, default: HealRecipe) -> anyhow::Result<HealRecipe> {
    let mut whole = toml::Table::try_from(default)?;
    if let Some(given) = file.get("heal").and_then(|heal| heal.get("recipe")).and_then(toml::Value::as_table) {
        overlay(&mut whole, given);
    }
    Ok(whole.try_into()?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::PRESETS;
    use lopper_record::LayerNumbering;

    fn source(text: &str) -> (tempfile::NamedTempFile, RecipeSource) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_owned();
        (file, RecipeSource { file: Some(path), ..RecipeSource::default() })
    }

    fn read(text: &str) -> Recipe {
        let (_file, source) = source(text);
        source.read(None).unwrap()
    }

    fn card(num_layers: usize) -> ModelCard {
        ModelCard { num_layers, parameters: 7_000_000_000, family: "llama".into(), ..ModelCard::default() }
    }

    #[test]
    fn what_a_file_leaves_out_is_the_pocket_studys() {
        assert_eq!(read(""), Recipe::default());
        assert_eq!(RecipeSource::default().read(None).unwrap(), Recipe::default());
        assert_eq!(read(&Recipe::default().to_toml().unwrap()), Recipe::default());
        let mut expected = Recipe::default();
        expected.heal.recipe.epochs = 3;
        expected.heal.recipe.lora.r = 8;
        assert_eq!(read("[heal.recipe]\nepochs = 3\n[heal.recipe.lora]\nr = 8\n"), expected);
        expected = Recipe::default();
        expected.heal.recipe = HealRecipe::for_pocket(lopper_heal::Method::Full);
        assert_eq!(read("heal.recipe.method = \"full\""), expected);
    }

    #[test]
    fn every_preset_is_a_study_and_reads_back_as_printed() {
        for preset in PRESETS {
            for layers in [24, 28, 30, 32, 36] {
                let card = card(layers);
                let source = RecipeSource { preset: Some(preset.name.into()), ..RecipeSource::default() };
                let recipe = source.read(Some(&card)).unwrap();
                recipe.check_model(&LayerNumbering::uncut(layers)).unwrap();
                assert_eq!(recipe.preset.as_deref(), Some(preset.name));
                assert!(preset.models.contains(&recipe.model.as_str()), "{}", recipe.model);
                assert!(recipe.cuts.depths.iter().all(|depth| *depth <= layers / 4), "{:?}", recipe.cuts.depths);
                assert!(!preset.description.is_empty());
                let (_file, printed) = self::source(&recipe.to_toml().unwrap());
                assert_eq!(printed.read(Some(&card)).unwrap(), recipe, "{}", preset.name);
            }
        }
    }

    #[test]
    fn keys_of_the_file_go_before_the_presets() {
        let text = "preset = \"paper\"\nmodel = \"here\"\n[items]\nreport = 30\n[rows]\nshots = { mmlu = 1 }\n\
                    [cuts]\ndepths = [2, 3, 4]\n[heal.recipe]\nepochs = 2\n";
        let (_file, mut source) = source(text);
        let recipe = source.read(Some(&card(32))).unwrap();
        assert_eq!((recipe.model.as_str(), recipe.items.report, recipe.items.select), ("here", 30, 100));
        assert_eq!((recipe.cuts.depths, recipe.heal.depths), (vec![2, 3, 4], vec![2, 4]));
        let tasks = recipe.tasks.clone();
        assert_eq!(tasks.classification, ["paper_classification"]);
        let paper = HealRecipe { epochs: 2, ..HealRecipe::paper(lopper_heal::Method::Lora) };
        assert_eq!(recipe.heal.recipe, paper);
        let crate::Shots::Each(shots) = recipe.rows.shots else { panic!("{:?}", recipe.rows.shots) };
        assert_eq!((shots["mmlu"], shots["paper_classification"]), (1, 5));
        // The command line goes before both; what the file says must fit the preset's tasks.
        source.preset = Some("quick".into());
        assert!(source.read(None).unwrap_err().into_fault().unwrap().message.contains("rows.shots"));
        std::fs::write(source.file.as_ref().unwrap(), text.replace("shots = { mmlu = 1 }", "")).unwrap();
        (source.preset, source.model) = (Some("quick".into()), Some("there".into()));
        let recipe = source.read(None).unwrap();
        assert_eq!((recipe.model.as_str(), recipe.items.select, recipe.items.report), ("there", 8, 30));
    }

    #[test]
    fn a_preset_that_is_not_there_is_named() {
        let (_file, source) = source("preset = \"slow\"");
        let fault = source.read(None).unwrap_err().into_fault().unwrap();
        assert!(fault.got.as_deref() == Some("`slow`") && fault.file.is_some() && fault.hint.is_some(), "{fault}");
    }
}
