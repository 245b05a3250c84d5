//! The pocket model: a small trained model that is compiled into Lopper, and all of it that needs no tensors: the
//! generators of its tasks, the tokenizer, the stream of training documents, and an interpreter for the code that it
//! writes.
//!
//! A small model that demonstrates layer pruning must have the abilities that pruning damages. So it is trained on
//! generated text: word problems solved in steps (in the form of GSM8K), the arithmetic probe of arXiv 2602.01997,
//! small functions, bracket completion, one-sentence summaries and four kinds of classification.
//!
//! All items are a function of task, split and seed, on every machine. The split of an item follows from the hash of
//! its content, so held-out items never occur in the training stream.
//!
//! ```
//! use lopper_pocket::grade::Verdict;
//! use lopper_pocket::{Split, examples};
//!
//! let example = examples("pocket_word", Split::Report, 0).next().unwrap();
//! println!("{}", example.prompt.text()); // a story of two to four steps and a question
//! assert!(example.answer.contains("####"));
//! assert_eq!(example.judge(&example.answer), Verdict::Right);
//! assert_eq!(example.judge("I do not know."), Verdict::Wrong);
//! ```
//!
//! Not covered: natural text. What pruning does to this model illustrates what it does to large ones, and proves
//! nothing about them.

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
