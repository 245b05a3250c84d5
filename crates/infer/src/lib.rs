//! The engine: token ids in, token ids and log-probabilities out.
//!
//! Every call takes the list of kept layers, so that all pruned candidates run over one set of
//! weights. The engine knows nothing about tokenisation ([`TextModel`] joins it with a tokenizer): stop strings come in through
//! [`StopCheck`], which the caller builds around a tokenizer.
//!
//! - [`Engine::generate`]: continuous batching, greedy or seeded sampling;
//! - [`Engine::loglikelihood`]: choices that share a context, which is computed once;
//! - [`Engine::token_logprobs`]: log-probability of every token of whole sequences;
//! - [`Engine::visit_hidden`]: the hidden states at every layer boundary.
//!
//! Not covered: several depths in one batch, devices other than the CPU, prefixes shared between
//! prompts that are not identical.

mod engine;
mod generate;
mod hidden;
mod loglik;
mod sampling;
mod stop;
mod text;
mod worker;

pub use engine::{Engine, Interrupted, Progress, silent};
pub use generate::{Finish, GenerateOptions, Generation, Request};
pub use hidden::HiddenStates;
pub use loglik::{Loglik, LoglikRequest};
pub use sampling::{Sampler, Sampling};
pub use stop::{StopCheck, StopStrings};
pub use text::TextModel;
