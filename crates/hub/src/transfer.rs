//! One file from the hub into the cache: continued where an earlier download ended, compared with
//! the size and hash that the hub gives, and only then given its name.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};

use crate::cache::Cache;
use crate::client::{Client, Failure, broken_off, rest};
use crate::digest::{Digest, Hasher};
use crate::faults::Asked;
use crate::id::HubId;
use crate::listing::Listing;
use crate::watch::Watch;

/// Bytes read and written at a time.
const PIECE: usize = 1 << 18;
/// Broken connections in a row after which a download gives up; one that brought a good part of
/// the file does not count.
const TRIES: usize = 4;
const GOOD_PART: u64 = 8 << 20;
const PAUSE: Duration = Duration::from_millis(500);

/// A file that is to be fetched, as its headers describe it.
pub(crate) struct Planned {
    /// In the repository.
    pub path: String,
    pub size: u64,
    url: String,
    etag: String,
    digest: Option<Digest>,
}

/// What fetches the files of one commit.
pub(crate) struct Transfer<'a> {
    pub client: &'a Client,
    pub cache: &'a Cache,
    pub repository: &'a HubId,
    pub listing: &'a Listing,
    pub watch: &'a dyn Watch,
}

impl Transfer<'_> {
    fn explain(&self, file: &str, failure: Failure) -> Error {
        Asked { client: self.client, repository: self.repository, file: Some(file) }.explain(failure)
    }

    /// Asks what the file `path` is.
    pub fn plan(&self, path: &str) -> Result<Planned> {
        let wrong = |what: String| self.explain(path, Failure::Nonsense(what));
        let commit = &self.listing.commit;
        let url = self.client.address(&format!("{}/resolve/{commit}/{}", self.repository.page(), escaped(path)));
        let head = self.client.head(&url, self.watch).map_err(|failure| self.explain(path, failure))?;
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

    /// How many bytes of the file are still to come.
    pub fn missing(&self, file: &Planned) -> u64 {
        if self.cache.blob(&file.etag).is_file() {
            return 0;
        }
        let there = fs::metadata(self.cache.partial(&file.etag)).map_or(0, |metadata| metadata.len());
        file.size.saturating_sub(there)
    }

    /// Puts the file into the snapshot. `before` bytes of other files are there already.
    pub fn fetch(&self, file: &Planned, before: u64) -> Result<()> {
        let _lock = self.cache.lock(&file.etag, self.watch).map_err(|failure| self.explain(&file.path, failure))?;
        let blob = self.cache.blob(&file.etag);
        if !blob.is_file() {
            self.download(file, before)?;
            let partial = self.cache.partial(&file.etag);
            fs::rename(&partial, &blob).with_context(|| format!("renaming {}", partial.display()))?;
        }
        self.cache.link(&file.etag, &self.listing.commit, &file.path)
    }

    fn download(&self, file: &Planned, before: u64) -> Result<()> {
        let path = self.cache.partial(&file.etag);
        let context = || format!("writing {}", path.display());
        let mut open =
            File::options().create(true).truncate(false).read(true).write(true).open(&path).with_context(context)?;
        let mut growing = Growing { hasher: Hasher::new(file.digest.as_ref(), file.size), bytes: 0 };
        self.take_up(file, &mut open, &mut growing).with_context(context)?;
        let mut continued = growing.bytes > 0;
        let mut tries = 0;
        loop {
            let begun_at = growing.bytes;
            if growing.bytes < file.size {
                self.watch.at(growing.bytes, before + growing.bytes);
                match self.receive(file, before, &mut open, &mut growing) {
                    Ok(()) => {}
                    Err(failure) if passes(&failure) => {
                        tries = if growing.bytes >= begun_at + GOOD_PART { 1 } else { tries + 1 };
                        if tries >= TRIES {
                            return Err(self.gave_up(file, growing.bytes, failure));
                        }
                        tracing::debug!(?failure, at = growing.bytes, "trying again");
                        rest(PAUSE * 2u32.pow(tries as u32 - 1), self.watch)
                            .map_err(|failure| self.explain(&file.path, failure))?;
                        continue;
                    }
                    Err(failure) => return Err(self.explain(&file.path, failure)),
                }
            }
            let Growing { hasher, bytes } = growing;
            let found = hasher.finish();
            if bytes == file.size && found == file.digest {
                return open.sync_all().with_context(context);
            }
            growing = Growing { hasher: Hasher::new(file.digest.as_ref(), file.size), bytes: 0 };
            open.set_len(0).and_then(|()| open.rewind()).with_context(context)?;
            if !continued {
                let _ = fs::remove_file(&path);
                let (expected, got) = (file.digest.as_ref(), found.as_ref());
                return Err(anyhow!(
                    "{} of {} arrived damaged: {} bytes with the hash {}, where the hub tells {} bytes with {}",
                    file.path,
                    self.repository.id,
                    bytes,
                    shown(got),
                    file.size,
                    shown(expected)
                ));
            }
            // What was there before may have been the damaged part.
            continued = false;
        }
    }

    /// Takes what an earlier download left into account.
    fn take_up(&self, file: &Planned, open: &mut File, growing: &mut Growing) -> Result<()> {
        if open.metadata()?.len() > file.size {
            open.set_len(0)?;
        }
        let mut piece = vec![0; PIECE];
        loop {
            self.watch.check()?;
            match open.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(n) => growing.add(&piece[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Appends what the server sends.
    fn receive(&self, file: &Planned, before: u64, open: &mut File, growing: &mut Growing) -> Result<(), Failure> {
        let disk = |error: std::io::Error| {
            let path = self.cache.partial(&file.etag);
            Failure::Stopped(Error::from(error).context(format!("writing {}", path.display())))
        };
        let mut incoming = self.client.open(&file.url, growing.bytes)?;
        if incoming.start != growing.bytes {
            // The server cannot continue a file: from the beginning.
            *growing = Growing { hasher: Hasher::new(file.digest.as_ref(), file.size), bytes: 0 };
            open.set_len(0).map_err(disk)?;
        }
        open.seek(SeekFrom::Start(growing.bytes)).map_err(disk)?;
        let mut piece = vec![0; PIECE];
        loop {
            self.watch.check().map_err(Failure::Stopped)?;
            let n = match incoming.reader.read(&mut piece) {
                Ok(0) if growing.bytes < file.size => {
                    return Err(broken_off(&file.url, &ErrorKind::UnexpectedEof.into()));
                }
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken_off(&file.url, &error)),
            };
            if growing.bytes + n as u64 > file.size {
                // Nobody knows where the surplus is; what there is of the file is of no use.
                open.set_len(0).map_err(disk)?;
                return Err(Failure::Nonsense(format!("more than the {} bytes it tells", file.size)));
            }
            open.write_all(&piece[..n]).map_err(disk)?;
            growing.add(&piece[..n]);
            self.watch.at(growing.bytes, before + growing.bytes);
        }
    }

    fn gave_up(&self, file: &Planned, bytes: u64, failure: Failure) -> Error {
        let error = match failure {
            Failure::Unreachable { error, .. } => error,
            other => return self.explain(&file.path, other),
        };
        anyhow!(
            "the download of {} of {} broke off {TRIES} times, at {bytes} of {} bytes ({error}); what is there is kept, \
             and the same command goes on from there",
            file.path,
            self.repository.id,
            file.size
        )
    }
}

/// What there is of a file.
struct Growing {
    hasher: Hasher,
    bytes: u64,
}

impl Growing {
    fn add(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
        self.bytes += piece.len() as u64;
    }
}

/// Whether another try may bring the file.
fn passes(failure: &Failure) -> bool {
    match failure {
        Failure::Unreachable { .. } => true,
        // 403 from the store: the signature in the redirect ran out, and the hub gives a new one.
        Failure::Status(status) => status.passes() || (!status.at_hub && status.code == 403),
        Failure::Nonsense(_) | Failure::Stopped(_) => false,
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

/// A path of the repository as part of an address.
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
