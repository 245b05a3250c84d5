//! Choosing which layers to remove, and removing them.
//!
//! Criteria score layers over [`calibration`] text in one pass ([`criteria`]); nothing is written
//! or reloaded to try a candidate.

pub mod calibration;
pub mod criteria;
pub mod plan;
pub mod search;
pub mod verify;
pub mod writer;

pub use calibration::Calibration;
pub use criteria::{Criterion, LayerScores, Selection};
pub use plan::{CalibrationId, Choice, ConfigChange, MergekitCut, ModelId, Numbering, Plan, PlanFormat, Verification};
pub use verify::compare_logits;
pub use writer::{WriteOptions, WriteReport, write_pruned, write_pruned_checked, write_trained};
