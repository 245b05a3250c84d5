//! The files besides the weights: tokenizer and other side files; and renaming the finished directory to the output.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use lopper_model::Checkpoint;
use lopper_record::{Context, Fault, Result, is_side_file};
use tempfile::{Builder, TempDir};

/// Where transformers keeps the chat templates of a model that has several.
const MORE_TEMPLATES: &str = "additional_chat_templates";
/// Space for everything but the weights.
const SPARE_BYTES: u64 = 64 << 20;

/// Copies tokenizer, chat template, licence and the like, byte for byte.
pub(super) fn copy_side_files(checkpoint: &Checkpoint, directory: &Path) -> Result<()> {
    for name in checkpoint.side_files()?.into_iter().filter(|name| is_side_file(name)) {
        if let Some(bytes) = checkpoint.file(&name)? {
            write(&directory.join(&name), &bytes)?;
        }
    }
    copy_templates(checkpoint, directory)
}

/// Copies the one directory of side files. Others (`original`, `onnx`) hold copies of the uncut weights.
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

/// Writes a file and flushes it to the disk.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let put = || -> std::io::Result<()> {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    put().with_context(|| format!("writing {}", path.display()))
}

/// Refuses a file system without space for a model of `weight_bytes`.
pub(super) fn check_space(parent: &Path, weight_bytes: u64) -> Result<()> {
    // Where the system does not say, writing itself will fail.
    let Ok(available) = fs4::available_space(parent) else { return Ok(()) };
    let needed = weight_bytes.saturating_add(SPARE_BYTES);
    if available >= needed {
        return Ok(());
    }
    Err(Fault::new("there is not enough space on the disk")
        .file(parent)
        .expected(format!("{needed} bytes free"))
        .got(format!("{available} bytes"))
        .hint("free some space, or choose an output on another disk")
        .into())
}

/// A directory in `parent` that is deleted when it is dropped, unless it is [put in place](put_in_place).
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

/// Renames the finished directory to `out`. With `force`, what `out` holds is moved aside first and deleted last, so
/// that there is one complete model at every moment.
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
                // Better a model under an odd name than none.
                let kept = aside.keep();
                return Err(error).with_context(|| format!("{}; the old one is in {}", context(), kept.display()));
            }
            return Err(error).with_context(context);
        }
    } else {
        fs::rename(temporary.path(), out).with_context(context)?;
    }
    // It is at `out` now: nothing is left to delete.
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
