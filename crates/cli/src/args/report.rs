//! Arguments of `lopper report`.

use std::path::PathBuf;

use clap::Args;

/// `lopper report`
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Directory of a study
    pub dir: PathBuf,
}
