//! The engine: token ids in, token ids and log-probabilities out.
//!
//! Every call takes the list of kept layers, so that all pruned candidates run over one set of
//! weights. The engine knows nothing about tokenisation ([`TextModel`] joins it with a tokenizer): stop strings come in through
//! [`StopCheck`], which the caller builds around a tokenizer.
//!
//! - [`Engine::generate`]: continuous batching, greedy or seeded sampling;
//! - [`Engine::loglikelihood`]: choices that share a context, which is computed once;
//! - [`Engine::token_logprobs`]: log-probability of every token of whole sequences;
//! - [`Engine::visited_logprobs`]: the same, and what each layer does to the hidden states.
//!
//! Each has a form that takes many candidates at once (`…_many`): they share every layer of work on
//! which they agree, and the rest goes through each layer together.
//!
//! Not covered: devices other than the CPU, prompts to generate from that begin alike without being
//! identical (contexts of log-likelihoods share such beginnings).

mod depths;
mod draft;
mod engine;
mod forest;
mod generate;
mod loglik;
mod loops;
mod prefill;
mod sampling;
mod shared;
mod stop;
mod text;
mod worker;

pub use depths::{LayerStep, Visit, Work};
pub use engine::{Engine, Interrupted, Progress, silent};
pub use generate::{Finish, GenerateOptions, Generation, Generations, Request};
pub use loglik::{Loglik, LoglikRequest};
pub use loops::LoopStop;
pub use sampling::{Sampler, Sampling};
pub use stop::{StopCheck, StopStrings};
pub use text::TextModel;
