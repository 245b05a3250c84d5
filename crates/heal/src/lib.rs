//! Training: what gives a pruned model back some of what cutting took, and what made the pocket
//! model in the first place. Optimisers, schedules, the data-parallel trainer, adapters.

pub mod muon;
pub mod optimizer;
pub mod pretrain;
pub mod schedule;
pub mod state;
pub mod trainer;

pub use optimizer::{AdamW, AdamWConfig};
pub use schedule::Schedule;
pub use trainer::{Document, StepStats, Trainer, TrainerConfig};
