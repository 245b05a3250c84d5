//! Tasks: from names to requests in tokens, and from a model's replies to scores with intervals.
//!
//! A task is a list of items. Each makes requests of two kinds, as in lm-evaluation-harness: choices scored by
//! log-likelihood, and text generated until a stop. Items are generated (the pocket model's tasks) or rows of data sets
//! (benchmarks; a TOML file each, one that comes with Lopper or a user's).
//!
//! - [`ItemSelection`]: which items; [`GenerationPolicy`]: how responses are produced. Both decide the result and are
//!   recorded with it. [`Resources`]: where rows are read from ([`DataRoot`]), and what runs programs ([`CodeRunner`]).
//!   Of a benchmark, [`RowChoice`] takes the rows of one split, so that layers are chosen and scores reported on
//!   different ones, or all of them.
//! - [`Suite`]: the items of several tasks, prepared once for a model and all its cuts;
//! - [`TaskOutcome`]: the result of one task, with every item;
//! - [`all_tasks`]: the tasks that come with Lopper; [`metrics`]: pure functions from texts to values.
//!
//! Not here: running the requests (`lopper-measure`), perplexity of whole documents as a task, tasks with several right
//! answers.
//!
//! ```
//! use lopper_infer::{Engine, TextModel};
//! use lopper_model::{Checkpoint, Model};
//! use lopper_tasks::{DataRoot, GenerationPolicy, ItemSelection, Resources, RowChoice, Split, Suite};
//!
//! # fn main() -> lopper_record::Result<()> {
//! let checkpoint = Checkpoint::from_bytes(lopper_pocket::embedded::FILES)?;
//! let text = TextModel::new(Engine::new(Model::from_checkpoint(&checkpoint)?, 1)?, &checkpoint)?;
//!
//! // The first five items of the split that scores are reported on.
//! let items = ItemSelection::new(Split::Report, 5, 0);
//! let policy = GenerationPolicy { max_new_tokens: Some(40), ..GenerationPolicy::default() };
//! let suite = Suite::prepare(&text, &["pocket_topic", "pocket_word"], &items, &policy, &Resources::default())?;
//! assert_eq!(suite.tasks().collect::<Vec<_>>(), ["pocket_topic", "pocket_word"]);
//! assert_eq!((suite.requests().choices.len(), suite.requests().generations.len()), (5, 5));
//!
//! // All rows of a benchmark, from `examples/data/allenai/ai2_arc/ARC-Easy/validation.jsonl` (or `.parquet`, `.csv`).
//! let data_root = DataRoot::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data"));
//! let rows = ItemSelection { rows: RowChoice::All, ..items };
//! let suite =
//!     Suite::prepare(&text, &["arc_easy"], &rows, &policy, &Resources { data_root, ..Resources::default() })?;
//! assert_eq!(suite.requests().choices.len(), 5);
//! # Ok(())
//! # }
//! ```

mod answer_check;
mod benchmark;
mod evaluated;
mod instructions;
pub mod metrics;
mod outcome;
mod pocket;
mod policy;
mod python_random;
mod registry;
mod requests;
mod suite;

pub use answer_check::{AnswerCheck, check_answers};
pub use benchmark::code::CodeRunner;
pub use benchmark::items::{BadRow, question_id};
pub use benchmark::training::TrainingExample;
pub use evaluated::evaluated_texts;
pub use lopper_pocket::{Group, Split};
pub use lopper_rows::{DATA_ROOT_VARIABLE, DataRoot, Row, RowFetcher, SplitFiles, Table};
pub use outcome::{ItemResult, RowSource, SampleResult, TaskOutcome, ThoughtCounts, Timing, UNFINISHED_THOUGHT};
pub use policy::{GenerationPolicy, ItemSelection, Resources, RowChoice, TaskSettings};
pub use registry::{TaskEntry, all_tasks, expand, task_entries, task_file, training_examples};
pub use requests::{Pace, Replies, Requests, Response, reasoning_request, stop_strings};
pub use suite::lm_eval::{LmEval, RunFacts, families};
pub use suite::{GivenResponse, GivenResponses, Suite};
