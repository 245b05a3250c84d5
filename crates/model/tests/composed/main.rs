//! The hand-written kernels and the same decoder composed of candle's operations are the same function with the same
//! gradients, in every variant of the configuration, whole and cut.
//!
//! Both compute in f32 but sum in different orders; logits here are of size 1 to 10, so 1e-5
//! relative to the largest is a few dozen roundings.

mod decoder;
mod layout;
mod ops;

use decoder::ComposedModel;
use lopper_model::linear::Lora;
use lopper_model::param::Param;
use lopper_model::{Batch, Model, Threads, TrainBatch, TrainOptions, TrainWorkspace, normal};
use lopper_record::{LayerSet, LayerSlot};
use lopper_testkit::{Tiny, tiny_model, token_sequences, zoo};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

const VOCAB: usize = 37;
/// Largest difference of a value, relative to the largest of its kind.
const VALUES: f32 = 1e-5;
/// The same for gradients, which pass through every sum twice.
const GRADIENTS: f32 = 3e-5;

/// Every combination of head norms, biases and a tied head, away from ones and zeros, with and
/// without an adapter; and what the families add to that.
fn models() -> Vec<(String, Model)> {
    let mut models = Vec::new();
    for bits in 0..8u64 {
        let tiny = Tiny { layers: 3, vocab: VOCAB, qk_norm: bits & 1 != 0, bias: bits & 2 != 0, tied: bits & 4 != 0 };
        let mut model = tiny_model(tiny, bits);
        let mut rng = ChaCha8Rng::seed_from_u64(100 + bits);
        if bits == 5 {
            adapt(&mut model);
        }
        model.visit_mut(|_, param| {
            for v in Arc::make_mut(&mut param.data) {
                *v += 0.15 * normal(&mut rng);
            }
        });
        models.push((format!("{tiny:?}{}", if bits == 5 { " with adapters" } else { "" }), model));
    }
    for (seed, (name, config)) in (0..).zip(zoo(3, VOCAB)) {
        let mut model = Model::random(config, 0.4, seed).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        if name == "phi3" {
            adapt(&mut model);
        }
        model.visit_mut(|_, param| {
            Arc::make_mut(&mut param.data).iter_mut().for_each(|v| *v += 0.15 * normal(&mut rng));
        });
        models.push((name.to_owned(), model));
    }
    models
}

/// Puts an adapter of zeros on every projection.
fn adapt(model: &mut Model) {
    for layer in &mut model.layers {
        for (_, linear) in layer.linears_mut() {
            let (inputs, outputs) = (linear.inputs(), linear.outputs());
            let zeros = |rows: usize, cols: usize| Param::matrix(vec![0.0; rows * cols], rows, cols);
            linear.lora =
                Some(Lora { a: zeros(3, inputs), b: zeros(outputs, 3), scale: 0.7, dropout: 0.0, magnitude: None });
        }
    }
}

fn sequences() -> Vec<Vec<u32>> {
    token_sequences(&[7, 1, 12, 4], VOCAB, 5)
}

#[track_caller]
fn close(context: &str, ours: &[f32], theirs: &[f32], relative: f32) {
    assert_eq!(ours.len(), theirs.len(), "{context}: lengths");
    let largest = theirs.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(largest > 0.0, "{context}: all zero");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let (difference, allowed) = ((a - b).abs(), relative * largest);
        assert!(difference <= allowed, "{context}: value {i} is {a} and {b}, allowed {allowed}");
    }
}

fn flat(tensor: &candle_core::Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Whole and cut.
fn kept() -> [LayerSet<LayerSlot>; 4] {
    [LayerSet::from([0, 1, 2]), LayerSet::from([0, 2]), LayerSet::from([2]), LayerSet::default()]
}

#[test]
fn logits_and_hidden_states_agree() {
    // Unequal lengths go through padding, equal ones do not; an empty sequence is no sequence.
    let equal = token_sequences(&[6, 6], VOCAB, 8);
    let with_empty = token_sequences(&[3, 0, 5], VOCAB, 9);
    for (name, model) in models() {
        let composed = ComposedModel::new(&model).unwrap();
        for sequences in [sequences(), equal.clone(), with_empty.clone()] {
            let batch = Batch::new(&sequences);
            for kept in &kept() {
                let context = format!("{name}, layers {kept:?}, {} tokens", batch.len());
                let mut boundaries: Vec<Vec<f32>> = Vec::new();
                let mut tap = |done: usize, hidden: &[f32]| {
                    assert_eq!(done, boundaries.len());
                    boundaries.push(hidden.to_vec());
                };
                let hidden = model.hidden_states(&batch, kept, Threads::One, None, Some(&mut tap)).unwrap();
                let logits = model.logits(&model.normed_rows(&hidden, 0..batch.len()), Threads::One);
                let mut seen = 0;
                let mut tap = |done: usize, hidden: &candle_core::Tensor| {
                    assert_eq!(done, seen);
                    close(&format!("{context}, boundary {done}"), &flat(hidden), &boundaries[done], VALUES);
                    seen += 1;
                    Ok(())
                };
                composed.hidden_states(&batch, kept, Some(&mut tap)).unwrap();
                assert_eq!(seen, kept.len() + 1);
                close(&context, &flat(&composed.forward(&batch, kept).unwrap()), &logits, VALUES);
            }
        }
    }
}

#[test]
fn every_gradient_agrees() {
    let sequences = sequences();
    let weights: Vec<Vec<f32>> =
        sequences.iter().map(|s| s.iter().map(|t| [0.0, 1.0, 0.5][*t as usize % 3]).collect()).collect();
    let data = TrainBatch::new(sequences.iter().zip(&weights).map(|(s, w)| (s.as_slice(), w.as_slice())));
    for (name, mut model) in models() {
        let composed = ComposedModel::new(&model).unwrap();
        let options = TrainOptions { scale: 0.125, ..TrainOptions::default() };
        for kept in &kept() {
            let mut ours = model.set_trainable(|_| true);
            let loss = model.loss_and_gradients(&data, kept, options, &mut TrainWorkspace::default(), &mut ours);
            let (loss, composed_loss) = (loss.unwrap(), composed.loss(&data, kept, 0.125).unwrap());
            let theirs = f64::from(composed_loss.to_scalar::<f32>().unwrap());
            assert!((loss - theirs).abs() < 1e-5 * loss, "{name}, layers {kept:?}: loss {loss} and {theirs}");
            let theirs = composed_loss.backward().unwrap();
            let parameters = model.parameters();
            assert_eq!(parameters.len(), composed.variables().len(), "{name}");
            for ((parameter, param), (variable, var)) in parameters.iter().zip(composed.variables()) {
                assert_eq!(parameter, variable);
                let context = format!("{name}, layers {kept:?}: {parameter}");
                let ours = ours.of(param).unwrap();
                let removed = (0..3)
                    .any(|l| !kept.contains(LayerSlot(l)) && parameter.starts_with(&format!("model.layers.{l}.")));
                match theirs.get(var) {
                    Some(gradient) if !removed => close(&context, &flat(gradient), ours, GRADIENTS),
                    Some(_) => panic!("{context}: a removed layer has a gradient"),
                    None => {
                        assert!(removed, "{context}: no gradient");
                        assert!(ours.iter().all(|g| *g == 0.0), "{context}: a removed layer has a gradient");
                    }
                }
            }
        }
    }
}

#[test]
fn what_it_cannot_run_is_refused() {
    let composed = ComposedModel::new(&models().swap_remove(0).1).unwrap();
    let good = Batch::new(&[[1u32, 2]]);
    assert!(
        composed.forward(&Batch::new(&[[VOCAB as u32]]), &LayerSet::from([0])).is_err(),
        "a token outside the vocabulary"
    );
    assert!(composed.forward(&good, &LayerSet::from([3])).is_err(), "a layer that does not exist");
    assert!(composed.forward(&Batch::default(), &LayerSet::from([0])).is_err(), "an empty batch");
    assert!(
        composed.forward(&Batch::continued([([1u32].as_slice(), 4)]), &LayerSet::from([0])).is_err(),
        "a continued sequence"
    );
    let unweighted = TrainBatch::new([([1u32, 2].as_slice(), [0.0f32, 0.0].as_slice())]);
    assert!(composed.loss(&unweighted, &LayerSet::from([0]), 1.0).is_err(), "a loss over nothing");
}
