//! Everything about the embedded model that needs no tensors: the generators of its tasks, the
//! tokenizer, the stream of training documents, and the small language in which generated code
//! is really executed.
//!
//! A small model that is to show what layer pruning does must really have the abilities in
//! question, so the text it learns from is generated: word problems solved in steps (the form of
//! GSM8K), the arithmetic probe of arXiv 2602.01997, small functions, bracket completion,
//! one-sentence summaries and four kinds of classification.
//!
//! Everything here is a function of (task, split, seed): the same arguments give the same items
//! on every machine. Items are divided by the hash of their content, so an item that is reported
//! or selected on can never occur in the training stream.
//!
//! Not covered: natural text. Nothing said about this model holds for a language model at large.

pub mod draw;
pub mod embedded;
pub mod example;
pub mod export;
pub mod grade;
pub mod lang;
pub mod lexicon;
pub mod model_files;
pub mod stream;
pub mod tasks;
pub mod tokenizer;

pub use example::{Check, Example, Group, Prompt, Split};
pub use export::export_jsonl;
pub use stream::{Mixture, Stream, TrainDoc};
pub use tasks::{TaskInfo, examples, task, tasks};
