//! Arguments of `lopper report`.

use std::path::PathBuf;

use clap::Args;

/// `lopper report`
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Directories of studies: one to write its report again, several to compare them in one page
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,

    /// Write the comparison of several studies to FILE [default: compare.html]
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Overwrite FILE if it exists
    #[arg(long)]
    pub force: bool,
}
