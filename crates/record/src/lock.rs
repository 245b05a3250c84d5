//! One writer for a study directory. Readers need no lock: every file in it appears whole.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::{Context, Fault, Result};

/// Holds a study directory for writing until it is dropped; the operating system lets go of it
/// when the process ends, however it ends, so a killed study leaves no stale lock.
#[derive(Debug)]
pub struct StudyLock {
    _file: File,
}

impl StudyLock {
    /// Takes the lock of `directory`, which must exist.
    ///
    /// # Errors
    /// A [`Fault`] when another process holds it.
    pub fn acquire(directory: &Path) -> Result<Self> {
        let path = directory.join(".lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Fault::new("another process is writing to this study")
                .file(directory)
                .hint("wait until it ends, or choose another directory with --out")
                .into()),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }
}
