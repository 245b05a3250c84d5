//! Runs a model with any of its layers left out: token ids in, token ids and log-probabilities out.
//!
//! Every call takes the layers to keep as a [`LayerSet`](lopper_record::LayerSet), so that all pruned candidates run
//! over one set of weights. Each has a form that takes many candidates at once (`…_many`): they share every layer of
//! work on which they agree, and what differs goes through each layer together, as one batch. A candidate's results do
//! not depend on the others.
//!
//! - [`Engine::generate`]: continuous batching, greedy or seeded sampling;
//! - [`Engine::loglikelihood`]: choices that share a context, which is computed once;
//! - [`Engine::token_logprobs`]: the log-probability of every token of whole sequences;
//! - [`Engine::token_logprobs_with_hook`]: the same, with the hidden states into and out of each layer.
//!
//! The engine knows nothing about text. [`TextModel`] joins it with a tokenizer and a chat template, and stop strings
//! come in through [`StopCheck`]. Not here: tasks and their metrics (`lopper-tasks`), devices other than the CPU,
//! sharing of prompts to generate from that begin alike without being identical (contexts of log-likelihoods do share
//! such beginnings).
//!
//! Two tokens of the pocket model, which comes with Lopper, whole and without its layers 5 and 6:
//!
//! ```
//! use lopper_infer::{Engine, GenerateOptions, Request};
//! use lopper_model::{Checkpoint, Model};
//! use lopper_record::{LayerSet, NoProgress};
//!
//! # fn main() -> lopper_record::Result<()> {
//! let model = Model::from_checkpoint(&Checkpoint::from_bytes(lopper_pocket::embedded::FILES)?)?;
//! let engine = Engine::new(model, 1)?;
//! let all = engine.all_layers();
//! let cut = all.without(&LayerSet::from([5, 6]));
//! let requests = [Request::greedy(vec![1, 17, 5], 2)];
//! let made = engine.generate_many(&[all, cut], &requests, &GenerateOptions::default(), &NoProgress)?;
//! for generations in &made.candidates {
//!     assert_eq!(generations[0].tokens.len(), 2);
//! }
//! # Ok(())
//! # }
//! ```

mod decode_context;
mod draft;
mod engine;
mod generate;
mod layer_trie;
mod loglik;
mod loops;
mod prefill;
mod prefix_tree;
mod reasoning;
mod sampling;
mod stop;
mod text;
mod thinking;
mod worker;

pub use engine::Engine;
pub use generate::{Finish, GenerateOptions, Generation, Generations, Request};
pub use layer_trie::{LayerActivations, LayerHook, Work};
pub use loglik::{Loglik, LoglikRequest, TokenLogprobs, mean_nll};
pub use loops::LoopStop;
pub use reasoning::{AnswerStop, ReasonedResponse, ReasoningReader, ThinkingBudget, Thought, ThoughtCheck};
pub use sampling::{Sampler, Sampling};
pub use stop::{StopCheck, StopStrings};
pub use text::{ChatTokenizer, TextModel};
