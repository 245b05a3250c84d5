//! The files around the weights: tokenizer and other side files, and putting the finished directory
//! in its place.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use lopper_model::Checkpoint;
use lopper_record::{Fault, is_side_file};
use tempfile::{Builder, TempDir};

/// Where transformers keeps the chat templates of a model that has several.
const MORE_TEMPLATES: &str = "additional_chat_templates";
/// Room for everything but the weights.
const SPARE_BYTES: u64 = 64 << 20;

/// Copies the side files that belong to the pruned model too, byte for byte.
pub(super) fn copy_side_files(checkpoint: &Checkpoint, directory: &Path) -> Result<()> {
    for name in checkpoint.side_files()?.into_iter().filter(|name| is_side_file(name)) {
        if let Some(bytes) = checkpoint.file(&name)? {
            write(&directory.join(&name), &bytes)?;
        }
    }
    copy_templates(checkpoint, directory)
}

/// The one directory of side files. Others (`original`, `onnx`) hold the uncut weights once more.
fn copy_templates(checkpoint: &Checkpoint, directory: &Path) -> Result<()> {
    let Some(source) = checkpoint.directory().map(|source| source.join(MORE_TEMPLATES)) else { return Ok(()) };
    if !source.is_dir() {
        return Ok(());
    }
    let target = directory.join(MORE_TEMPLATES);
    fs::create_dir(&target).with_context(|| format!("creating {}", target.display()))?;
    for entry in fs::read_dir(&source).with_context(|| source.display().to_string())? {
        let name = entry.with_context(|| source.display().to_string())?.file_name();
        let Some(name) = name.to_str().filter(|name| name.ends_with(".jinja")) else { continue };
        if let Some(bytes) = checkpoint.file(&format!("{MORE_TEMPLATES}/{name}"))? {
            write(&target.join(name), &bytes)?;
        }
    }
    Ok(())
}

/// Writes a file and hands it to the disk.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let put = || -> std::io::Result<()> {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    put().with_context(|| format!("writing {}", path.display()))
}

/// Faults if the file system of `parent` has no room for a model of `weight_bytes`.
pub(super) fn check_space(parent: &Path, weight_bytes: u64) -> Result<()> {
    // Where the system cannot tell, writing itself will.
    let Ok(available) = fs4::available_space(parent) else { return Ok(()) };
    let needed = weight_bytes.saturating_add(SPARE_BYTES);
    if available >= needed {
        return Ok(());
    }
    Err(Fault::new("there is not enough room on the disk")
        .file(parent)
        .expected(format!("{needed} bytes free"))
        .got(format!("{available} bytes"))
        .hint("free some space, or choose an output on another disk")
        .into())
}

/// A directory in `parent` that disappears unless it is put in place.
pub fn temporary_directory(parent: &Path) -> Result<TempDir> {
    let mut builder = Builder::new();
    builder.prefix(".").suffix(".partial");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // An ordinary directory, not a private one; the process's umask still applies.
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    builder.tempdir_in(parent).with_context(|| format!("creating a directory in {}", parent.display()))
}

/// Renames the finished directory to `out`. With `force`, what stands there is moved aside first
/// and deleted last, so that there is always one whole model.
pub fn put_in_place(temporary: TempDir, out: &Path, force: bool) -> Result<()> {
    sync(temporary.path());
    let context = || format!("moving the model to {}", out.display());
    let parent = temporary.path().parent().unwrap_or(Path::new(".")).to_path_buf();
    if force && out.symlink_metadata().is_ok() {
        let aside = temporary_directory(&parent)?;
        let old = aside.path().join("old");
        fs::rename(out, &old).with_context(context)?;
        if let Err(error) = fs::rename(temporary.path(), out) {
            if fs::rename(&old, out).is_err() {
                // Rather an odd name than a lost model.
                let kept = aside.keep();
                return Err(error).with_context(|| format!("{}; the old one is in {}", context(), kept.display()));
            }
            return Err(error).with_context(context);
        }
    } else {
        fs::rename(temporary.path(), out).with_context(context)?;
    }
    // Its path now belongs to nobody: there is nothing left to delete.
    let _ = temporary.keep();
    sync(&parent);
    Ok(())
}

/// Makes renames durable; some file systems cannot sync a directory, and need not.
fn sync(directory: &Path) {
    if let Ok(handle) = File::open(directory) {
        let _ = handle.sync_all();
    }
}
