//! The one way to a number: tasks and candidates in, outcomes of every item out, compared with the uncut model's.

pub mod compare;
mod many;

pub use many::{Cost, Drafts, ManyOptions, run_many};
