//! Downloads one file into the cache: resumes where an earlier download stopped, checks size and hash, then renames it.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use anyhow::anyhow;
use lopper_record::{Context, Error, Progress, Result, bail};

use crate::cache::Cache;
use crate::client::{Client, Failure, broken_off, pause};
use crate::digest::{Digest, Hasher};
use crate::faults::FailedRequest;
use crate::id::HubId;
use crate::listing::Listing;

/// Bytes read and written at a time.
const PIECE: usize = 1 << 18;
/// Broken connections in a row after which a download gives up. One that brought `GOOD_PART` bytes does not count.
const TRIES: usize = 4;
const GOOD_PART: u64 = 8 << 20;
const PAUSE: Duration = Duration::from_millis(500);

/// A file to download, as its headers describe it.
pub(crate) struct Planned {
    /// Its path in the repository.
    pub path: String,
    pub size: u64,
    url: String,
    etag: String,
    digest: Option<Digest>,
}

/// Downloads the files of one commit.
pub(crate) struct Transfer<'a> {
    pub client: &'a Client,
    pub cache: &'a Cache,
    pub repository: &'a HubId,
    pub listing: &'a Listing,
    pub progress: &'a dyn Progress,
}

/// Reports the download of one file within the step of all files.
pub(crate) struct FileProgress<'a> {
    step: &'a dyn Progress,
    /// `NAME (1 of 4`: the percentage and the closing parenthesis follow.
    label: String,
    /// Bytes of the file.
    size: u64,
    /// Bytes of the other files that are there.
    others: u64,
    percent: Cell<u64>,
}

impl<'a> FileProgress<'a> {
    pub fn new(step: &'a dyn Progress, label: String, size: u64, others: u64) -> Self {
        step.message(&format!("{label})"));
        Self { step, label, size, others, percent: Cell::new(0) }
    }

    /// `bytes` of the file are there.
    fn set(&self, bytes: u64) {
        let percent = (100.0 * bytes as f64 / self.size.max(1) as f64) as u64;
        if percent != self.percent.replace(percent) {
            self.step.message(&format!("{}, {percent} %)", self.label));
        }
        self.step.set(count(self.others.saturating_add(bytes)));
    }
}

/// A number of bytes as [`Progress`] counts.
pub(crate) fn count(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl Transfer<'_> {
    fn explain(&self, file: &str, failure: Failure) -> Error {
        FailedRequest { client: self.client, repository: self.repository, file: Some(file) }.explain(failure)
    }

    /// Requests the headers of the file `path`.
    pub fn plan(&self, path: &str) -> Result<Planned> {
        let wrong = |what: String| self.explain(path, Failure::Malformed(what));
        let commit = &self.listing.commit;
        let url = self.client.address(&format!("{}/resolve/{commit}/{}", self.repository.page(), escaped(path)));
        let head = self.client.head(&url, self.progress).map_err(|failure| self.explain(path, failure))?;
        if head.commit.as_ref().is_some_and(|other| other != commit) {
            return Err(wrong("the file is of another commit".to_owned()));
        }
        // The etag becomes a file name.
        let Some(etag) = head.etag.filter(|etag| is_etag(etag)) else {
            return Err(wrong("no usable ETag".to_owned()));
        };
        let listed = self.listing.files.get(path).cloned().unwrap_or_default();
        let size = match (head.size, listed.size) {
            (Some(a), Some(b)) if a != b => {
                return Err(wrong(format!("{a} bytes by the file's headers, {b} by the listing")));
            }
            (a, b) => a.or(b).ok_or_else(|| wrong("no size".to_owned()))?,
        };
        // The etag of a small file is a git hash on the hub, but a mirror may have its own.
        let digest = listed.digest.or_else(|| Digest::sha256(&etag).filter(|_| head.linked));
        Ok(Planned { path: path.to_owned(), size, url, etag, digest })
    }

    /// How many bytes of the file an earlier download left in the cache.
    pub fn found(&self, file: &Planned) -> u64 {
        if self.cache.blob(&file.etag).is_file() {
            return file.size;
        }
        fs::metadata(self.cache.partial(&file.etag)).map_or(0, |metadata| metadata.len()).min(file.size)
    }

    /// Puts the file into the snapshot.
    pub fn fetch(&self, file: &Planned, progress: &FileProgress<'_>) -> Result<()> {
        let _lock = self.cache.lock(&file.etag, self.progress).map_err(|failure| self.explain(&file.path, failure))?;
        let blob = self.cache.blob(&file.etag);
        if !blob.is_file() {
            self.download(file, progress)?;
            let partial = self.cache.partial(&file.etag);
            fs::rename(&partial, &blob).with_context(|| format!("renaming {}", partial.display()))?;
        }
        self.cache.link(&file.etag, &self.listing.commit, &file.path)
    }

    fn download(&self, file: &Planned, progress: &FileProgress<'_>) -> Result<()> {
        let path = self.cache.partial(&file.etag);
        let context = || format!("writing {}", path.display());
        let mut open =
            File::options().create(true).truncate(false).read(true).write(true).open(&path).with_context(context)?;
        let mut partial = Partial::empty(file);
        self.hash_partial(file, &mut open, &mut partial).with_context(context)?;
        let mut resumed = partial.bytes > 0;
        let mut tries = 0;
        loop {
            let before = partial.bytes;
            if partial.bytes < file.size {
                progress.set(partial.bytes);
                match self.receive(file, progress, &mut open, &mut partial) {
                    Ok(()) => {}
                    Err(failure) if is_transient(&failure) => {
                        tries = if partial.bytes >= before + GOOD_PART { 1 } else { tries + 1 };
                        if tries >= TRIES {
                            return Err(self.gave_up(file, partial.bytes, failure));
                        }
                        tracing::debug!(?failure, at = partial.bytes, "trying again");
                        pause(PAUSE * 2u32.pow(tries as u32 - 1), self.progress)
                            .map_err(|failure| self.explain(&file.path, failure))?;
                        continue;
                    }
                    Err(failure) => return Err(self.explain(&file.path, failure)),
                }
            }
            let Partial { hasher, bytes } = partial;
            let found = hasher.finish();
            if bytes == file.size && found == file.digest {
                return open.sync_all().with_context(context);
            }
            partial = Partial::empty(file);
            open.set_len(0).and_then(|()| open.rewind()).with_context(context)?;
            if !resumed {
                let _ = fs::remove_file(&path);
                let (expected, got) = (file.digest.as_ref(), found.as_ref());
                bail!(
                    "{} of {} arrived damaged: {} bytes with the hash {}, expected {} bytes with {}",
                    file.path,
                    self.repository.id,
                    bytes,
                    shown(got),
                    file.size,
                    shown(expected)
                );
            }
            // The part that was found may have been damaged.
            resumed = false;
        }
    }

    /// Hashes what an earlier download left.
    fn hash_partial(&self, file: &Planned, open: &mut File, partial: &mut Partial) -> Result<()> {
        if open.metadata()?.len() > file.size {
            open.set_len(0)?;
        }
        let mut piece = vec![0; PIECE];
        loop {
            self.progress.check()?;
            match open.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(n) => partial.add(&piece[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Appends what the server sends.
    fn receive(
        &self,
        file: &Planned,
        progress: &FileProgress<'_>,
        open: &mut File,
        partial: &mut Partial,
    ) -> Result<(), Failure> {
        let disk = |error: std::io::Error| {
            let path = self.cache.partial(&file.etag);
            Failure::Stopped(Error::from(error).context(format!("writing {}", path.display())))
        };
        let mut incoming = self.client.open(&file.url, partial.bytes)?;
        if incoming.start != partial.bytes {
            // The server does not support ranges: from the beginning.
            *partial = Partial::empty(file);
            open.set_len(0).map_err(disk)?;
        }
        open.seek(SeekFrom::Start(partial.bytes)).map_err(disk)?;
        let mut piece = vec![0; PIECE];
        loop {
            self.progress.check().map_err(Failure::Stopped)?;
            let n = match incoming.reader.read(&mut piece) {
                Ok(0) if partial.bytes < file.size => {
                    return Err(broken_off(&file.url, &ErrorKind::UnexpectedEof.into()));
                }
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken_off(&file.url, &error)),
            };
            if partial.bytes + n as u64 > file.size {
                // Any part of it may be the surplus, so nothing of it can be kept.
                open.set_len(0).map_err(disk)?;
                return Err(Failure::Malformed(format!("more than the {} bytes that were announced", file.size)));
            }
            open.write_all(&piece[..n]).map_err(disk)?;
            partial.add(&piece[..n]);
            progress.set(partial.bytes);
        }
    }

    fn gave_up(&self, file: &Planned, bytes: u64, failure: Failure) -> Error {
        let error = match failure {
            Failure::Unreachable { error, .. } => error,
            other => return self.explain(&file.path, other),
        };
        anyhow!(
            "the download of {} of {} failed {TRIES} times, at {bytes} of {} bytes ({error}); they are kept, and the same \
             command resumes there",
            file.path,
            self.repository.id,
            file.size
        )
        .into()
    }
}

/// The downloaded part of a file.
struct Partial {
    hasher: Hasher,
    bytes: u64,
}

impl Partial {
    fn empty(file: &Planned) -> Self {
        Self { hasher: Hasher::new(file.digest.as_ref(), file.size), bytes: 0 }
    }

    fn add(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
        self.bytes += piece.len() as u64;
    }
}

/// Whether a retry may succeed.
fn is_transient(failure: &Failure) -> bool {
    match failure {
        Failure::Unreachable { .. } => true,
        // 403 from the file store: the signature in the redirect has expired, and the hub gives a new one.
        Failure::Status(status) => status.is_transient() || (!status.at_hub && status.code == 403),
        Failure::Malformed(_) | Failure::Stopped(_) => false,
    }
}

/// Whether `etag` can be the name of a blob.
fn is_etag(etag: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    (1..=200).contains(&etag.len())
        && etag.chars().all(plain)
        && !etag.starts_with('.')
        && !etag.ends_with(".incomplete")
}

fn shown(digest: Option<&Digest>) -> &str {
    match digest {
        Some(Digest::Sha256(text) | Digest::Git(text)) => text,
        None => "(none)",
    }
}

/// A path of the repository, percent-encoded for an address.
pub(crate) fn escaped(path: &str) -> String {
    use std::fmt::Write;
    path.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
        text
    })
}
