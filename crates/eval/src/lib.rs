//! What a model can do, with error bars: tasks, the requests they make of the engine, the metrics
//! of what comes back, and the statistics of the scores.
//!
//! A task is a list of items. Each makes requests of two kinds, as in lm-evaluation-harness: choices
//! scored by log-likelihood, and text generated until a stop. [`Suite`] prepares the requests of
//! several tasks once; each candidate (a list of kept layers) then costs two calls of the engine, one
//! for each kind, so that its batches stay full across tasks. A result depends neither on what runs
//! beside it nor on the number of threads.
//!
//! - [`evaluate`], [`Suite`]: from task names to [`TaskOutcome`]s;
//! - [`known_tasks`]: what there is;
//! - [`answer`]: finding the answer in a response, and whether it equals the reference;
//! - [`metrics`]: pure functions from texts to scores;
//! - [`diagnostics`]: what broke, not only that something did;
//! - [`stats`]: intervals, retention, sample sizes.
//!
//! Items are generated (the pocket model's tasks) or rows of data sets ([`BenchOptions`]; a task over
//! rows is a TOML file, one that comes with Lopper or a user's).
//!
//! Not covered: perplexity of whole documents as a task, tasks with several right answers.

pub mod answer;
mod bench;
pub mod compare;
pub mod diagnostics;
mod many;
pub mod metrics;
mod outcome;
mod python_random;
mod registry;
mod request;
mod rows;
pub mod stats;
mod suite;
mod tasks;

pub use bench::code::CodeRunner;
pub use bench::items::{BadRow, question_id};
pub use bench::lessons::Lesson;
pub use bench::{BenchOptions, RowChoice};
pub use lopper_pocket::{Group, Split};
pub use many::{Cost, Drafts, ManyOptions};
pub use outcome::{ItemResult, RowSource, SampleResult, TaskOutcome, Timing};
pub use registry::{
    KnownTask, TaskEntry, all_tasks, chance, expand, known_tasks, lessons, task_entries, task_file, task_version,
};
pub use rows::{DATA_ROOT_VARIABLE, DataRoot, RowFetcher, SplitFiles, Table};
pub use suite::lm_eval::{LmEval, RunFacts, families};
pub use suite::{EvalOptions, EvalProgress, GivenResponses, Suite, evaluate};
