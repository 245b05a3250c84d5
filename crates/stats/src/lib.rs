//! Uncertainty: standard errors, intervals, retention against the uncut model, and how many items
//! it takes to tell two models apart.
//!
//! Everything is a pure function of the items' scores and a seed. A task's items are compared in
//! pairs (the same item answered by both models), which is far sharper than comparing two means.
//! Checked against scipy and numpy in `fixtures/stats/`. Not covered: scores whose items are
//! themselves correlated, such as several samples of one prompt.

mod bootstrap;
mod compare;
mod retention;
mod summary;

pub use bootstrap::{RESAMPLES, bootstrap_mean_ci95, quantile};
pub use compare::{items_needed_paired, items_needed_unpaired, mcnemar_exact};
pub use retention::{Pair, group_retention, retention};
pub use summary::{group_score, mean, pooled_score, score, stderr, wilson95};

/// Standard normal quantile at 0.975: two-sided 95 %.
const Z_975: f64 = 1.959_963_984_540_054;
/// Standard normal quantile at 0.8: a power of 80 %.
const Z_80: f64 = 0.841_621_233_572_914_3;

#[cfg(test)]
mod tests;
