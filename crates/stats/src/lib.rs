//! Statistics of an evaluation: how certain a score is, how much of it a cut model retains, whether two models differ,
//! and how many layers may go.
//!
//! Pure functions of items' scores and a seed; the results are the plain records of `lopper_record`. The items of two
//! models are compared in pairs (the same question answered by both), which is far sharper than comparing two means.
//!
//! - [`score`], [`weighted_score`], [`group_score`], [`pooled_score`]: a mean with its standard error and 95 %
//!   interval;
//! - [`retention`], [`group_retention`], [`worst_retention`]: what a cut model keeps of the uncut model's score on a
//!   task, in the mean of tasks, and on the task that keeps least; above chance where items have a chance level, with
//!   bounds;
//! - [`depth_budget`], [`items_needed`], [`items_needed_of_worst`]: the deepest cut that retains enough, and how many
//!   items would decide it;
//! - [`mcnemar_exact`], [`sign_flip_exact`], [`holm`]: paired tests, and their correction for many tests;
//!   [`items_needed_paired`], [`items_needed_unpaired`]: sample sizes;
//! - [`Moments`], [`proportion`], [`TokenMean`]: means of values that come one by one, and over the tokens of texts.
//!
//! ```
//! use lopper_stats::{Pair, mcnemar_exact, retention};
//!
//! // Twenty questions answered by the uncut model and by a cut: 1 is right, 0 is wrong.
//! let uncut = [1., 1., 1., 0., 1., 1., 1., 1., 0., 1., 1., 1., 0., 1., 1., 1., 1., 1., 1., 0.];
//! let cut = [1., 1., 0., 0., 1., 1., 1., 0., 0., 1., 1., 1., 0., 1., 1., 0., 1., 1., 1., 0.];
//!
//! let retained = retention(&Pair::new(&uncut, &cut)).unwrap().expect("the uncut model answers some");
//! assert!((retained.value - 13.0 / 16.0).abs() < 1e-12);
//! // At 95 % confidence the cut retains at least this much; a depth budget is decided on it.
//! assert!((0.5..0.6).contains(&retained.lower95));
//! // Three items lost and none gained may be chance.
//! assert!((mcnemar_exact(3, 0) - 0.25).abs() < 1e-12);
//! ```
//!
//! Not here: where scores come from (`lopper_tasks`) and which tasks and candidates are compared (`lopper_measure`).
//! Not covered: scores whose items are themselves correlated, such as several samples of one prompt. Checked against
//! scipy and numpy in `fixtures/stats/`; `design/statistics.md` has the reasons, and `docs/statistics.md` how often the
//! bounds are wrong (`cargo run --release -p lopper-stats --example coverage`).

mod bootstrap;
mod budget;
mod confidence;
mod gamma_sum;
mod group;
mod moments;
mod paired;
mod retention;
mod summary;
mod token_mean;
mod verdict;

pub use bootstrap::{RESAMPLES, bootstrap_mean_ci95};
pub use budget::depth_budget;
pub use moments::{Moments, proportion};
pub use paired::{holm, items_needed_paired, items_needed_unpaired, mcnemar_exact, sign_flip_exact};
pub use retention::{Pair, ScoresError, group_retention, retention, worst_retention};
pub use summary::{group_score, mean, pooled_score, score, sum_interval, weighted_score};
pub use token_mean::TokenMean;
pub use verdict::{items_needed, items_needed_of_worst};

/// Standard normal quantile at 0.975: two-sided 95 %.
const Z_975: f64 = 1.959_963_984_540_054;
/// Standard normal quantile at 0.8: a power of 80 %.
const Z_80: f64 = 0.841_621_233_572_914_3;

#[cfg(test)]
mod tests;
