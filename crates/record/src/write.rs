//! Outputs appear whole or not at all: written beside their place, synced, then renamed into it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::{Context, Fault, Result};

/// Writes `bytes` to `path`, creating its directory if needed. A reader sees the old file or the
/// new one, never a part; when writing fails nothing is left behind.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = parent_of(path);
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let mut file = temporary_in(&directory)?;
    file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
    file.as_file().sync_all().with_context(|| format!("cannot write {}", path.display()))?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    sync_directory(&directory);
    Ok(())
}

/// As [`write_atomic`], with what `write` writes bit by bit, and hands back what it returns. When it fails nothing is
/// left behind.
pub fn write_atomic_with<T>(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    let directory = parent_of(path);
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let mut file = temporary_in(&directory)?;
    let mut buffer = BufWriter::new(file.as_file_mut());
    let value = write(&mut buffer)?;
    buffer.flush().with_context(|| format!("cannot write {}", path.display()))?;
    drop(buffer);
    file.as_file().sync_all().with_context(|| format!("cannot write {}", path.display()))?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    sync_directory(&directory);
    Ok(value)
}

/// `path` with an ending added to its name: `out/` and `.partial` are `out.partial`.
pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.components().collect::<PathBuf>().into_os_string();
    name.push(ending);
    name.into()
}

/// Refuses an output that exists, unless `force`, and one that cannot be written. To be called before long work.
///
/// # Errors
/// A [`Fault`] that names the path.
pub fn ensure_new(path: &Path, force: bool) -> Result<()> {
    // A dangling link counts as existing: following it would write somewhere unexpected.
    if !force && path.symlink_metadata().is_ok() {
        return Err(Fault::new("the output already exists")
            .file(path)
            .expected("a path that does not exist yet")
            .hint("choose another path, or add --force to replace it")
            .into());
    }
    ensure_writable(&parent_of(path))
}

/// [`ensure_new`] for an output that is one file: a directory cannot be replaced by it.
///
/// # Errors
/// A [`Fault`] that names the path.
pub fn ensure_new_file(path: &Path, force: bool) -> Result<()> {
    ensure_new(path, force)?;
    if path.is_dir() {
        return Err(Fault::new("the output is a directory")
            .file(path)
            .expected("a file, or a path that does not exist yet")
            .hint("choose another path; --force replaces files only")
            .into());
    }
    Ok(())
}

/// Refuses a directory in which no file can be written, whether it is there or has yet to be made.
///
/// # Errors
/// A [`Fault`] that names the directory, or what is in its place.
pub fn ensure_writable(directory: &Path) -> Result<()> {
    let fault = |place: &Path, got: String| {
        let fault = Fault::new("the output cannot be written").file(place).got(got);
        fault.expected("a directory where files can be written").hint("choose another path").into()
    };
    // What is not there yet will be made in the nearest directory that is.
    let there = directory.ancestors().find(|place| place.as_os_str().is_empty() || place.symlink_metadata().is_ok());
    let place = there.filter(|place| !place.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !place.is_dir() {
        return Err(fault(place, "not a directory".to_owned()));
    }
    tempfile::tempfile_in(place).map(drop).map_err(|error| fault(place, error.kind().to_string()))
}

/// A temporary file in `directory` with the permissions of an ordinary new file.
fn temporary_in(directory: &Path) -> Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".").suffix(".partial");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The process's umask still applies.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory).with_context(|| format!("cannot write in {}", directory.display()))
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Makes a rename durable. Some file systems cannot sync a directory; the file's content is safe
/// by then, so a failure here is not one of the write.
fn sync_directory(directory: &Path) {
    if let Ok(handle) = File::open(directory) {
        let _ = handle.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/out.json");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("taken");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("x"), "").unwrap();
        assert!(write_atomic(&target, b"one").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn refuses_an_existing_output_without_force() {
        let dir = tempfile::tempdir().unwrap();
        ensure_new(&dir.path().join("free"), false).unwrap();
        let error = ensure_new(dir.path(), false).unwrap_err();
        assert!(error.fault().unwrap().hint.as_ref().unwrap().contains("--force"));
        ensure_new(dir.path(), true).unwrap();
        assert!(ensure_new_file(dir.path(), true).unwrap_err().fault().unwrap().message.contains("is a directory"));
    }

    #[test]
    fn refuses_an_output_that_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        ensure_new(&dir.path().join("not/there/yet"), false).unwrap();
        ensure_new(Path::new("no_such_file_here"), false).unwrap();
        for below in ["file/out", "file/deeper/out"] {
            for force in [false, true] {
                let error = ensure_new(&dir.path().join(below), force).unwrap_err();
                let fault = error.fault().unwrap();
                assert_eq!(fault.message, "the output cannot be written");
                assert_eq!(fault.file.as_deref(), Some(dir.path().join("file").as_path()), "{below}");
            }
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
