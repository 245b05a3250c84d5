//! Training steps against PEFT, on a base in 32 bits and on one that bitsandbytes holds in 4 bits: logits, the gradient
//! of every trained parameter, and the losses and gradient norms of ten steps of AdamW.
//!
//! Numbers come from `fixtures/peft/make_training.py`; the library versions are in each `expected.json`.

use super::Steps;
use lopper_heal::adapter::is_adapter;
use lopper_heal::{Document, Trainer, TrainerConfig, load_adapter};
use lopper_model::linear::Dropout;
use lopper_model::{Checkpoint, Model, TrainBatch, TrainOptions, TrainWorkspace};
use lopper_testkit::{assert_close, fixture, fixture_json};
use safetensors::SafeTensors;
use serde::Deserialize;
use std::sync::Arc;

const NAMES: [&str; 7] = ["rslora", "dora", "dora_drawn", "dora_dropout", "nf4", "nf4_fused", "nf4_dora"];

/// Largest difference of a logit.
const LOGITS: f32 = 1e-4;
/// Largest difference of a gradient, relative to the largest of its parameter.
const GRADIENTS: f32 = 2e-5;
/// Largest differences of the loss, in nats, and of the gradient norm, relative, over ten steps.
const STEPS: (f64, f64) = (5e-5, 5e-4);

#[derive(Deserialize)]
struct Expected {
    base: String,
    load_in_4bit: bool,
    sequences: Vec<Vec<u32>>,
    responses: Vec<Vec<f32>>,
    logits: Vec<Vec<Vec<f32>>>,
    adamw: Steps,
}

fn expected(name: &str) -> Expected {
    fixture_json(&format!("peft/training/{name}/expected.json"))
}

/// The base with the adapter, from memory or from the file.
fn adapted(name: &str, expected: &Expected, mapped: bool) -> Model {
    let checkpoint = Arc::new(Checkpoint::open(&fixture(&expected.base)).unwrap());
    let mut model =
        if mapped { Model::mapped(&checkpoint).unwrap() } else { Model::from_checkpoint(&checkpoint).unwrap() };
    if expected.load_in_4bit {
        model.quantize_nf4();
    }
    let all = (0..model.num_layers()).collect();
    load_adapter(&fixture(&format!("peft/training/{name}")), &mut model, &all).unwrap();
    model
}

fn documents(expected: &Expected) -> Vec<Document> {
    let texts = expected.sequences.iter().zip(&expected.responses);
    texts.map(|(tokens, weights)| Document { tokens: tokens.clone(), weights: weights.clone() }).collect()
}

#[test]
fn logits_are_pefts() {
    for name in NAMES {
        let expected = expected(name);
        for mapped in [false, true] {
            let model = adapted(name, &expected, mapped);
            let quantised = model.parameters().iter().filter(|(_, param)| param.nf4.is_some()).count();
            assert_eq!(quantised > 0, expected.load_in_4bit, "{name}");
            assert_eq!(expected.sequences.len(), expected.logits.len());
            for (tokens, logits) in expected.sequences.iter().zip(&expected.logits) {
                assert_close(&lopper_testkit::logits(&model, tokens, &model.all_layers()), &logits.concat(), LOGITS);
            }
        }
    }
}

#[test]
fn gradients_are_pefts() {
    for name in NAMES {
        let expected = expected(name);
        let bytes = std::fs::read(fixture(&format!("peft/training/{name}/gradients.safetensors"))).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        for mapped in [false, true] {
            let mut model = adapted(name, &expected, mapped);
            let mut gradients = model.set_trainable(is_adapter);
            let documents = documents(&expected);
            let batch = TrainBatch::new(documents.iter().map(|d| (d.tokens.as_slice(), d.weights.as_slice())));
            let options = TrainOptions {
                scale: (1.0 / batch.total_weight()) as f32,
                dropout: Some(Dropout { seed: 0 }),
                checkpointing: mapped,
                ..TrainOptions::default()
            };
            let all = model.all_layers();
            let mut workspace = TrainWorkspace::default();
            let loss = model.loss_and_gradients(&batch, &all, options, &mut workspace, &mut gradients).unwrap();
            assert!((loss - expected.adamw.losses[0]).abs() < 1e-5, "{name}: {loss}, {}", expected.adamw.losses[0]);
            let mut compared = 0;
            for (parameter, param) in model.parameters() {
                let Some(slot) = param.slot else { continue };
                let gradient = tensors.tensor(&parameter).unwrap();
                let wanted: Vec<f32> =
                    gradient.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                let largest = wanted.iter().fold(0f32, |most, g| most.max(g.abs()));
                assert!(largest > 1e-4, "{name}, {parameter}: no gradient");
                assert_close(&gradients.slots[slot], &wanted, GRADIENTS * largest.max(1.0));
                compared += 1;
            }
            assert_eq!(compared, tensors.len(), "{name}");
        }
    }
}

#[test]
fn ten_steps_are_pefts() {
    for name in NAMES {
        let expected = expected(name);
        let model = adapted(name, &expected, true);
        let Steps { lr, clip, losses, gradient_norms, .. } = &expected.adamw;
        let config = TrainerConfig { clip: *clip, ..TrainerConfig::default() };
        let kept = model.all_layers();
        let mut trainer = Trainer::new(model, kept, is_adapter, expected.adamw.optimizer(), config);
        let documents = documents(&expected);
        assert_eq!((losses.len(), gradient_norms.len()), (10, 10));
        for (step, (loss, norm)) in losses.iter().zip(gradient_norms).enumerate() {
            let stats = trainer.step(&documents, *lr).unwrap();
            assert!((stats.loss - loss).abs() < STEPS.0, "{name}, step {step}: loss {}, expected {loss}", stats.loss);
            let difference = (stats.grad_norm / norm - 1.0).abs();
            assert!(difference < STEPS.1, "{name}, step {step}: gradient norm {}, expected {norm}", stats.grad_norm);
        }
        let quantised = trainer.model.parameters().iter().filter(|(_, param)| param.nf4.is_some()).count();
        assert_eq!(quantised > 0, expected.load_in_4bit, "the base stays as it is");
    }
}
