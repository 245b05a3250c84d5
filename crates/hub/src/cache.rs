//! The cache of one repository, in the layout of huggingface_hub:
//!
//! ```text
//! models--ORGANISATION--NAME/      or datasets--…
//!   blobs/ETAG                     contents, under the name the hub gives them
//!   snapshots/COMMIT/config.json   a relative link to a blob
//!   refs/main                      the commit that a branch or tag pointed to
//!   trees/COMMIT.json              listing of the commit's files, for data sets
//! .locks/models--ORGANISATION--NAME/ETAG.lock
//! ```
//!
//! On file systems without symbolic links, a snapshot holds hard links or copies instead, which both programs read.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lopper_record::{Context, Error, Fault, Progress, Result, write_atomic};

use crate::client::{Failure, pause};
use crate::id::{HubId, is_commit};

/// A reference file holds a commit's hash and some white space.
const MAX_REF_BYTES: u64 = 256;

pub(crate) struct Cache {
    root: PathBuf,
    folder: String,
}

impl Cache {
    pub fn new(root: &Path, repository: &HubId) -> Self {
        // Links and messages need an absolute path.
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

    /// The file with the listing of a commit.
    pub fn tree(&self, commit: &str) -> PathBuf {
        self.directory().join("trees").join(format!("{commit}.json"))
    }

    /// The commit that `revision` points to, if the cache has it.
    pub fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = String::from_utf8(read_up_to(&self.reference(revision), MAX_REF_BYTES).ok()?).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// The commit of `repository` that has a snapshot here.
    ///
    /// # Errors
    /// A [`Fault`] if there is none.
    pub fn cached_commit(&self, repository: &HubId) -> Result<String> {
        let (noun, id, revision) = (repository.noun(), &repository.id, repository.wanted_revision());
        if let Some(commit) = self.commit_of(revision).filter(|commit| self.snapshot(commit).is_dir()) {
            return Ok(commit);
        }
        let others = self.directory().join("snapshots").is_dir();
        Err(Fault::new(format!("the {noun} {id} is not in the cache, and only the cache may be used"))
            .file(self.directory())
            .expected(format!("{}the revision `{revision}` in the cache", repository.or_directory()))
            .got(if others { "other revisions".to_owned() } else { format!("nothing of this {noun}") })
            .hint("run it once without --offline (and HF_HUB_OFFLINE), or name a revision that is in the cache")
            .into())
    }

    /// The fault of a snapshot without `file`.
    pub fn incomplete(&self, repository: &HubId, commit: &str, file: &str) -> Fault {
        Fault::new(format!("{} is in the cache only in part", repository.id))
            .file(self.snapshot(commit))
            .expected(file)
            .got(format!("no {file}"))
            .hint("run it once without --offline (and HF_HUB_OFFLINE); it resumes the download")
    }

    /// Records that `revision` points to `commit`.
    pub fn set_reference(&self, revision: &str, commit: &str) -> Result<()> {
        if self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        write_atomic(&self.reference(revision), commit.as_bytes())
    }

    /// The file of a reference. Revisions are checked when they are parsed, so it is below `refs`.
    fn reference(&self, revision: &str) -> PathBuf {
        revision.split('/').fold(self.directory().join("refs"), |path, part| path.join(part))
    }

    /// The file of the contents named `etag`.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.directory().join("blobs").join(etag)
    }

    /// The file of an unfinished download of them.
    pub fn partial(&self, etag: &str) -> PathBuf {
        self.directory().join("blobs").join(format!("{etag}.incomplete"))
    }

    /// Creates the directories that downloads need.
    pub fn prepare(&self) -> Result<()> {
        let locks = self.root.join(".locks").join(&self.folder);
        for directory in [self.directory().join("blobs"), locks] {
            fs::create_dir_all(&directory).map_err(|error| {
                Fault::new("the cache of downloads from the hub cannot be written")
                    .file(&directory)
                    .expected("a directory that can be written")
                    .got(error.to_string())
                    .hint("set HF_HUB_CACHE or HF_HOME to another directory")
            })?;
        }
        Ok(())
    }

    /// Checks that the cache's disk has room for `bytes` more.
    ///
    /// # Errors
    /// A [`Fault`] if it has not.
    pub fn check_space(&self, bytes: u64) -> Result<()> {
        // Where the system does not report free space, writing fails if there is none.
        let Ok(free) = fs4::available_space(self.directory()) else { return Ok(()) };
        if bytes <= free {
            return Ok(());
        }
        Err(Fault::new("not enough disk space for the download")
            .file(self.directory())
            .expected(format!("{bytes} bytes free"))
            .got(format!("{free} bytes"))
            .hint("free some space, or name a cache on another disk with HF_HUB_CACHE")
            .into())
    }

    /// Waits until no other program downloads the same contents. The lock is released when the returned file is closed.
    pub fn lock(&self, etag: &str, progress: &dyn Progress) -> Result<File, Failure> {
        let path = self.root.join(".locks").join(&self.folder).join(format!("{etag}.lock"));
        let failed =
            |error: io::Error| Failure::Stopped(Error::from(error).context(format!("locking {}", path.display())));
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        let mut warned = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut warned, true) {
                        progress.warn("waiting for another program that downloads the same file");
                    }
                    pause(Duration::from_millis(300), progress)?;
                }
                // Some network file systems have no locks. huggingface_hub continues without one, too.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// Links the file `path` of `commit` to the contents named `etag`. `path` has been checked.
    pub fn link(&self, etag: &str, commit: &str, path: &str) -> Result<()> {
        let link = path.split('/').fold(self.snapshot(commit), |at, part| at.join(part));
        let directory = link.parent().context("a file in no directory")?;
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        let up = "../".repeat(2 + path.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        let blob = self.blob(etag);
        // Made under a temporary name and renamed, which replaces a dangling link.
        let temporary = tempfile::Builder::new()
            .prefix(".")
            .make_in(directory, |temporary| {
                symlink(&target, temporary).or_else(|_| fs::hard_link(&blob, temporary)).or_else(|error| {
                    // A name that is taken is no reason to copy over it: `make_in` tries another.
                    if temporary.symlink_metadata().is_ok() {
                        Err(error)
                    } else {
                        fs::copy(&blob, temporary).map(|_| ())
                    }
                })
            })
            .with_context(|| format!("linking {}", link.display()))?;
        temporary.persist(&link).map_err(|error| error.error).with_context(|| format!("linking {}", link.display()))?;
        Ok(())
    }
}

/// The contents of a file, cut at `most` bytes.
pub(crate) fn read_up_to(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
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
    use lopper_record::NoProgress;
    use lopper_testkit::RecordedProgress;

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    fn cache(root: &Path) -> Cache {
        let cache = Cache::new(root, &HubId::parse("org/name").unwrap().unwrap());
        cache.prepare().unwrap();
        cache
    }

    #[test]
    fn references_and_invalid_ones() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        assert_eq!(cache.commit_of("main"), None);
        cache.set_reference("refs/pr/1", COMMIT).unwrap();
        assert_eq!(cache.commit_of("refs/pr/1").as_deref(), Some(COMMIT));
        assert_eq!(cache.commit_of(COMMIT).as_deref(), Some(COMMIT));
        fs::write(dir.path().join("models--org--name/refs/main"), "../../../etc").unwrap();
        assert_eq!(cache.commit_of("main"), None, "a reference that is not a commit");
    }

    #[test]
    fn links_are_relative_and_replace_dangling_ones() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        for path in ["config.json", "additional_chat_templates/x.jinja"] {
            cache.link("abc", COMMIT, path).unwrap();
            let link = cache.snapshot(COMMIT).join(path);
            assert!(!link.exists(), "the blob is not there yet");
            fs::write(cache.blob("abc"), "contents").unwrap();
            cache.link("abc", COMMIT, path).unwrap();
            assert_eq!(fs::read_to_string(&link).unwrap(), "contents");
            fs::remove_file(cache.blob("abc")).unwrap();
        }
        let names = fs::read_dir(cache.snapshot(COMMIT)).unwrap().count();
        assert_eq!(names, 2, "no temporary file is left");
    }

    #[test]
    fn a_lock_holds_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        let held = cache.lock("abc", &NoProgress).unwrap();
        assert!(cache.lock("abc", &RecordedProgress::interrupting_at(1)).is_err());
        drop(held);
        cache.lock("abc", &NoProgress).unwrap();
    }

    #[test]
    fn a_full_disk_is_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        cache.check_space(1).unwrap();
        assert!(cache.check_space(u64::MAX).unwrap_err().fault().is_some());
    }
}
