//! The decoder and everything needed to read, run and train it: configuration and families,
//! checkpoints, tokenizer and chat template, CPU kernels, forward and backward passes.
//!
//! One decoder is driven by configuration. Every forward pass takes the list of layers to keep, so
//! that pruned candidates share one set of weights.

pub mod batch;
pub mod cache;
pub mod chat;
pub mod checkpoint;
pub mod config;
mod dtype;
pub mod families;
pub mod forward;
pub mod generation;
pub mod hf;
pub mod kernels;
mod layer;
pub mod linear;
mod mapped;
mod model;
pub mod param;
pub mod projections;
pub mod tensors;
pub mod tokenizer;
mod train;

pub use batch::Batch;
pub use cache::{LayerCache, SequenceCache};
pub use checkpoint::Checkpoint;
pub use config::{Activation, Config, LayerKind, NormPlacement, QkNorm, Rope, RopeScaling};
pub use forward::{Forward, Pack, Past, PreparedBatch, Tap, Target, TokenLogprob, Workspace};
pub use kernels::{MatmulOptions, MatmulPrecision, Threads};
pub use layer::{Layer, LayerNorms};
pub use mapped::Release;
pub use model::{Model, SMALL_MODEL_PARAMETERS, Source, normal};
pub use train::{TrainBatch, TrainOptions, TrainWorkspace};
