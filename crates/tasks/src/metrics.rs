//! Metrics: pure functions from what a model gave to a value, one file each.

pub mod choice;
pub mod number;
pub mod pass_at_k;
pub mod porter;
pub mod rouge;

/// Whether a metric gives each item a share of right rather than right or wrong.
pub fn is_graded(metric: &str) -> bool {
    metric.starts_with("rouge_")
}
