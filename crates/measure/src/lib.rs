//! The one way to a number: tasks and candidates in, outcomes of every item out, compared with the uncut model's.

mod compare;
mod objective;
mod retention;
mod run;

pub use compare::{Comparison, Comparisons, DIFFERENCE, Power, compare, compare_all};
pub use objective::{ItemScores, Objective, group_mean_retention};
pub use retention::{Outcomes, paired, retention};
pub use run::{Cost, Drafts, Evaluation, Execution, evaluate, run_requests};
