//! The files around the weights: tokenizer and other side files, the model card, and putting the
//! finished directory in its place.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use lopper_model::Checkpoint;
use lopper_record::{Fault, format_layers};
use tempfile::{Builder, TempDir};

use crate::plan::{PLAN_FILE, Plan};

const CARD: &str = "README.md";
/// Room for everything but the weights.
const SPARE_BYTES: u64 = 64 << 20;

/// Whether a side file belongs to the model whatever its depth. A list of what is known, because
/// an unknown file may describe the uncut weights.
fn is_carried_over(name: &str) -> bool {
    let name = name.to_lowercase();
    let begins = [
        "tokenizer",
        "special_tokens_map",
        "added_tokens",
        "vocab",
        "merges",
        "spiece",
        "sentencepiece",
        "chat_template",
        "generation_config",
        "license",
        "licence",
        "notice",
        "copying",
        "use_policy",
        "acceptable_use",
    ];
    begins.iter().any(|begin| name.starts_with(begin)) || name.ends_with(".tiktoken")
}

/// Copies the side files that belong to the pruned model too, byte for byte.
pub(super) fn copy_side_files(checkpoint: &Checkpoint, directory: &Path) -> Result<()> {
    for name in checkpoint.side_files()?.into_iter().filter(|name| is_carried_over(name)) {
        if let Some(bytes) = checkpoint.file(&name)? {
            write(&directory.join(&name), &bytes)?;
        }
    }
    Ok(())
}

/// The source's model card with a section on the cut; its front matter stays first and unchanged.
pub(super) fn write_card(checkpoint: &Checkpoint, plan: &Plan, directory: &Path) -> Result<()> {
    extend_card(checkpoint, &section(plan), directory)
}

/// The source's model card with a section added.
pub(super) fn extend_card(checkpoint: &Checkpoint, section: &str, directory: &Path) -> Result<()> {
    let mut card = checkpoint.file(CARD)?.map(|bytes| bytes.into_owned()).unwrap_or_default();
    if !card.is_empty() {
        if !card.ends_with(b"\n") {
            card.push(b'\n');
        }
        card.push(b'\n');
    }
    card.extend_from_slice(section.as_bytes());
    write(&directory.join(CARD), &card)
}

fn section(plan: &Plan) -> String {
    let original = plan.original.as_ref().unwrap_or(&plan.source);
    let mut lines = vec![
        "## Layers removed with Lopper".to_owned(),
        String::new(),
        format!(
            "Layers left: {} of the {} of `{}` (counted from 0 there).",
            plan.kept.len(),
            original.num_hidden_layers,
            original.id,
        ),
        String::new(),
        format!("- removed: {}", format_layers(&plan.dropped)),
        format!("- kept: {}", format_layers(&plan.kept)),
        format!("- chosen by: {}", plan.choice.criterion),
    ];
    if let Some(seed) = plan.choice.seed {
        lines.push(format!("- seed: {seed}"));
    }
    lines.push(format!("- source: `{}`, hash `{}`", plan.source.id, plan.source.hash));
    lines.push(format!("- Lopper {}", plan.lopper_version));
    lines.push(String::new());
    lines.push(format!(
        "The remaining weights are those of the source, byte for byte. Figures above this section \
         describe the model before the cut. `{PLAN_FILE}` holds this list for programs."
    ));
    lines.join("\n") + "\n"
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
