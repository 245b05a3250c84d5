//! Chooses layers to remove from a model, and writes the model without them.
//!
//! - [`criteria`] score every layer over [`calibration`] text in one pass ([`LayerScores`] has a list for each), and
//!   choose by the scores;
//! - [`compensation`] changes weights of the kept layers, without training, to make up for the removed ones;
//! - [`search`] evaluates candidates on tasks and chooses by what they score; nothing is written or reloaded to try
//!   one;
//! - [`plan`] is the file `cut.json`: which layers of which model are removed, and how they were chosen;
//! - [`writer`] writes the pruned model as a Hugging Face directory and compares it with its source.
//!
//! Layers are [positions](lopper_record::LayerPosition) in the model at hand, except in plans, which count in the
//! numbering of the uncut model; [`layer_numbering`] reads how a model's layers are numbered. Not here: running the
//! model (`lopper-infer`) and finetuning what is left of it (`lopper-heal`).
//!
//! Removing the two layers of the pocket model with the least block influence over a short text:
//!
//! ```
//! use std::sync::Arc;
//!
//! use lopper_infer::{Engine, TextModel};
//! use lopper_model::{Checkpoint, Model};
//! use lopper_prune::criteria::{self, Measures, Request};
//! use lopper_prune::{Calibration, Choice, Plan, WriteOptions, layer_numbering, write_pruned};
//! use lopper_record::NoProgress;
//!
//! # fn main() -> lopper_record::Result<()> {
//! let checkpoint = Arc::new(Checkpoint::from_bytes(lopper_pocket::embedded::FILES)?);
//! let model = TextModel::new(Engine::new(Model::from_checkpoint(&checkpoint)?, 1)?, &checkpoint)?;
//! let calibration = Calibration::new(vec![model.plain("Anna has 3 apples and buys 4 more.")?])?;
//! let scores = criteria::measure(&model.engine, &calibration, Measures::default(), &NoProgress)?;
//!
//! let request = Request { num_layers: scores.num_layers(), remove: 2, scores: Some(&scores), seed: 0 };
//! let selection = criteria::select(criteria::criterion("bi")?, &request)?;
//!
//! // Without writing it, the cut is a candidate for `lopper_measure::evaluate` or the engine: the layers to run.
//! let kept = selection.dropped.complement(scores.num_layers()).slots();
//! assert_eq!(kept.len(), model.engine.all_layers().len() - 2);
//!
//! let dropped = layer_numbering(&checkpoint)?.originals(&selection.dropped)?;
//! let choice = Choice { criterion: "bi".into(), scores: selection.scores, ..Choice::given() };
//! let plan = Plan::new(&checkpoint, "pocket", &dropped, choice)?;
//!
//! let directory = tempfile::tempdir()?;
//! let out = directory.path().join("pruned");
//! write_pruned(&checkpoint, &plan, &out, &WriteOptions::default(), &NoProgress)?;
//! assert_eq!(Checkpoint::open(&out)?.config().num_hidden_layers, scores.num_layers() - 2);
//! # Ok(())
//! # }
//! ```

pub mod calibration;
pub mod compensation;
pub mod criteria;
mod least_squares;
pub mod plan;
pub mod savings;
pub mod search;
mod verify;
pub mod writer;

pub use calibration::Calibration;
pub use compensation::{Compensated, CompensationMethod, CompensationOptions, compensate};
pub use criteria::{Criterion, LayerScores, Selection};
pub use plan::{
    AdapterId, CalibrationId, Choice, CompensatedGap, Compensation, CompensationLoss, ConfigChange, MergeLoss,
    MergedAdapter, MergekitCut, ModelId, Plan, PlanFormat, Verification, layer_numbering,
};
pub use writer::{
    Merge, MergeReport, WriteOptions, WriteReport, write_compensated, write_merged, write_pruned, write_trained,
};
