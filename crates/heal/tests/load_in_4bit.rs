//! Training on a base in 4 bits (QLoRA): what is trained, evaluated and returned, from memory and from a file.
//!
//! That steps are those of PEFT on bitsandbytes' weights is tested in `training_steps/peft.rs`.

use lopper_heal::adapter::is_adapter;
use lopper_heal::{
    Distillation, Document, HealRecipe, HealStats, Healed, LoraConfig, LossSample, Method, Run, StateFile, heal, merge,
};
use lopper_model::checkpoint::Dtype;
use lopper_model::families::config_json;
use lopper_model::{Checkpoint, Config, Model};
use lopper_record::{LayerPosition, LayerSet, NoProgress};
use lopper_testkit::{RecordedProgress, assert_close, max_difference, token_sequences};
use std::sync::Arc;
use std::time::Duration;

const TWO: Run<'static> = Run::with_workers(2);
const VOCABULARY: usize = 37;

fn model() -> Model {
    let config =
        Config { vocab_size: VOCABULARY, num_key_value_heads: 2, intermediate_size: 88, ..Config::plain(4, 4, 8) };
    Model::random(config, 0.3, 1).unwrap()
}

fn documents() -> Vec<Document> {
    let lengths: Vec<usize> = (0..20).map(|i| 8 + i % 5).collect();
    let document = |tokens: Vec<u32>| Document { weights: vec![1.0; tokens.len()], tokens };
    token_sequences(&lengths, VOCABULARY, 9).into_iter().map(document).collect()
}

fn recipe() -> HealRecipe {
    HealRecipe {
        lora: LoraConfig { r: 4, alpha: 8.0, ..LoraConfig::default() },
        load_in_4bit: true,
        learning_rate: 1e-2,
        batch: 6,
        epochs: 6,
        mixed: false,
        ..HealRecipe::for_pocket(Method::Lora)
    }
}

fn kept() -> LayerSet<LayerPosition> {
    [0, 1, 3].into()
}

fn run(model: &Model, recipe: &HealRecipe, how: &Run<'_>) -> Healed {
    heal(model, &kept(), &documents(), recipe, how, &NoProgress).unwrap()
}

fn values(model: &Model) -> Vec<(String, Vec<f32>)> {
    model.parameters().into_iter().map(|(name, param)| (name, param.values().into_owned())).collect()
}

fn quantised(model: &Model) -> Vec<String> {
    model.parameters().into_iter().filter(|(_, param)| param.nf4.is_some()).map(|(name, _)| name).collect()
}

#[test]
fn the_base_is_quantised_and_the_result_is_on_the_given_weights() {
    let (model, documents) = (model(), documents());
    let how = Run { held_out: &documents, ..TWO };
    let healed = run(&model, &recipe(), &how);
    let stats = &healed.stats;
    assert!(stats.loss_last < 0.7 * stats.loss_first, "{} to {}", stats.loss_first, stats.loss_last);
    assert!(quantised(&model).is_empty() && quantised(&healed.model).is_empty(), "what was given does not change");
    let trained = quantised(healed.trained());
    assert_eq!(trained.len(), 3 * 7);
    assert!(trained.iter().all(|name| name.ends_with("_proj.weight")), "{trained:?}");

    // The same adapter on both; everything else of the result is what was given.
    let (given, result, trained) = (values(&model.keep(&kept())), values(&healed.model), values(healed.trained()));
    let adapters =
        |all: &[(String, Vec<f32>)]| all.iter().filter(|(name, _)| is_adapter(name)).cloned().collect::<Vec<_>>();
    assert_eq!(adapters(&result).len(), 3 * 7 * 2);
    assert_eq!(adapters(&result), adapters(&trained));
    assert_eq!(result.into_iter().filter(|(name, _)| !is_adapter(name)).collect::<Vec<_>>(), given);

    // Losses are those of the quantised model, before and after.
    let mut before = model.keep(&kept());
    before.quantize_nf4();
    let nll = |model: &Model| -> f64 {
        let (mut sum, mut tokens) = (0.0, 0);
        for document in &documents {
            let logits = lopper_testkit::logits(model, &document.tokens, &model.all_layers());
            for (row, token) in logits.chunks_exact(VOCABULARY).zip(&document.tokens[1..]) {
                let peak = row.iter().fold(f32::MIN, |peak, v| peak.max(*v));
                let total: f64 = row.iter().map(|v| f64::from(v - peak).exp()).sum();
                sum += total.ln() - f64::from(row[*token as usize] - peak);
                tokens += 1;
            }
        }
        sum / f64::from(tokens)
    };
    let loss = stats.held_out.unwrap();
    assert!((loss.first - nll(&before)).abs() < 1e-5, "{} and {}", loss.first, nll(&before));
    assert!((loss.last - nll(healed.trained())).abs() < 1e-5, "{} and {}", loss.last, nll(healed.trained()));
    assert!((loss.first - nll(&model.keep(&kept()))).abs() > 1e-3, "4 bits make a difference");

    // What is written is the adapter on the given weights.
    let mut merged = healed.model.clone();
    merge(&mut merged);
    let sample = LossSample::of(&healed, &model, &kept(), &documents, &how, &NoProgress).unwrap();
    let written = sample.of_written(merged.clone(), "float32", &NoProgress).unwrap();
    assert_eq!((written.start, written.trained), (loss.first, loss.last));
    assert!((written.written - nll(&merged)).abs() < 1e-5);
    // And without held-out examples both are measured in 4 bits, on those that were trained on.
    let stats = HealStats { held_out: None, ..healed.stats.clone() };
    let healed = Healed { stats, ..healed };
    let sample = LossSample::of(&healed, &model, &kept(), &documents, &TWO, &NoProgress).unwrap();
    let written = sample.of_written(merged, "float32", &NoProgress).unwrap();
    assert!((written.start - loss.first).abs() < 1e-6 && (written.trained - loss.last).abs() < 1e-6);
}

#[test]
fn weights_in_a_file_train_as_weights_in_memory_do() {
    let directory = tempfile::tempdir().unwrap();
    let model = model();
    model.save(directory.path(), &config_json(&model.config, Dtype::BF16).unwrap(), Dtype::BF16).unwrap();
    let checkpoint = Arc::new(Checkpoint::open(directory.path()).unwrap());
    let (mut resident, mut mapped) =
        (Model::from_checkpoint(&checkpoint).unwrap(), Model::mapped(&checkpoint).unwrap());
    resident.quantize_nf4();
    mapped.quantize_nf4();
    assert_eq!(quantised(&mapped).len(), 4 * 7);
    assert_eq!(values(&resident), values(&mapped));
    assert!(mapped.in_file(), "embeddings stay");
    mapped.load();
    assert!(quantised(&mapped).is_empty() && !mapped.in_file());
    assert_eq!(values(&resident), values(&mapped), "brought into memory, they have the values of 4 bits");

    // Clones have the same numbers; what is quantised twice has not, and is not what it was made of.
    let weight = |model: &Model| model.layers[0].o.weight.clone();
    let mut again = Model::from_checkpoint(&checkpoint).unwrap();
    assert!(!weight(&again).shares_values_with(&weight(&resident)));
    again.quantize_nf4();
    assert!(weight(&resident).shares_values_with(&weight(&resident.clone())));
    assert!(!weight(&again).shares_values_with(&weight(&resident)));
}

#[test]
fn an_interrupted_run_ends_like_one_that_was_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let state = Run { state: Some(StateFile { path: &path, model: "m", save_every: Duration::MAX }), ..TWO };
    let whole = run(&model(), &recipe(), &TWO);
    let progress = RecordedProgress::interrupting_when(|step| step.reports == 5);
    let error = heal(&model(), &kept(), &documents(), &recipe(), &state, &progress).unwrap_err();
    assert!(error.is_interrupted(), "{error:#}");
    assert!(std::fs::metadata(&path).unwrap().len() < 400_000, "the state has the adapter alone");
    // A run on weights in 32 bits is another one.
    let other = HealRecipe { load_in_4bit: false, ..recipe() };
    let fault = heal(&model(), &kept(), &documents(), &other, &state, &NoProgress).unwrap_err().into_fault().unwrap();
    assert!(fault.message.contains("another recipe") && fault.got.unwrap().contains("load_in_4bit"));
    let resumed = run(&model(), &recipe(), &state);
    assert_eq!(values(&resumed.model), values(&whole.model));
    assert_eq!(resumed.stats.loss_curve, whole.stats.loss_curve);
}

#[test]
fn a_teacher_is_not_quantised() {
    // All layers stay, so that nothing but 4 bits is between the two models, and there is something to learn.
    let (model, all) = (model(), LayerSet::all(4));
    let recipe = HealRecipe { distillation: Some(Distillation::default()), ..recipe() };
    let objective = |recipe: &HealRecipe| {
        heal(&model, &all, &documents(), recipe, &TWO, &NoProgress).unwrap().stats.objective_curve
    };
    let curve = objective(&recipe);
    assert!(curve[0] > 1e-3 && curve[curve.len() - 1] < 0.8 * curve[0], "{curve:?}");
    let plain = objective(&HealRecipe { load_in_4bit: false, ..recipe });
    assert!(plain[0] < 1e-6, "{plain:?}");
}

#[test]
fn an_engine_computes_what_the_same_values_in_32_bits_give() {
    let mut quantised = model();
    quantised.quantize_nf4();
    let mut loaded = quantised.clone();
    loaded.load();
    let tokens = &documents()[0].tokens;
    for model in [&quantised, &loaded] {
        assert_eq!(model.parameter_count(), self::model().parameter_count());
    }
    let logits = |model: &Model| lopper_testkit::logits(model, tokens, &model.all_layers());
    assert_close(&logits(&quantised), &logits(&loaded), 1e-6);
    assert!(max_difference(&logits(&quantised), &logits(&model())) > 1e-2);
}
