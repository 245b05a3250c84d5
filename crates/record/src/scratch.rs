//! A directory for what is being written: of a fixed name, so that the next process clears away what a killed one left.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Context, Result};

/// The end of its name.
const ENDING: &str = ".writing";

/// The directory `.NAME.writing` next to an output NAME, for its parts; removed when it is dropped. For outputs that
/// only one process writes at a time.
#[derive(Debug)]
pub struct Scratch {
    directory: PathBuf,
}

impl Scratch {
    /// Makes the directory for `output`, without what an earlier process left in it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn of(output: &Path) -> Result<Self> {
        let directory = Self::path(output);
        Self::clear(output);
        fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        Ok(Self { directory })
    }

    /// Removes what an earlier process left.
    pub fn clear(output: &Path) {
        let _ = fs::remove_dir_all(Self::path(output));
    }

    /// The directory, in the file system of the output.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(output: &Path) -> PathBuf {
        // Without a slash at its end.
        let output: PathBuf = output.components().collect();
        let mut name = OsString::from(".");
        name.push(output.file_name().unwrap_or_default());
        name.push(ENDING);
        output.with_file_name(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_cleared_away() {
        let place = tempfile::tempdir().unwrap();
        let output = place.path().join("out/");
        let first = Scratch::of(&output).unwrap();
        assert_eq!(first.directory(), place.path().join(".out.writing"));
        fs::write(first.directory().join("part"), "x").unwrap();
        std::mem::forget(first);
        let second = Scratch::of(&output).unwrap();
        assert_eq!(fs::read_dir(second.directory()).unwrap().count(), 0);
        drop(second);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
