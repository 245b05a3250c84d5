//! Rows that no data root holds: the caller may pass a fetcher, so that this crate needs no network.

use std::ops::Deref;
use std::path::PathBuf;

use lopper_record::Result;

/// Brings rows that are not in a data root.
pub trait RowFetcher: Send + Sync {
    /// The name and the files of the first of `splits` that the data set has in the configuration `config`. The
    /// names are those of a task's file, and nothing has checked them but that no part of them is empty, `.` or `..`.
    ///
    /// # Errors
    /// A [`Fault`](lopper_record::Fault) where the data set or the split is not there, or may not be had.
    fn fetch(&self, data_set: &str, config: &str, splits: &[String]) -> Result<(String, SplitFiles)>;
}

/// The files of a split, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SplitFiles {
    files: Vec<PathBuf>,
    /// The commit that they are of, where they came from the hub.
    pub revision: Option<String>,
}

impl SplitFiles {
    /// Files that are the user's own.
    pub fn local(files: Vec<PathBuf>) -> Self {
        Self { files, revision: None }
    }

    /// Files of a data set at a commit.
    pub fn fetched(files: Vec<PathBuf>, revision: impl Into<String>) -> Self {
        Self { files, revision: Some(revision.into()) }
    }
}

impl Deref for SplitFiles {
    type Target = [PathBuf];

    fn deref(&self) -> &[PathBuf] {
        &self.files
    }
}
