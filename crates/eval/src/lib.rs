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
//! Not covered: benchmarks read from files; only the pocket tasks, which are generated, are known.

pub mod answer;
pub mod diagnostics;
mod many;
pub mod metrics;
mod outcome;
mod registry;
mod request;
pub mod stats;
mod suite;
mod tasks;

pub use lopper_pocket::{Group, Split};
pub use many::{Cost, Drafts, ManyOptions};
pub use outcome::{ItemResult, TaskOutcome};
pub use registry::{KnownTask, chance, expand, known_tasks, task_version};
pub use suite::{EvalOptions, EvalProgress, Suite, evaluate};
