//! What a cut breaks, not only that scores fall (arXiv 2602.01997): text can stay fluent while arithmetic and bracket
//! matching are lost, and a score alone does not show it.
//!
//! - [`text_metrics`], [`DegenerationTally`]: degeneration of any text: Rep-n, Self-BLEU-4, loops, length;
//! - [`response_file`]: the same of a file of responses, whoever generated them; [`graded_samples`]: files that say
//!   which responses are right, so that two models can be compared;
//! - [`arithmetic`]: the probe at the answer's first digit; [`brackets`]: closing nested brackets;
//! - [`equations`]: which step of a worked solution is false;
//! - [`ledger`]: why items are wrong that the uncut model gets right;
//! - [`diagnose_outcomes`]: everything that the responses of an evaluation show, without running the model again;
//! - [`DiagnosticSuite`]: all of it of one model and any number of its cuts; [`ModelDiagnosis`]: as a record for the
//!   report;
//! - [`sentinel`]: a few cheap probes for every cut of a search or study, and the gap alarm.
//!
//! ```
//! use lopper_diagnose::text_metrics;
//! use lopper_diagnose::equations::first_false;
//!
//! let metrics = text_metrics(&"The fox runs. ".repeat(8));
//! assert_eq!(metrics.words, 32);
//! // Of 29 4-grams 4 are different; all eight sentences are the same.
//! assert!(metrics.rep_4.unwrap() > 86.0 && metrics.self_bleu_4.unwrap() > 0.99);
//! assert_eq!(metrics.looped.unwrap().unit, "The fox runs.");
//!
//! let solution = "She sold 48 / 2 = 24 clips in May, 48 + 24 = 74. #### 74";
//! let found = first_false(solution).unwrap();
//! assert_eq!((found.equation.as_str(), found.value.as_str()), ("48 + 24 = 74", "72"));
//! ```
//!
//! Not here: running candidates (`lopper_measure`), tasks and their metrics (`lopper_tasks`); the figures themselves
//! are plain records (`lopper_record::study`). Definitions, constants and limits are in
//! `docs/reference/diagnostics.md`, the reasons in `design/diagnostics.md`. Not covered: natural languages written
//! without spaces; whether a step of a solution is the right one to take.

pub mod arithmetic;
pub mod brackets;
mod degeneration;
pub mod equations;
pub mod graded_samples;
pub mod ledger;
mod model;
mod outcomes;
pub mod probe_set;
mod reasoning;
pub mod response_file;
mod response_layouts;
pub mod sentinel;
mod suite;

pub use degeneration::{DegenerationTally, Loop, ResponseMetadata, TextMetrics, text_metrics};
pub use model::ModelDiagnosis;
pub use outcomes::{diagnose_outcomes, program_outcomes};
pub use suite::{CandidateResults, DiagnosticOptions, DiagnosticSuite, RESPONSE_TOKENS};
