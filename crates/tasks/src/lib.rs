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
//! - [`metrics`]: pure functions from texts to scores;
//!
//! Items are generated (the pocket model's tasks) or rows of data sets ([`BenchOptions`]; a task over
//! rows is a TOML file, one that comes with Lopper or a user's).
//!
//! Not covered: perplexity of whole documents as a task, tasks with several right answers.

mod benchmark;
pub mod metrics;
mod outcome;
mod pocket;
mod policy;
mod python_random;
mod registry;
mod requests;
mod rows;
mod suite;

pub use benchmark::code::CodeRunner;
pub use benchmark::items::{BadRow, question_id};
pub use benchmark::training::TrainingExample;
pub use lopper_pocket::{Group, Split};
pub use outcome::{ItemResult, RowSource, SampleResult, TaskOutcome, Timing};
pub use policy::{GenerationPolicy, ItemSelection, Resources, RowChoice};
pub use registry::{
    KnownTask, TaskEntry, all_tasks, chance, expand, known_tasks, task_entries, task_file, task_version,
    training_examples,
};
pub use requests::{Pace, Replies, Requests};
pub use rows::{DATA_ROOT_VARIABLE, DataRoot, Row, RowFetcher, SplitFiles, Table};
pub use suite::lm_eval::{LmEval, RunFacts, families};
pub use suite::{GivenResponses, Suite};
