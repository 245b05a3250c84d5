//! Ten training steps against `torch.optim.AdamW` with `clip_grad_norm_`: the loss before every
//! step and the gradient norm before clipping, full finetuning of the four fixture models.
//!
//! Numbers come from `fixtures/make_models.py`; the library versions are in each `expected.json`. The
//! loss falls from 6–10 to about 1 in these steps. Largest differences seen: 3e-6 in the loss, 1e-6
//! in the norm. The tolerances are between that and the smallest effect of leaving a part out:
//! 8e-5 without weight decay, 4e-3 with PyTorch's own beta2, 9e-2 without clipping.

use lopper_heal::{AdamWConfig, Document, Trainer, TrainerConfig};
use lopper_model::{Checkpoint, Model};
use lopper_record::{LayerPosition, LayerSet};
use serde::Deserialize;
use std::path::PathBuf;

/// Difference of a loss, in nats.
const LOSS: f64 = 2e-5;
/// Difference of a gradient norm, relative.
const NORM: f64 = 2e-5;

#[derive(Deserialize)]
struct Expected {
    sequences: Vec<Vec<u32>>,
    responses: Vec<Vec<f32>>,
    adamw: Steps,
}

#[derive(Deserialize)]
struct Steps {
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    clip: f64,
    losses: Vec<f64>,
    gradient_norms: Vec<f64>,
}

fn fixture(name: &str) -> (Model, Expected) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name);
    let model = Model::from_checkpoint(&Checkpoint::open(&directory).unwrap()).unwrap();
    (model, serde_json::from_slice(&std::fs::read(directory.join("expected.json")).unwrap()).unwrap())
}

fn train(name: &str, config: TrainerConfig) {
    let (model, Expected { sequences, responses, adamw }) = fixture(name);
    assert_eq!(sequences.len(), responses.len());
    let documents: Vec<Document> =
        sequences.into_iter().zip(responses).map(|(tokens, weights)| Document { tokens, weights }).collect();
    let optimizer =
        AdamWConfig { beta1: adamw.betas[0], beta2: adamw.betas[1], eps: adamw.eps, weight_decay: adamw.weight_decay };
    let context = format!("{name}, {config:?}");
    let kept = LayerSet::<LayerPosition>::all(model.num_layers()).slots();
    let mut trainer = Trainer::new(model, kept, |_| true, optimizer, TrainerConfig { clip: adamw.clip, ..config });
    assert!(adamw.gradient_norms.iter().any(|n| *n > 2.0 * adamw.clip), "{name}: clipping is exercised");
    assert_eq!((adamw.losses.len(), adamw.gradient_norms.len()), (10, 10));
    for (step, (loss, norm)) in adamw.losses.iter().zip(&adamw.gradient_norms).enumerate() {
        let stats = trainer.step(&documents, adamw.lr).unwrap();
        let difference = (stats.loss - loss).abs();
        assert!(difference < LOSS, "{context}, step {step}: loss {}, expected {loss}", stats.loss);
        let difference = (stats.grad_norm / norm - 1.0).abs();
        assert!(difference < NORM, "{context}, step {step}: gradient norm {}, expected {norm}", stats.grad_norm);
    }
}

#[test]
fn ten_steps_give_pytorchs_losses() {
    for name in ["llama/untied", "llama/tied_bias", "qwen3/tied", "qwen3/untied"] {
        train(name, TrainerConfig::default());
    }
}

#[test]
fn however_the_batch_is_divided() {
    // One document per micro-batch on two workers, and gradient checkpointing.
    train("qwen3/tied", TrainerConfig { workers: 2, micro_tokens: 1, ..TrainerConfig::default() });
    train("llama/untied", TrainerConfig { checkpointing: true, ..TrainerConfig::default() });
}
