//! Writes a pruned model: a Hugging Face directory that loads like any other.
//!
//! Weights are copied byte for byte, tensor by tensor in the order of the source, with layers renumbered (those that a
//! compensation changed are written from memory); memory use does not grow with the model, and writing is as fast as
//! the disk. `config.json` is the source's, edited as JSON, so
//! that keys Lopper does not know are kept; lists with an entry for each layer are cut like the layers
//! (`writer/config.rs`). Tokenizer, chat template, licence and the like are copied unchanged; the model card gains a
//! section on the cut.
//!
//! Everything is written into a temporary directory, read back and compared by hash, and then renamed to the output: an
//! interrupted run leaves no incomplete model there.

mod card;
mod config;
mod files;
mod merged;
mod shards;
mod trained;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use lopper_model::Checkpoint;
use lopper_model::hf::CONFIG;
use lopper_model::param::Param;
use lopper_model::tensors::{layer_of, rename_layer};
use lopper_record::{Context, Fault, LayerPosition, LayerSet, NoProgress, Progress, Result, Step, ensure, ensure_new};

use crate::calibration::groups;
use crate::compensation::Compensated;
use crate::plan::{PLAN_FILE, Plan};
use crate::verify::{Reference, compare_logits};

use shards::Copy;

pub use files::{put_in_place, temporary_directory};
pub use merged::{Merge, MergeReport, write_merged};
pub use trained::write_trained;

/// How to write.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions {
    /// Replace an output that Lopper wrote before.
    pub force: bool,
    /// Largest weights file, in bytes of tensors; a larger tensor has a file to itself.
    pub max_shard_bytes: u64,
    /// Refuse cuts that move a layer to a position where the uncut model has a layer of another kind.
    pub keep_pattern: bool,
    /// Compare the logits of the written model with those of the source without the removed layers.
    pub verify: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        // 5 GB: transformers' long-standing default.
        Self { force: false, max_shard_bytes: 5_000_000_000, keep_pattern: false, verify: true }
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
    /// The plan as it was written to `cut.json`: with the changes in `config.json`, and with the comparison if there
    /// was one.
    pub plan: Plan,
    /// Other programs that would compute a different model from the written files, and why.
    pub warnings: Vec<String>,
}

/// Writes `checkpoint` without the layers that `plan` removes as the directory `out`.
///
/// # Errors
/// A [`Fault`] where the plan is for another model, where the output cannot be there, and where the configuration
/// cannot express the cut; [`lopper_record::Interrupted`]. No error leaves anything at `out`.
pub fn write_pruned(
    checkpoint: &Arc<Checkpoint>,
    plan: &Plan,
    out: &Path,
    options: &WriteOptions,
    progress: &dyn Progress,
) -> Result<WriteReport> {
    // The plan may be that of a compensated cut, which this is not.
    let plan = Plan { compensation: None, ..plan.clone() };
    write(checkpoint, &plan, None, out, options, progress)
}

/// As [`write_pruned`] with the changed weights of `compensated`, which was made from `checkpoint` by `plan` and
/// rounded to what it stores ([`CompensationOptions::stored_in`](crate::CompensationOptions::stored_in)). The written
/// model is compared with it.
///
/// # Errors
/// As [`write_pruned`].
pub fn write_compensated(
    checkpoint: &Arc<Checkpoint>,
    plan: &Plan,
    compensated: &Compensated,
    out: &Path,
    options: &WriteOptions,
    progress: &dyn Progress,
) -> Result<WriteReport> {
    write(checkpoint, plan, Some(compensated), out, options, progress)
}

fn write(
    checkpoint: &Arc<Checkpoint>,
    plan: &Plan,
    compensated: Option<&Compensated>,
    out: &Path,
    options: &WriteOptions,
    progress: &dyn Progress,
) -> Result<WriteReport> {
    check_output(checkpoint, out, options.force)?;
    let kept = plan.kept_positions(checkpoint)?;
    let mut copies = copies(checkpoint, &kept)?;
    if let Some(compensated) = compensated {
        replace(&mut copies, compensated)?;
    }
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

    // Every byte is written, then read back.
    let step = progress.step(Step::new("writing", Step::BYTES, 2 * weight_bytes as usize));
    let copied = Copied { step: &*step, bytes: Mutex::new(0) };
    shards::write(checkpoint, &copies, directory, options.max_shard_bytes, &copied)?;
    drop(step);
    // The kept weights have just been read, so this costs nothing.
    checkpoint.check_finite(&kept, &NoProgress)?;
    files::write(&directory.join(CONFIG), config.text.as_bytes())?;
    files::copy_side_files(checkpoint, directory)?;

    // Opened like any other model.
    let written = Arc::new(Checkpoint::open(directory).context("reading back what was written")?);
    let names = written.names().count();
    ensure!(names == copies.len(), "{names} tensors were written, not {}", copies.len());
    let verification = options
        .verify
        .then(|| match compensated {
            None => compare_logits(&Reference::cut(checkpoint, &kept)?, &written, progress),
            Some(compensated) => compare_logits(&Reference::compensated(&compensated.model), &written, progress),
        })
        .transpose()?;
    drop(written);
    let mut plan = Plan { config_changes: config.changes, verification, ..plan.clone() };
    // The copied tensors have been hashed already; only the removed layers are read for this.
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

/// Counts bytes that were written and read back.
struct Copied<'a> {
    step: &'a dyn Progress,
    bytes: Mutex<usize>,
}

impl Copied<'_> {
    fn add(&self, bytes: usize) {
        let mut done = self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *done += bytes;
        self.step.set(*done);
    }
}

/// The tensors to copy with their new names, in the source's order on the disk.
fn copies(checkpoint: &Checkpoint, kept: &LayerSet<LayerPosition>) -> Result<Vec<Copy>> {
    let mut copies = Vec::new();
    for name in checkpoint.stored_order() {
        let target = match layer_of(name) {
            None => name.to_owned(),
            Some((layer, _)) => match kept.place(LayerPosition(layer)) {
                Some(layer) => rename_layer(name, layer).context("a tensor of a layer")?,
                None => continue,
            },
        };
        let bytes = checkpoint.tensor_info(name)?.byte_len()? as u64;
        copies.push(Copy { bytes, source: name.to_owned(), target, values: None });
    }
    Ok(copies)
}

/// The names of the weights files of the cut that keeps `kept`, of up to so many bytes of tensors each.
///
/// # Errors
/// Where the checkpoint has no such layers.
pub fn weight_files(
    checkpoint: &Checkpoint,
    kept: &LayerSet<LayerPosition>,
    max_shard_bytes: u64,
) -> Result<Vec<String>> {
    let copies = copies(checkpoint, kept)?;
    let count = groups(&copies, |copy| copy.bytes, max_shard_bytes).len();
    Ok((0..count).map(|index| shards::file_name(index, count)).collect())
}

/// Takes the changed tensors from the compensated model.
fn replace(copies: &mut [Copy], compensated: &Compensated) -> Result<()> {
    let parameters: BTreeMap<String, Param> = compensated.model.parameters().into_iter().collect();
    for name in &compensated.changed {
        let copy = copies.iter_mut().find(|copy| copy.target == *name);
        let copy = copy.with_context(|| format!("the changed `{name}` among the tensors to write"))?;
        copy.values = parameters.get(name).cloned();
        ensure!(copy.values.is_some(), "the compensated model has no `{name}`");
    }
    Ok(())
}

/// Refuses outputs that exist; with `force`, only those that should not be replaced.
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
            .hint("--force replaces only such directories; remove this one yourself if you no longer need it")
            .into());
    }
    Ok(())
}
