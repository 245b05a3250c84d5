//! Several models that learn from one batch, such as cuts of one model at different depths.
//!
//! Layers before a model's first trained one only run forward. Where models have the same arrays in the same first
//! layers, what comes out of these is computed once, and so is all of a teacher. Nothing else about a model's pass
//! depends on the others, so its loss and gradients are those of learning alone, to the bit.

use super::layer::Pass;
use super::{BatchLoss, Teacher, TrainBatch, TrainOptions, TrainWorkspace};
use crate::model::Model;
use crate::param::{Gradients, Param};
use lopper_record::{LayerSet, LayerSlot, Result};

/// A model that learns.
#[derive(Debug)]
pub struct Learner<'a> {
    /// The model; parameters with a slot are trained.
    pub model: &'a Model,
    /// The layers of it that run.
    pub kept: &'a LayerSet<LayerSlot>,
    /// What its gradients are added to.
    pub gradients: &'a mut Gradients,
}

/// Loss and gradients of each of `learners` on the same batch, learning from `teacher`, or without one from the
/// targets. As [`Model::taught`] of each.
///
/// # Errors
/// Those of [`Model::taught`].
pub fn taught_together(
    data: &TrainBatch,
    learners: &mut [Learner<'_>],
    teacher: Option<Teacher<'_>>,
    options: TrainOptions,
    workspace: &mut TrainWorkspace,
) -> Result<Vec<BatchLoss>> {
    for learner in learners.iter() {
        learner.model.check_data(data, learner.kept)?;
        if let Some(teacher) = &teacher {
            learner.model.check_teacher(teacher)?;
        }
    }
    let mut prefixes = Vec::new();
    if let Some(teacher) = &teacher {
        prefixes.push(Prefix::new(teacher.model, teacher.kept.indices().collect()));
    }
    let of_teacher = prefixes.len();
    for Learner { model, kept, .. } in learners.iter() {
        let layers: Vec<usize> = kept.indices().collect();
        prefixes.push(Prefix::new(model, layers[..model.frozen_layers(&layers)].to_vec()));
    }
    let mut states = SharedStates::new(prefixes);
    let states_of_teacher = teacher.map(|teacher| {
        // Its dropout is off in any case.
        let x = states.after(0, data, TrainOptions { dropout: None, ..options }, workspace);
        (teacher, teacher.model.last_states(data, &x))
    });
    let taught = states_of_teacher.as_ref().map(|(teacher, states)| (*teacher, states.as_slice()));
    let mut losses = Vec::with_capacity(learners.len());
    for (index, Learner { model, kept, gradients }) in learners.iter_mut().enumerate() {
        let x = states.after(index + of_teacher, data, options, workspace);
        let trained: Vec<usize> = kept.indices().skip(states.prefixes[index + of_teacher].layers.len()).collect();
        losses.push(model.learn_from(x, &trained, data, taught, options, workspace, gradients));
    }
    Ok(losses)
}

/// The layers of a model that only run forward, from the first.
struct Prefix<'a> {
    model: &'a Model,
    layers: Vec<usize>,
    /// Of each of them.
    parameters: Vec<Vec<Param>>,
}

impl<'a> Prefix<'a> {
    fn new(model: &'a Model, layers: Vec<usize>) -> Self {
        let mut all = if layers.is_empty() { Vec::new() } else { model.layer_parameters() };
        let parameters = layers.iter().map(|layer| std::mem::take(&mut all[*layer])).collect();
        Self { model, layers, parameters }
    }

    /// How many layers, from the first, are the same arrays in both.
    fn common(&self, other: &Self) -> usize {
        if !self.model.embedding.shares_values_with(&other.model.embedding) {
            return 0;
        }
        let same = |(own, other): &(&Vec<Param>, &Vec<Param>)| {
            own.len() == other.len() && own.iter().zip(*other).all(|(own, other)| own.shares_values_with(other))
        };
        self.parameters.iter().zip(&other.parameters).take_while(same).count()
    }
}

/// What comes out of prefixes that are run one after another, kept as long as a later one goes on from there.
struct SharedStates<'a> {
    prefixes: Vec<Prefix<'a>>,
    /// Layers that two of them have in common, from the first.
    common: Vec<Vec<usize>>,
    kept: Vec<State>,
    /// Layers that have run.
    layers_run: usize,
}

/// What comes out of the first `layers` layers of the prefix `of`.
struct State {
    of: usize,
    layers: usize,
    x: Vec<f32>,
}

impl<'a> SharedStates<'a> {
    fn new(prefixes: Vec<Prefix<'a>>) -> Self {
        let common = prefixes.iter().map(|one| prefixes.iter().map(|other| one.common(other)).collect()).collect();
        Self { prefixes, common, kept: Vec::new(), layers_run: 0 }
    }

    /// What comes out of the last layer of the prefix `index`; to be called for one after another, from the first.
    fn after(
        &mut self,
        index: usize,
        data: &TrainBatch,
        options: TrainOptions,
        workspace: &mut TrainWorkspace,
    ) -> Vec<f32> {
        let Self { prefixes, common, kept, layers_run } = self;
        let Prefix { model, layers, .. } = &prefixes[index];
        let usable = kept.iter().filter(|state| state.layers <= common[state.of][index]);
        let (start, mut x) = match usable.max_by_key(|state| state.layers) {
            Some(state) => (state.layers, state.x.clone()),
            None => {
                let mut x = Vec::new();
                model.embed(&data.batch.tokens, &mut x);
                (0, x)
            }
        };
        let ropes = model.rope_rows(&data.batch);
        let (matmul, dropout) = (options.matmul(), options.dropout);
        let pass = Pass { config: &model.config, ropes: &ropes, batch: &data.batch, matmul, dropout };
        let TrainWorkspace { passing, scratch, .. } = workspace;
        for (at, layer) in layers.iter().enumerate().skip(start) {
            std::mem::swap(&mut passing.x, &mut x);
            model.layers[*layer].forward(&pass, passing, scratch, &mut x);
            *layers_run += 1;
            if common[index][index + 1..].contains(&(at + 1)) {
                kept.push(State { of: index, layers: at + 1, x: x.clone() });
            }
        }
        kept.retain(|state| common[state.of][index + 1..].iter().any(|common| *common >= state.layers));
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Layers that run for prefixes of these layers, each with its own embedding where `apart`.
    fn layers_run(prefixes: &[&[usize]], apart: bool) -> usize {
        let model = Model::random(Config { vocab_size: 11, ..Config::plain(6, 2, 4) }, 0.3, 1).unwrap();
        let other = Model::random(model.config.clone(), 0.3, 2).unwrap();
        let model_of = |index: usize| if apart && index % 2 == 1 { &other } else { &model };
        let prefix = |(index, layers): (usize, &&[usize])| Prefix::new(model_of(index), layers.to_vec());
        let mut states = SharedStates::new(prefixes.iter().enumerate().map(prefix).collect());
        let tokens = [3, 1, 4, 1, 5];
        let data = TrainBatch::new([(&tokens[..], &[1.0; 5][..])]);
        let (options, mut workspace) = (TrainOptions::default(), TrainWorkspace::default());
        for (index, layers) in prefixes.iter().enumerate() {
            let x = states.after(index, &data, options, &mut workspace);
            let mut alone = SharedStates::new(vec![Prefix::new(model_of(index), layers.to_vec())]);
            assert_eq!(x, alone.after(0, &data, options, &mut workspace), "{layers:?}");
        }
        assert!(states.kept.is_empty(), "nothing is kept that none goes on from");
        states.layers_run
    }

    #[test]
    fn layers_run_once_for_all_that_have_them() {
        assert_eq!(layers_run(&[&[0, 1, 2]], false), 3);
        // A teacher, and cuts of three depths.
        assert_eq!(layers_run(&[&[0, 1, 2, 3, 4, 5], &[0, 1, 2, 3], &[0, 1], &[0, 1, 2]], false), 6);
        assert_eq!(layers_run(&[&[0, 1, 2, 4], &[0, 1, 3], &[0, 1, 2, 5], &[0, 1, 3, 4]], false), 4 + 1 + 1 + 1);
        assert_eq!(layers_run(&[&[1, 2], &[2, 1], &[], &[1, 2]], false), 4);
        assert_eq!(layers_run(&[&[0, 1, 2], &[0, 1, 2], &[0, 1, 2]], true), 6, "other weights");
    }
}
