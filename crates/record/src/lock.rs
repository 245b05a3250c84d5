//! Locks of a study directory. Several processes may work on one study: each holds the directory, and a cell is claimed
//! by the one that computes it. Readers need no lock, since every file appears whole.
//!
//! The operating system lets go of a lock when its process ends, however it ends, so a killed study leaves none behind.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Context, Fault, Result, with_ending};

const NAME: &str = ".lock";
/// Tenths of a second to wait for a process that is beginning.
const TRIES: usize = 20;

fn open(path: &Path) -> Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

/// Holds a study directory until it is dropped, together with other processes that do.
#[derive(Debug)]
pub struct StudyLock {
    _file: File,
}

impl StudyLock {
    /// Joins the processes that work in `directory`, which must exist. `first` runs before, if no other process holds
    /// it.
    ///
    /// # Errors
    /// A [`Fault`] when a process of an older version works there alone.
    pub fn join(directory: &Path, first: impl FnOnce()) -> Result<Self> {
        let path = directory.join(NAME);
        let file = open(&path)?;
        let context = || format!("cannot lock {}", path.display());
        match file.try_lock() {
            Ok(()) => {
                first();
                // Who takes it between these two finds nothing of ours to clear away.
                file.unlock().with_context(context)?;
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error).with_context(context),
        }
        for _ in 0..TRIES {
            match file.try_lock_shared() {
                Ok(()) => return Ok(Self { _file: file }),
                // Another process that begins just now holds it for a moment.
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(100)),
                Err(TryLockError::Error(error)) => return Err(error).with_context(context),
            }
        }
        Err(Fault::new("another process works on this study alone")
            .file(directory)
            .hint("wait until it ends, or choose another directory with --out")
            .into())
    }

    /// Whether no process works in `directory`; where its lock cannot be opened, nobody can.
    pub fn is_free(directory: &Path) -> bool {
        open(&directory.join(NAME)).is_ok_and(|file| file.try_lock().is_ok())
    }
}

/// A claim on one cell: this process computes it, others wait or do something else. Ends when it is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _file: File,
}

impl Claim {
    /// Claims what `path` names; none where another process has.
    pub(crate) fn take(path: PathBuf) -> Result<Option<Self>> {
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { path, _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }
}

/// Holds an output for this process until it is dropped, so that no two processes write one.
#[derive(Debug)]
pub struct OutputLock {
    _claim: Claim,
}

impl OutputLock {
    /// Takes the lock of the output `path`: the file of that name and `.lock`, which is removed at the end.
    ///
    /// # Errors
    /// A [`Fault`] while another process holds it, and where the file cannot be made.
    pub fn take(path: &Path) -> Result<Self> {
        let lock = with_ending(path, ".lock");
        if let Some(parent) = lock.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        match Claim::take(lock)? {
            Some(claim) => Ok(Self { _claim: claim }),
            None => Err(Fault::new("another process is writing this output")
                .file(path)
                .expected("one process for an output")
                .hint("wait until it ends, or choose another path")
                .into()),
        }
    }
}

/// Whether this process computes a cell.
#[derive(Debug)]
pub enum Claimed {
    /// It does.
    Now(Claim),
    /// Another process does, or it is not this cell's turn.
    ByOther,
    /// The cell is finished.
    Finished,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Whoever opened it just before claims a file without a name. Two may then compute a cell, to the same result.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_has_one_process() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("new/out");
        let lock = OutputLock::take(&out).unwrap();
        let fault = OutputLock::take(&out).unwrap_err().into_fault().unwrap();
        assert_eq!(fault.message, "another process is writing this output");
        OutputLock::take(&directory.path().join("other")).unwrap();
        drop(lock);
        OutputLock::take(&out).unwrap();
        assert_eq!(fs::read_dir(directory.path().join("new")).unwrap().count(), 0, "no lock stays");
    }
}
