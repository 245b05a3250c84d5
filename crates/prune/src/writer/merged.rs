//! Writes a model with an adapter folded into its weights, whole or without the layers that a plan removes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lopper_model::checkpoint::{Dtype, torch_name};
use lopper_model::{Checkpoint, Model};
use lopper_record::{Context, LayerSet, Result};

use crate::plan::{AdapterId, ConfigChange, MergeLoss, MergedAdapter, PLAN_FILE, Plan};

use super::trained::save;
use super::{WriteOptions, card, check_output, files, put_in_place, temporary_directory};

/// What is written.
#[derive(Debug, Clone, Copy)]
pub struct Merge<'a> {
    /// The kept layers with the adapter apart; it is folded in one matrix at a time as they are written.
    pub model: &'a Model,
    /// Which adapter that is.
    pub adapter: &'a AdapterId,
    /// What weights are stored in: F32, F16 or BF16.
    pub dtype: Dtype,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeReport {
    /// The output directory.
    pub directory: PathBuf,
    /// Layers of the written model.
    pub num_hidden_layers: usize,
    /// Bytes of all tensors.
    pub weight_bytes: u64,
    /// The changes in `config.json`.
    pub config_changes: Vec<ConfigChange>,
    /// As [`WriteReport::warnings`](super::WriteReport::warnings).
    pub warnings: Vec<String>,
    /// What storing the merged weights did to the loss, where it was measured.
    pub merged: MergedAdapter,
}

/// Writes `merge`, which was made from `checkpoint`, as the directory `out`, without the layers that `plan` removes
/// where there is a plan. `measure` is given what was written, opened like any other model, before it is renamed to
/// `out`.
///
/// # Errors
/// As [`write_trained`](super::write_trained); those of `measure`. No error leaves anything at `out`.
pub fn write_merged(
    checkpoint: &Checkpoint,
    plan: Option<&Plan>,
    merge: &Merge<'_>,
    out: &Path,
    options: &WriteOptions,
    measure: impl FnOnce(&Arc<Checkpoint>) -> Result<Option<MergeLoss>>,
) -> Result<MergeReport> {
    check_output(checkpoint, out, options.force)?;
    let kept = match plan {
        Some(plan) => plan.kept_positions(checkpoint)?,
        None => LayerSet::all(checkpoint.config().num_hidden_layers),
    };
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    let temporary = temporary_directory(parent)?;
    let directory = temporary.path();
    let Merge { model, adapter, dtype } = *merge;
    let (edited, written) = save(checkpoint, &kept, model, dtype, options.keep_pattern, directory)?;
    let weight_bytes = written.weight_bytes();
    let loss = measure(&written)?;
    drop(written);
    let merged = MergedAdapter { adapter: adapter.clone(), stored_as: torch_name(dtype)?.to_owned(), loss };
    let mut section = String::new();
    match plan {
        Some(plan) => {
            let mut plan =
                Plan { config_changes: edited.changes.clone(), merged_adapter: Some(merged.clone()), ..plan.clone() };
            plan.source.hash = checkpoint.hash().to_owned();
            plan.compensation = None;
            files::write(&directory.join(PLAN_FILE), plan.to_json()?.as_bytes())?;
            let uniform = checkpoint.config().layers.windows(2).all(|pair| pair[0] == pair[1]);
            section.push_str(&card::section(&plan, &edited.warnings, uniform));
        }
        // A model that was cut before keeps the record of it.
        None => {
            if let Some(plan) = checkpoint.file(PLAN_FILE)? {
                files::write(&directory.join(PLAN_FILE), &plan)?;
            }
            section.push_str("## An adapter merged with Lopper\n\n");
            section.push_str(&(card::merged(&merged).join("\n") + "\n"));
        }
    }
    card::extend(checkpoint, &section, directory)?;
    put_in_place(temporary, out, options.force)?;
    Ok(MergeReport {
        directory: out.to_path_buf(),
        num_hidden_layers: kept.len(),
        weight_bytes,
        config_changes: edited.changes,
        warnings: edited.warnings,
        merged,
    })
}
