//! The cache of one repository, in the layout of huggingface_hub:
//!
//! ```text
//! models--ORGANISATION--NAME/      or datasets--…
//!   blobs/ETAG                     contents, under the name the hub gives them
//!   snapshots/COMMIT/config.json   a relative link to a blob
//!   refs/main                      the commit that a branch or tag stood at
//!   trees/COMMIT.json              what the commit holds, of data sets
//! .locks/models--ORGANISATION--NAME/ETAG.lock
//! ```
//!
//! Where the file system knows no links, a snapshot holds hard links or copies instead, which both
//! programs read as well.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use lopper_record::{Fault, write_atomic};

use crate::client::{Failure, rest};
use crate::id::{HubId, is_commit};
use crate::watch::Watch;

/// A commit's hash and some white space.
const MAX_REF_BYTES: u64 = 256;

pub(crate) struct Cache {
    root: PathBuf,
    folder: String,
}

impl Cache {
    pub fn new(root: &Path, repository: &HubId) -> Self {
        // Links and messages need a path that holds wherever it is read.
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
        Self { root, folder: repository.folder() }
    }

    /// The repository's directory.
    pub fn directory(&self) -> PathBuf {
        self.root.join(&self.folder)
    }

    /// The directory of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.directory().join("snapshots").join(commit)
    }

    /// Where the listing of a commit lies.
    pub fn tree(&self, commit: &str) -> PathBuf {
        self.directory().join("trees").join(format!("{commit}.json"))
    }

    /// The commit that is meant by `revision`, as far as the cache knows.
    pub fn commit_of(&self, revision: &str) -> Option<String> {
        use std::io::Read;
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let mut text = String::new();
        let file = File::open(self.reference(revision)).ok()?;
        file.take(MAX_REF_BYTES).read_to_string(&mut text).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Remembers that `revision` stands at `commit`.
    pub fn remember(&self, revision: &str, commit: &str) -> Result<()> {
        if self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        write_atomic(&self.reference(revision), commit.as_bytes())
    }

    /// Revisions are checked when they are parsed: this stays below `refs`.
    fn reference(&self, revision: &str) -> PathBuf {
        revision.split('/').fold(self.directory().join("refs"), |path, part| path.join(part))
    }

    /// Where the contents named `etag` lie.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.directory().join("blobs").join(etag)
    }

    /// Where they grow.
    pub fn partial(&self, etag: &str) -> PathBuf {
        self.directory().join("blobs").join(format!("{etag}.incomplete"))
    }

    /// Creates the directories that downloads need.
    pub fn prepare(&self) -> Result<()> {
        let locks = self.root.join(".locks").join(&self.folder);
        for directory in [self.directory().join("blobs"), locks] {
            fs::create_dir_all(&directory).map_err(|error| {
                Fault::new("the cache for what comes from the hub cannot be written")
                    .file(&directory)
                    .expected("a directory that can be written")
                    .got(error.to_string())
                    .hint("HF_HUB_CACHE or HF_HOME names another place")
            })?;
        }
        Ok(())
    }

    /// Faults if the cache's disk has no room for `bytes` more.
    pub fn check_space(&self, bytes: u64) -> Result<()> {
        // Where the system cannot tell, writing itself will.
        let Ok(free) = fs4::available_space(self.directory()) else { return Ok(()) };
        if bytes <= free {
            return Ok(());
        }
        Err(Fault::new("there is not enough room on the disk for the download")
            .file(self.directory())
            .expected(format!("{bytes} bytes free"))
            .got(format!("{free} bytes"))
            .hint("free some space, or name a cache on another disk with HF_HUB_CACHE")
            .into())
    }

    /// Waits until no other program downloads the same contents. The lock ends with the returned
    /// file, or with the process.
    pub fn lock(&self, etag: &str, watch: &dyn Watch) -> Result<File, Failure> {
        let path = self.root.join(".locks").join(&self.folder).join(format!("{etag}.lock"));
        let failed = |error: io::Error| {
            Failure::Stopped(anyhow::Error::from(error).context(format!("locking {}", path.display())))
        };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        watch.warn("waiting for another program that downloads the same file");
                        told = true;
                    }
                    rest(Duration::from_millis(300), watch)?;
                }
                // Some network file systems have no locks. Python's programs go on there as well.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// Lets the file `path` of `commit` be the contents named `etag`. `path` has been checked.
    pub fn link(&self, etag: &str, commit: &str, path: &str) -> Result<()> {
        let place = path.split('/').fold(self.snapshot(commit), |at, part| at.join(part));
        let directory = place.parent().context("a file in no directory")?;
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        let up = "../".repeat(2 + path.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        let blob = self.blob(etag);
        // Made aside and renamed: a link that is there is right, and one that dangles is replaced.
        let aside = tempfile::Builder::new()
            .prefix(".")
            .make_in(directory, |aside| {
                symlink(&target, aside).or_else(|_| fs::hard_link(&blob, aside)).or_else(|error| {
                    // Making a link where something stands is no reason to copy over it.
                    if aside.symlink_metadata().is_ok() { Err(error) } else { fs::copy(&blob, aside).map(|_| ()) }
                })
            })
            .with_context(|| format!("linking {}", place.display()))?;
        aside.persist(&place).map_err(|error| error.error).with_context(|| format!("linking {}", place.display()))?;
        Ok(())
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Silent;

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    fn cache(root: &Path) -> Cache {
        let cache = Cache::new(root, &HubId::parse("org/name").unwrap().unwrap());
        cache.prepare().unwrap();
        cache
    }

    #[test]
    fn references_and_what_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        assert_eq!(cache.commit_of("main"), None);
        cache.remember("refs/pr/1", COMMIT).unwrap();
        assert_eq!(cache.commit_of("refs/pr/1").as_deref(), Some(COMMIT));
        assert_eq!(cache.commit_of(COMMIT).as_deref(), Some(COMMIT));
        fs::write(dir.path().join("models--org--name/refs/main"), "../../../etc").unwrap();
        assert_eq!(cache.commit_of("main"), None, "a reference that is no commit");
    }

    #[test]
    fn links_are_relative_and_replace_what_dangles() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        for path in ["config.json", "additional_chat_templates/x.jinja"] {
            cache.link("abc", COMMIT, path).unwrap();
            let place = cache.snapshot(COMMIT).join(path);
            assert!(!place.exists(), "the blob is not there yet");
            fs::write(cache.blob("abc"), "contents").unwrap();
            cache.link("abc", COMMIT, path).unwrap();
            assert_eq!(fs::read_to_string(&place).unwrap(), "contents");
            fs::remove_file(cache.blob("abc")).unwrap();
        }
        let names = fs::read_dir(cache.snapshot(COMMIT)).unwrap().count();
        assert_eq!(names, 2, "nothing is left beside");
    }

    #[test]
    fn a_lock_holds_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        struct Once(std::cell::Cell<bool>);
        impl Watch for Once {
            fn check(&self) -> Result<()> {
                anyhow::ensure!(!self.0.replace(true), "enough");
                Ok(())
            }
        }
        let held = cache.lock("abc", &Silent).unwrap();
        assert!(cache.lock("abc", &Once(false.into())).is_err());
        drop(held);
        cache.lock("abc", &Silent).unwrap();
    }

    #[test]
    fn the_disk_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        cache.check_space(1).unwrap();
        assert!(cache.check_space(u64::MAX).unwrap_err().downcast_ref::<Fault>().is_some());
    }
}
