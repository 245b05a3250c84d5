//! Training state on disk, so that a long run can be stopped and continued: the trained
//! parameters, the optimiser's moments, and where the stream of documents stands.
//!
//! One safetensors file, written beside and renamed into place; a run continues only when its
//! recipe is the one that began it.

use crate::trainer::Trainer;
use anyhow::{Context, Result};
use lopper_record::Fault;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Where a run stands, beside its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Position {
    /// Hash of what determines the run's result.
    pub recipe: String,
    /// Documents taken from the stream so far.
    pub documents: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The loss of each step so far, where it is kept.
    pub losses: Vec<f64>,
}

/// Saves parameters, moments and position.
pub fn save(path: &Path, trainer: &Trainer, position: &Position) -> Result<()> {
    let mut arrays: Vec<(String, &[f32])> = Vec::new();
    let parameters = trainer.model.parameters();
    for (_, param) in &parameters {
        if let Some(slot) = param.slot {
            arrays.push((format!("param.{slot}"), &param.data));
        }
    }
    let moments = [("first", &trainer.optimizer.first), ("second", &trainer.optimizer.second)];
    for (name, slots) in moments {
        for (slot, values) in slots.iter().enumerate().filter(|(_, v)| !v.is_empty()) {
            arrays.push((format!("{name}.{slot}"), values));
        }
    }
    let bytes: Vec<(String, Vec<u8>, usize)> =
        arrays.iter().map(|(n, v)| (n.clone(), v.iter().flat_map(|x| x.to_le_bytes()).collect(), v.len())).collect();
    let views = bytes
        .iter()
        .map(|(name, data, len)| Ok((name.as_str(), TensorView::new(Dtype::F32, vec![*len], data)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    let metadata = HashMap::from([
        ("recipe".to_owned(), position.recipe.clone()),
        ("documents".to_owned(), position.documents.to_string()),
        ("tokens".to_owned(), position.tokens.to_string()),
        ("seconds".to_owned(), position.seconds.to_string()),
        ("step".to_owned(), trainer.optimizer.step.to_string()),
        ("losses".to_owned(), serde_json::to_string(&position.losses)?),
    ]);
    let file = safetensors::serialize(views, Some(metadata))?;
    lopper_record::write_atomic(path, &file)
}

/// Restores what [`save`] wrote into a trainer that was set up in the same way.
pub fn load(path: &Path, trainer: &mut Trainer, recipe: &str) -> Result<Position> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let broken = |what: &str| {
        Fault::new(format!("training state is unusable: {what}"))
            .file(path)
            .hint("remove it to begin again, or give the options the run was started with")
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(&e.to_string()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| broken(&e.to_string()))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let field = |name: &str| metadata.get(name).cloned().ok_or_else(|| broken(&format!("no `{name}` in it")));
    let number = |name: &str| -> Result<f64> { field(name)?.parse().map_err(|_| broken(name).into()) };
    if field("recipe")? != recipe {
        return Err(broken("it was written by a run with another recipe")
            .expected(recipe)
            .got(field("recipe")?)
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
    let mut result = Ok(());
    trainer.model.visit_mut(|_, param| {
        if let (Some(slot), true) = (param.slot, result.is_ok()) {
            result = read(&format!("param.{slot}"), Arc::make_mut(&mut param.data).as_mut_slice());
        }
    });
    result?;
    for (name, slots) in [("first", &mut trainer.optimizer.first), ("second", &mut trainer.optimizer.second)] {
        for (slot, values) in slots.iter_mut().enumerate().filter(|(_, v)| !v.is_empty()) {
            read(&format!("{name}.{slot}"), values)?;
        }
    }
    trainer.optimizer.step = number("step")? as u64;
    let losses = match metadata.get("losses") {
        Some(losses) => serde_json::from_str(losses).map_err(|_| broken("losses"))?,
        None => Vec::new(),
    };
    Ok(Position {
        losses,
        recipe: recipe.to_owned(),
        documents: number("documents")? as u64,
        tokens: number("tokens")? as u64,
        seconds: number("seconds")?,
    })
}
