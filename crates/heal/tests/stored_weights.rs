//! Frozen weights that stay in their file train an adapter as weights in memory do, and an adapter is
//! folded in as a checkpoint is written.

use lopper_heal::adapter::is_adapter;
use lopper_heal::{LoraConfig, attach_lora, merge};
use lopper_model::checkpoint::Dtype;
use lopper_model::families::config_json;
use lopper_model::{Checkpoint, Config, MatmulPrecision, Model, Threads, TrainBatch, TrainOptions, TrainWorkspace};
use lopper_testkit::{assert_close, token_sequences};
use std::path::Path;
use std::sync::Arc;

const KEPT: [usize; 2] = [0, 2];
const F32: (Threads, MatmulPrecision) = (Threads::One, MatmulPrecision::F32);

/// Its head has more than a million values, so that a stored one is read in several blocks.
fn config() -> Config {
    Config { vocab_size: 40_000, num_key_value_heads: 2, intermediate_size: 88, ..Config::plain(3, 4, 8) }
}

fn write(directory: &Path, dtype: Dtype) -> Arc<Checkpoint> {
    let model = Model::random(config(), 0.3, 1).unwrap();
    model.save(directory, &config_json(&model.config, dtype).unwrap(), dtype).unwrap();
    Arc::new(Checkpoint::open(directory).unwrap())
}

/// With an adapter whose every value is drawn: a fresh one's B is zero.
fn adapted(mut model: Model) -> Model {
    attach_lora(&mut model, &LoraConfig { r: 4, alpha: 8.0, ..LoraConfig::default() }, 3, &KEPT.into()).unwrap();
    let mut state = 1u32;
    model.visit_mut(|name, param| {
        if is_adapter(name) {
            for value in Arc::make_mut(&mut param.data) {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *value = (state >> 16) as f32 / 65_536.0 - 0.5;
            }
        }
    });
    model
}

/// Loss and gradients of what `trainable` accepts.
fn step(
    model: &mut Model,
    matmul: (Threads, MatmulPrecision),
    trainable: impl FnMut(&str) -> bool,
) -> (f64, Vec<Vec<f32>>) {
    let mut gradients = model.set_trainable(trainable);
    let texts = token_sequences(&[9, 14], config().vocab_size, 3);
    let weights: Vec<Vec<f32>> = texts.iter().map(|text| vec![1.0; text.len()]).collect();
    let data = TrainBatch::new(texts.iter().zip(&weights).map(|(t, w)| (t.as_slice(), w.as_slice())));
    let (threads, precision) = matmul;
    let options = TrainOptions { threads, precision, scale: 0.1, ..TrainOptions::default() };
    let mut workspace = TrainWorkspace::default();
    let loss = model.loss_and_gradients(&data, &KEPT.into(), options, &mut workspace, &mut gradients).unwrap();
    (loss, gradients.slots)
}

#[test]
fn an_adapter_learns_the_same_over_weights_in_their_file() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = write(directory.path(), dtype);
        for matmul in [F32, (Threads::Pool, MatmulPrecision::F32), (Threads::One, MatmulPrecision::Bf16)] {
            let (mut resident, mut mapped) =
                (adapted(Model::from_checkpoint(&checkpoint).unwrap()), adapted(Model::mapped(&checkpoint).unwrap()));
            let (expected, found) = (step(&mut resident, matmul, is_adapter), step(&mut mapped, matmul, is_adapter));
            assert!(mapped.in_file());
            assert!((expected.0 - found.0).abs() < 1e-5 * expected.0, "{dtype} {matmul:?}: {} {}", found.0, expected.0);
            assert_eq!(found.1.len(), 2 * 7 * KEPT.len());
            assert_eq!(expected.1.len(), found.1.len());
            for (expected, found) in expected.1.iter().zip(&found.1) {
                assert!(expected.iter().any(|g| *g != 0.0));
                assert_close(found, expected, 1e-4);
            }
        }
    }
}

#[test]
fn what_is_trained_is_brought_into_memory() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = write(directory.path(), Dtype::BF16);
    let all = |name: &str| !name.contains(".1.");
    let (mut resident, mut mapped) =
        (Model::from_checkpoint(&checkpoint).unwrap(), Model::mapped(&checkpoint).unwrap());
    let (expected, found) = (step(&mut resident, F32, all), step(&mut mapped, F32, all));
    assert_eq!(expected, found);
    mapped.visit_mut(|name, param| assert_eq!(param.mapped.is_none(), all(name) || param.rows == 1, "{name}"));
}

#[test]
fn an_adapter_is_folded_in_as_the_model_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = write(directory.path(), Dtype::BF16);
    let mut resident = adapted(Model::from_checkpoint(&checkpoint).unwrap());
    merge(&mut resident);
    let written = tempfile::tempdir().unwrap();
    let json = config_json(&config(), Dtype::F32).unwrap();
    adapted(Model::mapped(&checkpoint).unwrap()).save(written.path(), &json, Dtype::F32).unwrap();
    let read = Model::from_checkpoint(&Checkpoint::open(written.path()).unwrap()).unwrap();
    let tokens = &token_sequences(&[11], config().vocab_size, 5)[0];
    let logits = |model: &Model| lopper_testkit::logits(model, tokens, &model.all_layers());
    assert_eq!(logits(&read), logits(&resident));
}
