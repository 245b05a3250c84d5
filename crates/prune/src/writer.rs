//! Writes a pruned model: a Hugging Face directory that loads like any other.
//!
//! Weights are copied byte for byte, tensor by tensor in the order of the source, with layers
//! renumbered; memory stays flat and a model is written at the disk's speed. `config.json` is the
//! source's, edited as JSON, so that keys Lopper does not know survive; settings that belong to
//! layers follow the kept layers (`writer/config.rs`). Tokenizer, chat template, licence and the
//! like are copied unchanged; the model card gains a section on the cut.
//!
//! Everything is written into a directory beside the output, read back and compared by hash, and
//! then renamed into place: an interrupted run leaves no half of a model under the output's name.

mod card;
mod config;
mod files;
mod shards;
mod trained;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use lopper_model::Checkpoint;
use lopper_model::families::{layer_of, rename_layer};
use lopper_model::hf::CONFIG;
use lopper_record::{Fault, ensure_new};

use crate::plan::{PLAN_FILE, Plan, Verification};

use shards::Copy;

pub use files::{put_in_place, temporary_directory};
pub use trained::write_trained;

/// How to write.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions {
    /// Replace an output that Lopper wrote before.
    pub force: bool,
    /// Largest weights file, in bytes of tensors; a larger tensor has a file to itself.
    pub max_shard_bytes: u64,
    /// Refuse cuts after which a layer stands where the uncut model has one of another kind.
    pub keep_pattern: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        // 5 GB: transformers' long-standing default.
        Self { force: false, max_shard_bytes: 5_000_000_000, keep_pattern: false }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteReport {
    /// The output directory.
    pub directory: PathBuf,
    /// The names of its files, sorted.
    pub files: Vec<String>,
    /// Layers of the pruned model.
    pub num_hidden_layers: usize,
    /// Tensors copied.
    pub tensors: usize,
    /// Bytes of all tensors.
    pub weight_bytes: u64,
    /// The plan as it was written beside the model: with what was changed in `config.json`, and
    /// with the comparison if there was one.
    pub plan: Plan,
    /// Which other programs would compute another model from what was written.
    pub warnings: Vec<String>,
}

/// Compares the written model with its source before it is put in place; an error leaves nothing.
/// Gets the written model and the positions, in the source, of its layers.
pub type Check<'a> = dyn Fn(&Arc<Checkpoint>, &[usize]) -> Result<Option<Verification>> + 'a;

/// Writes `checkpoint` without the layers that `plan` drops as the directory `out`.
///
/// `progress` is told the bytes done and the bytes to do: every byte is written, then read back.
pub fn write_pruned(
    checkpoint: &Checkpoint,
    plan: &Plan,
    out: &Path,
    options: &WriteOptions,
    progress: &dyn Fn(u64, u64),
) -> Result<WriteReport> {
    write_pruned_checked(checkpoint, plan, out, options, progress, &|_, _| Ok(None))
}

/// As [`write_pruned`], with a check of what was written whose result goes into `cut.json`.
pub fn write_pruned_checked(
    checkpoint: &Checkpoint,
    plan: &Plan,
    out: &Path,
    options: &WriteOptions,
    progress: &dyn Fn(u64, u64),
    check: &Check<'_>,
) -> Result<WriteReport> {
    check_output(checkpoint, out, options.force)?;
    let kept = plan.kept_positions(checkpoint)?;
    let copies = copies(checkpoint, &kept)?;
    let config = config::pruned(checkpoint, &kept, options.keep_pattern)?;
    let weight_bytes: u64 = copies.iter().map(|copy| copy.bytes).sum();

    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    files::check_space(parent, weight_bytes)?;
    let temporary = temporary_directory(parent)?;
    let directory = temporary.path();

    let done = std::cell::Cell::new(0u64);
    let advance = |bytes: u64| {
        if bytes == 0 {
            return;
        }
        done.set(done.get() + bytes);
        progress(done.get(), 2 * weight_bytes);
    };
    shards::write(checkpoint, &copies, directory, options.max_shard_bytes, &advance)?;
    files::write(&directory.join(CONFIG), config.text.as_bytes())?;
    files::copy_side_files(checkpoint, directory)?;

    // Opened as a stranger would open it.
    let written = Arc::new(Checkpoint::open(directory).context("reading back what was written")?);
    let names = written.names().count();
    ensure!(names == copies.len(), "{names} tensors were written, not {}", copies.len());
    // What an earlier writing of the same plan recorded says nothing of this one.
    let mut plan = Plan { config_changes: config.changes, verification: check(&written, &kept)?, ..plan.clone() };
    drop(written);
    // What was copied has been hashed on the way; only the dropped layers are read for this.
    plan.source.hash = checkpoint.hash().to_owned();
    files::write(&directory.join(PLAN_FILE), plan.to_json()?.as_bytes())?;
    let uniform = checkpoint.config().layers.windows(2).all(|pair| pair[0] == pair[1]);
    card::extend(checkpoint, &card::section(&plan, &config.warnings, uniform), directory)?;
    let mut names: Vec<String> = std::fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    put_in_place(temporary, out, options.force)?;
    Ok(WriteReport {
        directory: out.to_path_buf(),
        files: names,
        num_hidden_layers: kept.len(),
        tensors: copies.len(),
        weight_bytes,
        plan,
        warnings: config.warnings,
    })
}

/// Which tensors to copy, under which names, in the source's order on the disk.
fn copies(checkpoint: &Checkpoint, kept: &[usize]) -> Result<Vec<Copy>> {
    let mut copies = Vec::new();
    for name in checkpoint.stored_order() {
        let target = match layer_of(name) {
            None => name.to_owned(),
            Some((layer, _)) => match kept.iter().position(|position| *position == layer) {
                Some(layer) => rename_layer(name, layer).context("a tensor of a layer")?,
                None => continue,
            },
        };
        copies.push(Copy { bytes: checkpoint.tensor(name)?.data.len() as u64, source: name.to_owned(), target });
    }
    Ok(copies)
}

/// Refuses outputs that exist, and with `force` those that replacing would do harm to.
fn check_output(checkpoint: &Checkpoint, out: &Path, force: bool) -> Result<()> {
    ensure_new(out, force)?;
    if out.symlink_metadata().is_err() {
        return Ok(());
    }
    if let (Some(source), Ok(out_path)) = (checkpoint.directory(), out.canonicalize())
        && source.canonicalize()?.starts_with(&out_path)
    {
        return Err(Fault::new("the output would replace the model that is being cut")
            .file(out)
            .expected("another directory")
            .into());
    }
    let is_directory = out.symlink_metadata()?.is_dir();
    let replaceable = is_directory && (out.join(PLAN_FILE).is_file() || std::fs::read_dir(out)?.next().is_none());
    if !replaceable {
        return Err(Fault::new("the output exists and is not a model that Lopper has cut")
            .file(out)
            .expected(format!("a directory with {PLAN_FILE}, an empty one, or nothing"))
            .hint("--force replaces only such directories; remove this one by hand if you mean it")
            .into());
    }
    Ok(())
}
