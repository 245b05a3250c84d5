//! The report's parts, in the order a reader wants them. Each gives its HTML, or nothing when the
//! study did not get that far.

pub mod curves;
pub mod headline;
pub mod layers;
pub mod provenance;
pub mod samples;
pub mod scores;
