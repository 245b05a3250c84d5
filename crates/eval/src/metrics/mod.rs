//! Metrics: pure functions from what a model gave to a value, one file each.

pub mod choice;
pub mod number;
pub mod porter;
pub mod rouge;
