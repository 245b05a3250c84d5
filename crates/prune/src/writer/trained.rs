//! Writes a model whose weights were trained, as a complete directory.
//!
//! As for a cut, `config.json` is the source's with its counts and lists of layers adapted, and tokenizer, chat
//! template and the like are copied. The weights are stored in the source's dtype, in one file.

use std::path::Path;
use std::sync::Arc;

use lopper_model::checkpoint::Dtype;
use lopper_model::{Checkpoint, Model};
use lopper_record::{Context, Fault, LayerPosition, LayerSet, NoProgress, Result, ensure};

use crate::plan::{PLAN_FILE, Plan};

use super::{card, config, files};

/// Writes `model` into the empty directory `directory`. It was trained from `checkpoint`, without the layers that
/// `plan` removes where there is a plan. Weights are stored as `dtype`: F32, F16 or BF16. `section` is given what was
/// written, opened like any other model, and returns what is added to its model card. Returns warnings as
/// [`WriteReport::warnings`](super::WriteReport::warnings).
///
/// # Errors
/// A [`Fault`] where the plan is for another model, where the configuration cannot express the cut, where a weight is
/// too large for `dtype`, and where the disk is full; those of `section`.
pub fn write_trained(
    checkpoint: &Checkpoint,
    plan: Option<&Plan>,
    model: &Model,
    dtype: Dtype,
    section: impl FnOnce(&Arc<Checkpoint>) -> Result<String>,
    directory: &Path,
) -> Result<Vec<String>> {
    let kept = match plan {
        Some(plan) => plan.kept_positions(checkpoint)?,
        None => LayerSet::all(checkpoint.config().num_hidden_layers),
    };
    let (edited, written) = save(checkpoint, &kept, model, dtype, false, directory)?;
    let plan = match plan {
        Some(plan) => {
            let plan = Plan { config_changes: edited.changes, ..plan.clone() };
            Some(plan.to_json()?.into_bytes())
        }
        // A model that was cut before keeps the record of it.
        None => checkpoint.file(PLAN_FILE)?.map(|bytes| bytes.into_owned()),
    };
    if let Some(plan) = plan {
        files::write(&directory.join(PLAN_FILE), &plan)?;
    }
    let mut section = section(&written)?;
    drop(written);
    for warning in &edited.warnings {
        section.push_str(&format!("\n{}\n", card::sentence(warning)));
    }
    card::extend(checkpoint, &section, directory)?;
    Ok(edited.warnings)
}

/// Writes weights, configuration and side files into `directory`; returns what became of the configuration, and the
/// model as it is read back.
pub(super) fn save(
    checkpoint: &Checkpoint,
    kept: &LayerSet<LayerPosition>,
    model: &Model,
    dtype: Dtype,
    keep_pattern: bool,
    directory: &Path,
) -> Result<(config::Pruned, Arc<Checkpoint>)> {
    ensure!(kept.len() == model.num_layers(), "{} layers for a plan that keeps {}", model.num_layers(), kept.len());
    let width = dtype.bitsize() as u64 / 8;
    files::check_space(directory, model.parameter_count() as u64 * width)?;
    let mut edited = config::pruned(checkpoint, kept, keep_pattern)?;
    let mut json = serde_json::from_str(&edited.text)?;
    // A head that was trained by itself is another matrix than the embedding from then on.
    if checkpoint.config().tie_word_embeddings && !model.config.tie_word_embeddings {
        let change = config::untie(&mut json);
        edited.changes.push(change);
    }
    model.save(directory, &json, dtype)?;
    files::copy_side_files(checkpoint, directory)?;
    // Opened like any other model: headers, shapes and configuration agree.
    let written = Arc::new(Checkpoint::open(directory).context("reading back what was written")?);
    if dtype == Dtype::F16 {
        // Its largest value is 65504.
        written.check_finite(&LayerSet::all(model.num_layers()), &NoProgress).map_err(|error| {
            let what = error.into_fault().map_or_else(|error| error.to_string(), |fault| fault.message);
            Fault::new("a trained weight is too large for float16")
                .expected("values up to 65504")
                .got(what)
                .hint("write the weights as bfloat16 or float32")
        })?;
    }
    Ok((edited, written))
}
