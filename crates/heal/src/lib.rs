//! Training: what gives a pruned model back some of what cutting took, and what made the pocket
//! model in the first place. Optimisers, schedules, the data-parallel trainer, adapters.

pub mod adapter;
pub mod examples;
pub mod muon;
pub mod optimizer;
pub mod pretrain;
pub mod recipe;
pub mod schedule;
pub mod self_generated;
pub mod sft;
pub mod state;
pub mod trainer;

pub use adapter::{Base, attach_lora, is_adapter, load_adapter, merge, save_adapter};
pub use examples::{ExampleText, Examples, Renderer, read_examples};
pub use optimizer::{AdamW, AdamWConfig};
pub use recipe::{HealRecipe, LoraConfig, Method};
pub use schedule::Schedule;
pub use self_generated::{SelfGenerated, SgrOptions, SgrPrompt, SgrRow, generate_responses};
pub use sft::{HealProgress, HealStats, Healed, Run, StateFile, heal};
pub use trainer::{Document, StepStats, Trainer, TrainerConfig};
