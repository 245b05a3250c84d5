//! The study: measure, cut at several depths by several strategies, self-generate, heal, measure
//! again, decide the depth budget. Every stage is made of cells that are recorded as they finish
//! and found again by a hash of what changes their result.

pub mod budget;
mod calibration;
pub mod diagnose;
mod directory;
mod eval_split;
mod healing;
mod identity;
mod model;
pub mod pocket;
mod recipe;
mod recipe_check;
mod record;
mod runner;
mod samples;
pub mod search;
mod sentinels;
mod stage;
pub mod strategy;
mod tasks;
mod training;

pub use model::{StudyInputs, StudyModel};
pub use recipe::{Budget, Cuts, Heal, Items, OwnShots, Recipe, Rows, Sentinels, Shots, TASKS, Tasks};
pub use runner::run;
pub use tasks::StudyTasks;
