//! The decoder and everything needed to read, run and train it: configuration and families,
//! checkpoints, tokenizer and chat template, CPU kernels, forward and backward passes.
//!
//! One decoder is driven by configuration. Every forward pass takes the list of layers to keep, so
//! that pruned candidates share one set of weights.

pub mod batch;
mod block;
mod build;
pub mod cache;
pub mod chat;
pub mod checkpoint;
pub mod config;
pub mod families;
pub mod forward;
pub mod generation;
pub mod hf;
pub mod kernels;
pub mod linear;
mod model;
pub mod param;
pub mod projections;
mod stored;
pub mod tokenizer;
mod train;

pub use batch::Batch;
pub use block::{Layer, LayerNorms};
pub use build::{Source, normal};
pub use cache::{LayerCache, SequenceCache};
pub use checkpoint::Checkpoint;
pub use config::{Activation, Config, LayerKind, NormPlacement, QkNorm, Rope, RopeScaling};
pub use forward::{Forward, Pack, Past, Reading, Target, TokenLogprob, Workspace};
pub use kernels::Par;
pub use kernels::rows::Precision;
pub use model::{Model, Tap};
pub use stored::Release;
pub use train::{TrainBatch, TrainOptions, TrainWorkspace};
