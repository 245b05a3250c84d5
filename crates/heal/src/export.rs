//! Writes a training as a recipe for another program: TRL, axolotl or torchtune.
//!
//! A recipe is a directory with the examples in tokens (`train.jsonl`, and `held_out.jsonl` where some are held out),
//! the program's own configuration, and a README with the commands and with what differs. The examples are Lopper's:
//! token ids as the chat template gives them or as they were generated, and a label of −100 where a token is not
//! learned, in the order of the first epoch. So no other template or mask has a part in it. What a program cannot
//! express is refused ([`ExportFormat::check`]).
//!
//! The keys and classes are those of the versions in [`ExportFormat::version`]; how they were checked is in
//! `design/healing.md`.

mod axolotl;
mod readme;
mod settings;
mod torchtune;
mod trl;

use crate::evaluation::Evaluation;
use crate::recipe::{HealRecipe, Method};
use crate::sft::first_epoch;
use crate::trainer::Document;
use lopper_model::Config;
use lopper_record::{Context, Fault, LayerPosition, LayerSet, Result};
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

pub use settings::Step;

/// The examples to train on, in a recipe.
const TRAIN: &str = "train.jsonl";
/// Those that the loss is measured on.
const HELD_OUT: &str = "held_out.jsonl";
/// The label of a token that is not learned, as in PyTorch's cross-entropy.
const IGNORED: i64 = -100;

/// A program that trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Hugging Face's TRL.
    Trl,
    /// axolotl.
    Axolotl,
    /// torchtune.
    Torchtune,
}

impl ExportFormat {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trl => "trl",
            Self::Axolotl => "axolotl",
            Self::Torchtune => "torchtune",
        }
    }

    /// The versions that recipes were checked with.
    pub fn version(self) -> &'static str {
        match self {
            Self::Trl => "TRL 1.16.0, transformers 5.24.0, PEFT 0.21.2, PyTorch 2.15.0",
            Self::Axolotl => "axolotl 0.19.0",
            Self::Torchtune => "torchtune 0.6.1, torchao 0.9.0",
        }
    }

    /// Refuses what the program cannot express of a training of the layers `trained` of a model.
    ///
    /// # Errors
    /// A [`Fault`] that names the setting.
    pub fn check(self, recipe: &HealRecipe, model: &Config, trained: &LayerSet<LayerPosition>) -> Result<()> {
        let refused = |setting: &str, expected: &str| -> Result<()> {
            Err(Fault::new(format!("a recipe for {} has no {setting}", self.name()))
                .expected(expected)
                .got(setting)
                .hint("leave it out, or train here, without --export")
                .into())
        };
        if recipe.distillation.is_some() {
            return refused("distillation from the uncut model", "finetuning on the answers' tokens");
        }
        if recipe.stochastic_rounding {
            return refused("stochastic rounding", "weights in 32 bits while they are trained");
        }
        let some_layers = trained.len() < model.num_hidden_layers;
        if recipe.method == Method::Full && some_layers {
            return refused("training of some layers' own weights", "all layers, or an adapter");
        }
        match self {
            Self::Trl => Ok(()),
            Self::Axolotl => axolotl::check(recipe),
            Self::Torchtune => torchtune::check(recipe, model, some_layers),
        }
    }
}

/// The model that a recipe trains.
#[derive(Debug, Clone)]
pub struct ExportedModel {
    /// Where the program finds it: an absolute path, an id of the hub, or a path in the recipe's directory.
    pub path: String,
    /// The commit of a model of the hub.
    pub revision: Option<String>,
    /// The command that writes it there, where it is not there yet.
    pub made_by: Option<String>,
    /// Its configuration.
    pub config: Config,
    /// Whether its weights are stored in 16 bits.
    pub is_half: bool,
    /// The files of its weights, without their directory.
    pub files: Vec<String>,
    /// A token that may pad examples, with its id.
    pub padding: (String, u32),
}

/// A training, to be written as a recipe.
#[derive(Debug)]
pub struct Export<'a> {
    /// For which program.
    pub format: ExportFormat,
    /// The model.
    pub model: &'a ExportedModel,
    /// Hyperparameters.
    pub recipe: &'a HealRecipe,
    /// The layers of the model that are trained.
    pub trained: LayerSet<LayerPosition>,
    /// When held-out examples are evaluated.
    pub evaluation: Evaluation,
    /// Examples to train on.
    pub train: &'a [Document],
    /// Examples to measure the loss on.
    pub held_out: &'a [Document],
    /// How the recipe is read back, for its README: the command line of an evaluation without `--adapter DIR`.
    pub evaluate: String,
}

impl Export<'_> {
    /// Writes the recipe into the existing directory `directory`.
    ///
    /// # Errors
    /// Those of [`ExportFormat::check`]; if a file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        self.format.check(self.recipe, &self.model.config, &self.trained)?;
        let order = first_epoch(self.train.len(), self.recipe.seed);
        let train = order.iter().map(|index| &self.train[*index]);
        write_examples(&directory.join(TRAIN), train, self.recipe.train_on_inputs)?;
        if !self.held_out.is_empty() {
            write_examples(&directory.join(HELD_OUT), self.held_out.iter(), false)?;
        }
        let files = match self.format {
            ExportFormat::Trl => trl::files(self)?,
            ExportFormat::Axolotl => axolotl::files(self),
            ExportFormat::Torchtune => torchtune::files(self)?,
        };
        for (name, text) in files.into_iter().chain([("README.md", readme::text(self))]) {
            let path = directory.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// Optimiser steps.
    fn steps(&self) -> usize {
        self.recipe.steps(self.train.len())
    }

    /// The layers that have an adapter, where these are not all.
    fn some_layers(&self) -> Option<Vec<usize>> {
        let some = self.trained.len() < self.model.config.num_hidden_layers;
        some.then(|| self.trained.indices().collect())
    }
}

/// A line for each example, of which the answers are learned, or every token.
fn write_examples<'a>(path: &Path, examples: impl Iterator<Item = &'a Document>, every_token: bool) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for Document { tokens, weights } in examples {
            let label = |(token, weight): (&u32, &f32)| match every_token || *weight != 0.0 {
                true => i64::from(*token),
                false => IGNORED,
            };
            // The first token is predicted by nothing.
            let labels: Vec<i64> = tokens.iter().zip(weights).map(label).collect();
            let row = json!({"input_ids": tokens, "attention_mask": vec![1; tokens.len()], "labels": labels});
            writeln!(file, "{row}")?;
        }
        file.into_inner()?.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}
