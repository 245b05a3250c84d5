//! The decoder and everything needed to read, run and train it: configuration and families, checkpoints, tokenizer and
//! chat template, CPU kernels, forward and backward passes.
//!
//! One decoder is driven by configuration ([`Config`]); a model family is a function from its `config.json` to that
//! ([`families`]). Every pass takes the set of layers that run, so all pruned candidates share one set of weights.
//!
//! Not here: running many candidates at once, sampling and generation (`lopper-infer`), optimisers and adapters
//! (`lopper-heal`), writing a pruned checkpoint (`lopper-prune`), GPUs.
//!
//! # One token through the decoder
//!
//! A [`Batch`] holds the tokens of all sequences one after another, without padding: `n` rows. Shapes below are
//! `[rows, columns]`, row-major `f32`; H is `hidden_size`, D `head_dim`, Q and K the numbers of query and of
//! key/value heads, M `intermediate_size`, V `vocab_size`. [`Forward::hidden_states`] runs steps 1 to 10,
//! [`Forward::layer`] steps 2 to 10 for one layer.
//!
//! | step | result | where |
//! |---|---|---|
//! | 1. look up the embedding, times `embedding_scale` | x `[n, H]` | [`Forward::embed`] |
//! | for each layer that runs: | | [`Forward::layer`] |
//! | 2. RMSNorm of x (where the family has it) | `[n, H]` | [`kernels::norm::RmsNorm::forward`] |
//! | 3. project to q, k and v | q `[n, Q·D]`; k, v `[n, K·D]` | [`kernels::matmul_stored`], or repacked ([`Pack`]) |
//! | 4. RMSNorm of queries and keys (Qwen3, OLMo 2, Gemma 3) | unchanged | [`kernels::norm::RmsNorm::forward`] |
//! | 5. rotate queries and keys by their positions | unchanged | [`kernels::rope::RopeRows::apply`] |
//! | 6. attend ([`Past`]); a key head serves Q/K query heads | `[n, Q·D]` | [`kernels::attention_infer`] |
//! | 7. project back, RMSNorm (OLMo 2, Gemma), add to x times `residual_scale` | x `[n, H]` | [`kernels::add_scaled`] |
//! | 8. RMSNorm of x, project to gate and up | two `[n, M]` | as 2 and 3 |
//! | 9. act(gate) · up | `[n, M]` | [`kernels::activation::gated`] |
//! | 10. project down, RMSNorm (OLMo 2, Gemma), add to x | x `[n, H]` | as 7 |
//! | after the layers: | | |
//! | 11. final RMSNorm of the rows that are wanted | `[rows, H]` | [`Forward::normed_rows`] |
//! | 12. head, times `logit_scale`, capped (Gemma 2) | logits `[rows, V]` | [`Forward::logits`], [`Forward::token_logprobs`] |
//!
//! Training takes the same steps with activations kept or recomputed, and a hand-written backward pass:
//! [`Model::loss_and_gradients`]. What a row gives depends on its own text alone, not on the batch, the order or the
//! number of threads.
//!
//! # Example
//!
//! Skipping a layer computes what a model without it computes:
//!
//! ```
//! use lopper_model::{Batch, Config, Model, Threads};
//! use lopper_record::{LayerSet, LayerSlot};
//!
//! # fn main() -> lopper_record::Result<()> {
//! // Random weights; `Model::from_checkpoint(&Checkpoint::open(directory)?)` reads a real model.
//! let model = Model::random(Config::plain(4, 2, 8), 0.3, 7)?;
//! let batch = Batch::new(&[vec![3u32, 14, 15]]);
//! let logits = |model: &Model, layers: &LayerSet<LayerSlot>| -> lopper_record::Result<Vec<f32>> {
//!     let hidden = model.hidden_states(&batch, layers, Threads::One, None, None)?;
//!     Ok(model.logits(&model.normed_rows(&hidden, 0..batch.len()), Threads::One))
//! };
//! let cut = model.keep(&LayerSet::from([0, 1, 3]));
//! assert_eq!(logits(&model, &LayerSet::from([0, 1, 3]))?, logits(&cut, &cut.all_layers())?);
//! assert_eq!(logits(&model, &model.all_layers())?.len(), 3 * model.config.vocab_size);
//! # Ok(())
//! # }
//! ```

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
pub mod sizes;
pub mod tensors;
pub mod tokenizer;
mod train;

pub use batch::Batch;
pub use cache::{LayerCache, SequenceCache};
pub use checkpoint::Checkpoint;
pub use config::{Activation, Config, LayerKind, NormPlacement, QkNorm, Rope, RopeScaling};
pub use forward::{Forward, Pack, Past, PreparedBatch, Tap, Target, TokenLogprob, Workspace};
pub use kernels::distill::Divergence;
pub use kernels::{MatmulOptions, MatmulPrecision, Threads};
pub use layer::{Layer, LayerNorms};
pub use mapped::Release;
pub use model::{Model, SMALL_MODEL_PARAMETERS, Source, normal};
pub use sizes::{LayerParameters, ParameterCounts};
pub use train::{BatchLoss, Learner, Teacher, TrainBatch, TrainOptions, TrainWorkspace, taught_together};
