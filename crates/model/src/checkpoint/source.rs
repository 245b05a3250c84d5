//! Where a checkpoint's files come from: a directory, whose weights are memory-mapped, or bytes
//! compiled into the program.
//!
//! Not covered: a file that another program shortens while it is mapped; reading beyond its new
//! end ends the process, as with every memory-mapped format.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use lopper_record::{Context, Fault, Result};
use memmap2::Mmap;

use crate::hf::{CONFIG, MAX_SIDE_FILE_BYTES};

/// The files of an embedded model: names and contents.
pub type EmbeddedFiles = &'static [(&'static str, &'static [u8])];

/// A directory or an embedded model.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Directory(PathBuf),
    Embedded(EmbeddedFiles),
}

/// The bytes of one weights file.
pub(super) enum Bytes {
    Mapped(Mmap),
    Static(&'static [u8]),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Static(bytes) => bytes,
        }
    }
}

impl Bytes {
    /// Gives back the memory of mapped pages that lie wholly in `range`.
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = self {
            // The page that a block ends in is often the page that the next one begins in; rounding
            // down lets that block, or the next pass, give it back.
            const PAGE: usize = 1 << 12;
            let (start, end) = (range.start / PAGE * PAGE, range.end / PAGE * PAGE);
            if end > start {
                // SAFETY: the map is of a file and never written to, so dropped pages read the same
                // when they are touched again. Failure means that they stay.
                let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

impl Source {
    /// The directory `dir`, if it is there.
    pub fn directory(dir: &Path) -> Result<Self> {
        let metadata = match fs::metadata(dir) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(not_found(dir).into());
            }
            Err(error) => {
                return Err(Fault::new("the model cannot be read").file(dir).got(error.to_string()).into());
            }
        };
        if metadata.is_dir() {
            return Ok(Source::Directory(dir.to_path_buf()));
        }
        let hint = match dir.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => "give the directory that holds it, with its config.json",
            Some("gguf") => "GGUF files are not read; give the Hugging Face model they came from",
            _ => "a model is a directory with config.json and model.safetensors",
        };
        Err(Fault::new("a model is a directory, and this is not one")
            .file(dir)
            .expected("a Hugging Face model directory")
            .got("a file")
            .hint(hint)
            .into())
    }

    /// The path that names `file` in messages.
    pub fn path_of(&self, file: &str) -> PathBuf {
        match self {
            Source::Directory(dir) => dir.join(file),
            Source::Embedded(_) => Path::new("(embedded)").join(file),
        }
    }

    /// The path that names the model in messages.
    pub fn path(&self) -> PathBuf {
        match self {
            Source::Directory(dir) => dir.clone(),
            Source::Embedded(_) => PathBuf::from("(embedded)"),
        }
    }

    /// Whether `file` is there and is a plain file (or a link to one).
    pub fn has(&self, file: &str) -> bool {
        match self {
            Source::Directory(dir) => dir.join(file).is_file(),
            Source::Embedded(files) => files.iter().any(|(name, _)| *name == file),
        }
    }

    /// The names of all plain files, sorted.
    pub fn list(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        match self {
            Source::Directory(dir) => {
                for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
                    let entry = entry.with_context(|| dir.display().to_string())?;
                    // A name that is not Unicode belongs to no file of a model directory.
                    if let Ok(name) = entry.file_name().into_string()
                        && dir.join(&name).is_file()
                    {
                        names.push(name);
                    }
                }
            }
            Source::Embedded(files) => {
                names.extend(files.iter().map(|(name, _)| (*name).to_owned()));
            }
        }
        names.sort();
        Ok(names)
    }

    /// The contents of a side file; `None` if it is not there.
    pub fn read(&self, file: &str) -> Result<Option<Cow<'static, [u8]>>> {
        match self {
            Source::Embedded(files) => {
                let found = files.iter().find(|(name, _)| *name == file);
                Ok(found.map(|(_, bytes)| Cow::Borrowed(*bytes)))
            }
            Source::Directory(dir) => {
                if !self.has(file) {
                    return Ok(None);
                }
                let path = dir.join(file);
                let mut bytes = Vec::new();
                File::open(&path)
                    .and_then(|open| open.take(MAX_SIDE_FILE_BYTES + 1).read_to_end(&mut bytes))
                    .map_err(|error| Fault::new("the file cannot be read").file(&path).got(error.to_string()))?;
                if bytes.len() as u64 > MAX_SIDE_FILE_BYTES {
                    return Err(Fault::new("the file is too large")
                        .file(&path)
                        .expected(format!("at most {MAX_SIDE_FILE_BYTES} bytes"))
                        .into());
                }
                Ok(Some(Cow::Owned(bytes)))
            }
        }
    }

    /// The bytes of a weights file that is known to be there.
    pub fn open(&self, file: &str) -> Result<Bytes> {
        match self {
            Source::Embedded(files) => {
                let found = files.iter().find(|(name, _)| *name == file);
                let (_, bytes) = found.with_context(|| format!("no embedded file {file}"))?;
                Ok(Bytes::Static(bytes))
            }
            Source::Directory(dir) => {
                let path = dir.join(file);
                let fault =
                    |error: std::io::Error| Fault::new("the weights cannot be read").file(&path).got(error.to_string());
                let open = File::open(&path).map_err(fault)?;
                // Mapping nothing is an error on some systems; the header check speaks instead.
                if open.metadata().map_err(fault)?.len() == 0 {
                    return Ok(Bytes::Static(&[]));
                }
                // SAFETY: the map is only read. See the module header for what is not covered.
                let map = unsafe { Mmap::map(&open) }.map_err(fault)?;
                Ok(Bytes::Mapped(map))
            }
        }
    }
}

/// Bytes read at a time: they are hashed and written while they are still in the processor's cache.
const CHUNK: usize = 1 << 19;

/// Hands the bytes `range` of the file `path` to `take`, piece by piece.
pub(super) fn read_range(path: &Path, range: &Range<usize>, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start as u64))?;
    let mut buffer = vec![0; CHUNK.min(range.len())];
    let mut left = range.len();
    while left > 0 {
        let piece = &mut buffer[..CHUNK.min(left)];
        file.read_exact(piece)?;
        take(piece)?;
        left -= piece.len();
    }
    Ok(())
}

fn not_found(dir: &Path) -> Fault {
    Fault::new("there is no such model")
        .file(dir)
        .expected(format!("a directory with {CONFIG} and safetensors weights"))
        .hint("check the path; `organisation/name` is a model of the hub, and `pocket` the one that comes with lopper")
}
