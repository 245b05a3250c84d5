//! The study: measure, cut at several depths by several strategies, self-generate, heal, measure again, and decide the
//! depth budget.
//!
//! [`run`] takes a [`StudyModel`], a [`Recipe`] (the study file) and a directory, and returns the record that the
//! report is made of. Every stage is made of cells, which are recorded as they finish and found again by a hash of what
//! changes their result, so an interrupted study continues where it stopped. [`diagnose`] makes the same record of one
//! cut.
//!
//! Not here: what a stage computes. Evaluation is in `lopper-measure`, criteria in `lopper-prune`, finetuning in
//! `lopper-heal`, the report in `lopper-report`.
//!
//! ```no_run
//! use lopper_infer::{Engine, TextModel};
//! use lopper_model::{Checkpoint, Model};
//! use lopper_record::study::ModelCard;
//! use lopper_record::{LayerNumbering, NoProgress};
//! use lopper_study::{Recipe, StudyInputs, StudyModel};
//!
//! # fn main() -> lopper_record::Result<()> {
//! let checkpoint = Checkpoint::from_bytes(lopper_pocket::embedded::FILES)?;
//! let text = TextModel::new(Engine::new(Model::from_checkpoint(&checkpoint)?, 0)?, &checkpoint)?;
//! let num_layers = text.engine.model().num_layers();
//! let card = ModelCard { name: "pocket".into(), hash: checkpoint.hash().into(), num_layers, ..Default::default() };
//! let model = StudyModel { card, text, numbering: LayerNumbering::uncut(num_layers) };
//!
//! let mut recipe = Recipe::default();
//! recipe.cuts.depths = vec![1, 2];
//! recipe.heal.depths = vec![2];
//! let directory = std::path::Path::new("my-study");
//! let record = lopper_study::run(&model, &recipe, &StudyInputs::default(), directory, "", &NoProgress)?;
//! for line in &record.budget {
//!     println!("{}", line.statement);
//! }
//! # Ok(())
//! # }
//! ```

pub mod better_buy;
pub mod budget;
mod calibration;
mod cuts;
mod directory;
mod eval_split;
mod goal;
mod heal_seeds;
mod heal_stage;
mod healing;
pub mod healing_data;
mod identity;
mod item_parts;
mod kept_answers;
mod model;
pub mod plan;
pub mod pocket;
mod prepared;
mod presets;
mod recipe;
mod recipe_check;
mod recipe_source;
mod record;
mod reference_answers;
mod runner;
mod samples;
pub mod search;
mod searches;
mod sentinels;
mod speed;
mod stage;
pub mod strategy;
pub mod summary;
mod tasks;
mod training;

pub use cuts::{Cuts, GivenCut, Objective, SearchMethod, StrategyEntry};
pub use heal_seeds::HealSeeds;
pub use healing_data::{GENERAL_INSTRUCTIONS, HealingPrompt};
pub use model::{StudyInputs, StudyModel};
pub use plan::plan;
pub use presets::{PRESETS, Preset};
pub use recipe::{
    AnswerSampling, Budget, Heal, Items, KeepAnswers, OwnShots, Recipe, Rows, Sentinels, Shots, SpeedSettings, TASKS,
    Tasks,
};
pub use recipe_source::RecipeSource;
pub use runner::run;
pub use strategy::Strategies;
pub use tasks::{Member, StudyTasks};
