//! lopper-eval
pub mod stats;
