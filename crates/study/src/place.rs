//! What a study's directory was before the study, so that one that fails before it has finished
//! anything can leave it as it was.

use std::fs;
use std::path::{Path, PathBuf};

/// A directory as it was found.
pub struct Place {
    directory: PathBuf,
    /// Whether cells were there.
    used: bool,
    /// The directories on the way, itself first, that were not there.
    missing: Vec<PathBuf>,
}

impl Place {
    /// Looks at `directory` before anything is written there.
    pub fn before(directory: &Path) -> Self {
        let missing = directory
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
            .map(Path::to_path_buf)
            .collect();
        Self { directory: directory.to_path_buf(), used: directory.join("cells").exists(), missing }
    }

    /// Removes what the study made, unless there is a finished cell among it. Directories go only
    /// when they are empty.
    pub fn clear_if_unused(&self) {
        // The lock's file goes last: while it is there no other process begins to write.
        if self.used || fs::remove_dir(self.directory.join("cells")).is_err() {
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
