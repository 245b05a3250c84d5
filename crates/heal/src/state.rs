//! The state of a training run on disk, so that it can be interrupted and continued: trained parameters, the
//! optimiser's moments, how much of the data has been used, the evaluations so far and the best parameters of them.
//!
//! One safetensors file, written under a temporary name and renamed; a run continues only with the recipe that began
//! it.

use crate::evaluation::Evaluated;
use crate::sft::{OwnAnswers, Removal};
use crate::trainer::Trainer;
use lopper_model::Model;
use lopper_model::checkpoint::{Array, save_safetensors};
use lopper_record::{Context, Fault, Result, Scratch, changed_keys};
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The state of a run, apart from its parameters and moments.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunState {
    /// Hash of what determines the run's result.
    pub recipe: String,
    /// What was hashed, as far as it can be shown, so that a change of it can be named; null in older files.
    pub settings: Value,
    /// Documents used so far.
    pub documents: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Those of them in the loss; 0 in older files.
    pub response_tokens: u64,
    /// Tokens that the model generated to learn on, so far.
    pub generated_tokens: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The loss of each step so far, if recorded.
    pub losses: Vec<f64>,
    /// What each step so far minimised, where that is not the loss.
    pub objectives: Vec<f64>,
    /// Evaluations on held-out documents so far, if recorded.
    pub evaluations: Vec<Evaluated>,
    /// What the model generated for the steps now done.
    pub own_answers: Option<OwnAnswers>,
    /// Layers that were removed so far.
    pub removals: Vec<Removal>,
}

/// Writes parameters, moments and state to `path`; and the trained parameters of `best`, a clone of the trainer's model
/// at an earlier step, if the run keeps them.
pub fn save(path: &Path, trainer: &Trainer, state: &RunState, best: Option<&Model>) -> Result<()> {
    let mut arrays: Vec<Array<'_>> = Vec::new();
    let parameters = trainer.model.parameters();
    let best = best.map(Model::parameters).unwrap_or_default();
    for (name, parameters) in [("param", &parameters), ("best", &best)] {
        for (_, param) in parameters {
            if let Some(slot) = param.slot {
                arrays.push(array(format!("{name}.{slot}"), &param.data));
            }
        }
    }
    let moments = [("first", &trainer.optimizer.first), ("second", &trainer.optimizer.second)];
    for (name, slots) in moments {
        for (slot, values) in slots.iter().enumerate().filter(|(_, v)| !v.is_empty()) {
            arrays.push(array(format!("{name}.{slot}"), values));
        }
    }
    let mut metadata = BTreeMap::from([
        ("recipe".to_owned(), state.recipe.clone()),
        ("settings".to_owned(), state.settings.to_string()),
        ("documents".to_owned(), state.documents.to_string()),
        ("tokens".to_owned(), state.tokens.to_string()),
        ("response_tokens".to_owned(), state.response_tokens.to_string()),
        ("seconds".to_owned(), state.seconds.to_string()),
        ("step".to_owned(), trainer.optimizer.step.to_string()),
        ("losses".to_owned(), serde_json::to_string(&state.losses)?),
        ("objectives".to_owned(), serde_json::to_string(&state.objectives)?),
    ]);
    if !state.evaluations.is_empty() {
        metadata.insert("evaluations".to_owned(), serde_json::to_string(&state.evaluations)?);
    }
    if let Some(own) = &state.own_answers {
        metadata.insert("generated_tokens".to_owned(), state.generated_tokens.to_string());
        metadata.insert("own_answers".to_owned(), serde_json::to_string(own)?);
    }
    if !state.removals.is_empty() {
        metadata.insert("removals".to_owned(), serde_json::to_string(&state.removals)?);
    }
    // A process that is killed while it writes leaves a part there, which the next one clears away.
    let scratch = Scratch::of(path)?;
    let whole = scratch.directory().join("state");
    save_safetensors(&whole, &arrays, Dtype::F32, &metadata)?;
    std::fs::rename(&whole, path).with_context(|| format!("writing {}", path.display()))?;
    drop(scratch);
    // Makes the rename durable, where the file system can.
    if let Some(Ok(directory)) = path.parent().map(std::fs::File::open) {
        let _ = directory.sync_all();
    }
    Ok(())
}

fn array(name: String, values: &[f32]) -> Array<'_> {
    Array { name, shape: vec![values.len()], values }
}

/// Restores what [`save`] wrote into a trainer of the same model and settings; `fresh` is the state of a run that
/// begins. Returns also the model with the best parameters, if they were kept.
///
/// # Errors
/// A [`Fault`] for a file of another recipe, which names what differs, and for a damaged one.
pub fn load(path: &Path, trainer: &mut Trainer, fresh: &RunState) -> Result<(RunState, Option<Model>)> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let broken = |what: &str| {
        Fault::new(format!("training state is unusable: {what}"))
            .file(path)
            .hint("remove it to start over, or use the options that the run was started with")
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(&e.to_string()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| broken(&e.to_string()))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let field = |name: &str| metadata.get(name).cloned().ok_or_else(|| broken(&format!("no `{name}` in it")));
    let number = |name: &str| -> Result<f64> { field(name)?.parse().map_err(|_| broken(name).into()) };
    if field("recipe")? != fresh.recipe {
        let fault = broken("it was written by a run with another recipe");
        let before: Value =
            field("settings").ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        return Err(match before.is_object() && fresh.settings.is_object() {
            true => fault.expected("the settings of that run").got(changed_keys(&before, &fresh.settings)),
            false => fault.expected(fresh.recipe.as_str()).got(field("recipe")?),
        }
        .into());
    }
    let read = |name: &str, into: &mut [f32]| -> Result<()> {
        let view = tensors.tensor(name).map_err(|_| broken(&format!("no `{name}` in it")))?;
        if view.dtype() != Dtype::F32 || view.data().len() != into.len() * 4 {
            return Err(broken(&format!("`{name}` has another size")).into());
        }
        for (v, b) in into.iter_mut().zip(view.data().as_chunks::<4>().0) {
            *v = f32::from_le_bytes(*b);
        }
        Ok(())
    };
    let restore = |kind: &str, model: &mut Model| {
        let mut result = Ok(());
        model.visit_mut(|_, param| {
            if let (Some(slot), true) = (param.slot, result.is_ok()) {
                result = read(&format!("{kind}.{slot}"), Arc::make_mut(&mut param.data).as_mut_slice());
            }
        });
        result
    };
    restore("param", &mut trainer.model)?;
    let best = match tensors.names().iter().any(|name| name.starts_with("best.")) {
        true => {
            let mut best = trainer.model.clone();
            restore("best", &mut best)?;
            Some(best)
        }
        false => None,
    };
    for (name, slots) in [("first", &mut trainer.optimizer.first), ("second", &mut trainer.optimizer.second)] {
        for (slot, values) in slots.iter_mut().enumerate().filter(|(_, v)| !v.is_empty()) {
            read(&format!("{name}.{slot}"), values)?;
        }
    }
    trainer.optimizer.step = number("step")? as u64;
    let list = |name: &str| -> Result<Vec<f64>> {
        let Some(values) = metadata.get(name) else { return Ok(Vec::new()) };
        serde_json::from_str(values).map_err(|_| broken(name).into())
    };
    let evaluations = match metadata.get("evaluations") {
        Some(evaluations) => serde_json::from_str(evaluations).map_err(|_| broken("evaluations"))?,
        None => Vec::new(),
    };
    let own_answers = match metadata.get("own_answers") {
        Some(own) => Some(serde_json::from_str(own).map_err(|_| broken("own_answers"))?),
        None => None,
    };
    let removals = match metadata.get("removals") {
        Some(removals) => serde_json::from_str(removals).map_err(|_| broken("removals"))?,
        None => Vec::new(),
    };
    let count = |name: &str| if metadata.contains_key(name) { number(name) } else { Ok(0.0) };
    let state = RunState {
        losses: list("losses")?,
        objectives: list("objectives")?,
        evaluations,
        recipe: fresh.recipe.clone(),
        settings: fresh.settings.clone(),
        documents: number("documents")? as u64,
        tokens: number("tokens")? as u64,
        response_tokens: count("response_tokens")? as u64,
        generated_tokens: count("generated_tokens")? as u64,
        own_answers,
        removals,
        seconds: number("seconds")?,
    };
    Ok((state, best))
}
