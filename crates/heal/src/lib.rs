//! Finetuning ("healing") of pruned models: LoRA adapters in PEFT's layout or all weights, on the uncut model's own
//! responses; and training from random weights, by which the pocket model was made.
//!
//! [`generate_responses`] lets the uncut model answer prompts; [`read_examples`] and [`Examples`] turn conversations
//! into [`Document`]s, tokens with loss weights; [`heal`] trains the kept layers on them by a [`HealRecipe`], and can
//! be interrupted and resumed; [`heal_cuts`] does it with several cuts of a model at once. [`Trainer`] is the loop
//! below it: forward and backward pass on several threads, gradient clipping, AdamW.
//!
//! ```
//! use lopper_heal::{Document, HealRecipe, LoraConfig, Method, Run, heal};
//! use lopper_record::{LayerSet, NoProgress};
//! use lopper_testkit::{Tiny, tiny_model, token_sequences};
//!
//! let model = tiny_model(Tiny::default(), 1); // of a checkpoint: `Model::mapped`
//! let kept = LayerSet::from([0, 1, 3]); // without layer 2
//! let document = |tokens: Vec<u32>| Document { weights: vec![1.0; tokens.len()], tokens };
//! let documents: Vec<_> = token_sequences(&[12; 8], 37, 7).into_iter().map(document).collect();
//!
//! let lora = LoraConfig { r: 4, alpha: 8.0, ..LoraConfig::default() };
//! let recipe = HealRecipe { lora, learning_rate: 1e-2, epochs: 20, ..HealRecipe::for_pocket(Method::Lora) };
//! let run = Run::for_model(&model, 2, &recipe); // two threads
//! let healed = heal(&model, &kept, &documents, &recipe, &run, &NoProgress)?;
//! assert!(healed.stats.loss_last < healed.stats.loss_first);
//!
//! let directory = tempfile::tempdir()?;
//! healed.save_adapter(directory.path(), None)?; // for PEFT, vLLM, and `load_adapter`
//! # Ok::<(), lopper_record::Error>(())
//! ```
//!
//! Not covered: bases quantised otherwise than to NF4, training on a GPU.

pub mod adapter;
pub mod divergence;
pub mod evaluation;
pub mod examples;
pub mod export;
pub mod log;
pub mod memory;
pub mod muon;
pub mod optimizer;
pub mod own_prompts;
pub mod pretrain;
pub mod recipe;
pub mod rounding;
pub mod schedule;
pub mod self_generated;
pub mod sft;
pub mod state;
pub mod trainer;
mod written;

pub use adapter::{AdapterInfo, Base, attach_lora, is_adapter, load_adapter, merge, save_adapter};
pub use divergence::{DIVERGENCE_STEPS, Divergence};
pub use evaluation::{Evaluated, Evaluation, HeldOutLoss, Keep};
pub use examples::{
    DataFilters, Duplicates, EvaluatedTexts, Example, ExampleFilter, ExampleLimits, ExampleText, Examples, HoldOut,
    OverlapCheck, RecordedTokens, Renderer, RowSource, TrainingSet, read_examples,
};
pub use export::{Export, ExportFormat, ExportedModel};
pub use log::{JsonLog, LogEntry, TensorBoardLog, TrainingLog};
pub use optimizer::{AdamW, AdamWConfig};
pub use recipe::{Distillation, HealRecipe, LoraConfig, Method, OnPolicy, TrainedLayers, Warmup};
pub use schedule::{DecayShape, Schedule};
pub use self_generated::{PreparedPrompts, SelfGenerated, SgrOptions, SgrPrompt, SgrRow, generate_responses};
pub use sft::{Choose, Cut, HealStats, Healed, Removal, Rounds, Run, StateFile, Stopped, heal, heal_cuts};
pub use trainer::{Document, StepStats, Trainer, TrainerConfig};
pub use written::{LossSample, WrittenLoss};
