//! The directory of a study as it was before: a study that fails before its first cell is finished leaves it so.

use std::fs;
use std::path::{Path, PathBuf};

use lopper_record::StudyLock;

/// Remembers what was there.
pub struct DirectoryGuard {
    directory: PathBuf,
    /// Whether it held cells.
    used: bool,
    /// The directories on the way, itself first, that did not exist.
    missing: Vec<PathBuf>,
}

impl DirectoryGuard {
    /// Looks at `directory` before anything is written there.
    pub fn new(directory: &Path) -> Self {
        let missing = directory
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
            .map(Path::to_path_buf)
            .collect();
        Self { directory: directory.to_path_buf(), used: directory.join("cells").exists(), missing }
    }

    /// Removes what the study made, unless there is a finished cell among it. Directories are removed only
    /// when they are empty.
    pub fn clear_if_unused(&self) {
        // Another process may be computing its first cell.
        if self.used || !StudyLock::is_free(&self.directory) || fs::remove_dir(self.directory.join("cells")).is_err() {
            return;
        }
        // What cannot be removed does no harm.
        let _ = fs::remove_file(self.directory.join(".lock"));
        for path in &self.missing {
            if fs::remove_dir(path).is_err() {
                break;
            }
        }
    }
}
