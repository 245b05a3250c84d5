//! The store of finished cells. A cell is one unit of a study's work, such as one model evaluated
//! on one task; it is written the moment it finishes and found again by a hash of everything that
//! changes its result, so an interrupted study continues where it stopped and a repeated one
//! computes nothing.
//!
//! A cell is `DIR/cells/<kind>-<first 16 hex digits of the hash>.json`:
//! `{"key": …, "hash": …, "kind": …, "value": …, "wall_s": …, "lopper": …}`. The key is stored
//! whole and compared when read, so neither a shortened hash nor a file copied to a wrong name can
//! hand out another cell's result. A file that cannot be read as the cell it should be counts as
//! absent and leaves a warning. The version of Lopper is recorded and not compared: what changes a
//! result belongs into the key.
//!
//! Several processes may work in one directory. Who computes a cell claims it first; the others compute
//! other cells, or wait for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Claim, Claimed, Context, Progress, Result, StudyLock, canonical_json, ensure, ensure_writable, key_hash,
    write_atomic,
};

/// Largest cell that is read; results are small, and the files are not trusted.
const MAX_CELL_BYTES: u64 = 256 << 20;

/// How often a cell that another process computes is looked for.
const WAIT: Duration = Duration::from_millis(200);

/// A finished cell as it lies on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cell {
    /// What changes the result.
    pub key: Value,
    /// blake3 of the key's canonical JSON.
    pub hash: String,
    /// What was done, such as `eval`.
    pub kind: String,
    /// The result.
    pub value: Value,
    /// How long it took, in seconds.
    #[serde(with = "crate::finite")]
    pub wall_s: f64,
    /// The version of Lopper that computed it.
    pub lopper: String,
}

/// What [`Store::run`] hands back.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished<T> {
    /// The result.
    pub value: T,
    /// How long it took when it was computed, in seconds.
    pub wall_s: f64,
    /// Whether it was found finished.
    pub cached: bool,
}

/// The cells of one study directory.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// None where the store is only read.
    _lock: Option<StudyLock>,
    warnings: Mutex<Vec<String>>,
}

impl Store {
    /// Opens a study directory for reading and writing, creating it if needed.
    ///
    /// # Errors
    /// A [`Fault`](crate::Fault) when nothing can be written there.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref().to_path_buf();
        ensure_writable(&directory)?;
        let cells = directory.join("cells");
        fs::create_dir_all(&cells).with_context(|| format!("cannot create {}", cells.display()))?;
        let lock = StudyLock::join(&directory, || {
            remove_partial(&directory);
            remove_partial(&cells);
        })?;
        Ok(Self { directory, _lock: Some(lock), warnings: Mutex::default() })
    }

    /// A study directory of which only the finished cells are wanted; it need not exist, and nothing is written.
    pub fn read_only(directory: impl AsRef<Path>) -> Self {
        Self { directory: directory.as_ref().to_path_buf(), _lock: None, warnings: Mutex::default() }
    }

    /// The study directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the cell of this key lies, whether it is finished or not. With another `extension`
    /// than `json`, the place for a large file that belongs to the cell, such as an adapter:
    /// write it before the cell, so that a finished cell has it.
    pub fn path(&self, kind: &str, key: &impl Serialize, extension: &str) -> Result<PathBuf> {
        Ok(self.path_of(kind, &key_hash(key)?, extension))
    }

    fn path_of(&self, kind: &str, hash: &str, extension: &str) -> PathBuf {
        self.directory.join("cells").join(format!("{kind}-{}.{extension}", &hash[..16]))
    }

    /// The result of the cell with this key, if it is finished and readable.
    pub fn get<T: DeserializeOwned>(&self, kind: &str, key: &impl Serialize) -> Result<Option<T>> {
        Ok(self.find(kind, key)?.map(|(value, _)| value))
    }

    fn find<T: DeserializeOwned>(&self, kind: &str, key: &impl Serialize) -> Result<Option<(T, f64)>> {
        check_kind(kind)?;
        let wanted = canonical_json(key)?;
        let hash = blake3::hash(wanted.as_bytes()).to_hex().to_string();
        let path = self.path_of(kind, &hash, "json");
        let Some(cell) = self.read(&path) else {
            return Ok(None);
        };
        if cell.kind != kind || canonical_json(&cell.key)? != wanted {
            self.warn(format!("{}: holds another cell; it is computed again", path.display()));
            return Ok(None);
        }
        match serde_json::from_value(cell.value) {
            Ok(value) => Ok(Some((value, cell.wall_s))),
            Err(error) => {
                self.warn(format!("{}: {error}; the cell is computed again", path.display()));
                Ok(None)
            }
        }
    }

    /// Records a finished cell. The file appears whole or not at all.
    pub fn put(&self, kind: &str, key: &impl Serialize, value: &impl Serialize, wall_s: f64) -> Result<()> {
        check_kind(kind)?;
        let key = serde_json::to_value(key).context("a key cannot be written as JSON")?;
        let hash = key_hash(&key)?;
        let path = self.path_of(kind, &hash, "json");
        let value = serde_json::to_value(value).context("a result cannot be written as JSON")?;
        let cell = Cell { key, hash, kind: kind.into(), value, wall_s, lopper: env!("CARGO_PKG_VERSION").into() };
        write_atomic(&path, &serde_json::to_vec(&cell)?)
    }

    /// Claims the cell of this key for this process; none where another process computes it.
    ///
    /// # Errors
    /// Where the directory cannot be written.
    pub fn claim(&self, kind: &str, key: &impl Serialize) -> Result<Option<Claim>> {
        check_kind(kind)?;
        Claim::take(self.path_of(kind, &key_hash(key)?, "claim"))
    }

    /// Waits a moment for what another process computes.
    ///
    /// # Errors
    /// [`Interrupted`](crate::Interrupted).
    pub fn wait(progress: &dyn Progress) -> Result<()> {
        std::thread::sleep(WAIT);
        progress.check()
    }

    /// Takes those out of `missing` that this process is to compute, at most `most`, with their claims: those that
    /// `claim` claims. What is finished is taken out as well, and what other processes compute is left; where that is
    /// all, waits a moment and takes nothing.
    ///
    /// # Errors
    /// Those of `claim`; [`Interrupted`](crate::Interrupted).
    pub fn claim_some<T>(
        missing: &mut Vec<T>,
        most: usize,
        progress: &dyn Progress,
        mut claim: impl FnMut(&T) -> Result<Claimed>,
    ) -> Result<(Vec<T>, Vec<Claim>)> {
        let (mut own, mut claims, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for item in std::mem::take(missing) {
            match if own.len() < most { claim(&item)? } else { Claimed::ByOther } {
                Claimed::Now(claimed) => {
                    claims.push(claimed);
                    own.push(item);
                }
                Claimed::ByOther => left.push(item),
                Claimed::Finished => {}
            }
        }
        *missing = left;
        if own.is_empty() && !missing.is_empty() {
            Self::wait(progress)?;
        }
        Ok((own, claims))
    }

    /// The result of the cell with this key: found finished, or computed now and recorded. A cell that another process
    /// computes is waited for.
    ///
    /// # Errors
    /// Those of `compute`; [`Interrupted`](crate::Interrupted).
    pub fn run<T: Serialize + DeserializeOwned>(
        &self,
        kind: &str,
        key: &impl Serialize,
        progress: &dyn Progress,
        compute: impl FnOnce() -> Result<T>,
    ) -> Result<Finished<T>> {
        let _claim = loop {
            if let Some((value, wall_s)) = self.find(kind, key)? {
                return Ok(Finished { value, wall_s, cached: true });
            }
            match self.claim(kind, key)? {
                Some(claim) => break claim,
                None => Self::wait(progress)?,
            }
        };
        // It may have been finished between the look and the claim.
        if let Some((value, wall_s)) = self.find(kind, key)? {
            return Ok(Finished { value, wall_s, cached: true });
        }
        let start = Instant::now();
        let value = compute()?;
        let wall_s = start.elapsed().as_secs_f64();
        self.put(kind, key, &value, wall_s)?;
        Ok(Finished { value, wall_s, cached: false })
    }

    /// Every readable cell, in the order of the file names.
    pub fn cells(&self) -> Result<Vec<Cell>> {
        let directory = self.directory.join("cells");
        let mut paths = Vec::new();
        for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
            let path = entry?.path();
            let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            if !hidden && path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        Ok(paths.iter().filter_map(|path| self.read(path)).collect())
    }

    /// Takes the warnings that have come up since the last call, for whoever speaks to the user.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps a warning until [`Store::take_warnings`]; one that is there already is not repeated.
    pub fn warn(&self, text: String) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    fn read(&self, path: &Path) -> Option<Cell> {
        let size = fs::metadata(path).ok()?.len();
        let cell = if size > MAX_CELL_BYTES {
            Err(anyhow::anyhow!("too large for a cell ({size} bytes)"))
        } else {
            fs::read(path).map_err(Into::into).and_then(|bytes| Ok(serde_json::from_slice::<Cell>(&bytes)?))
        };
        cell.map_err(|error| self.warn(format!("{}: {error}; the cell counts as not finished", path.display()))).ok()
    }
}

/// The kind is part of a file name.
fn check_kind(kind: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    ensure!(!kind.is_empty() && kind.len() <= 40 && kind.bytes().all(plain), "`{kind}` cannot be the kind of a cell");
    Ok(())
}

/// Clears away what a killed process was writing. Only called while no other process works there.
fn remove_partial(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "partial" || extension == "claim") {
            // A model is a directory, everything else a file.
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }
}
