//! Adapters against PEFT, and what they promise: an untrained one changes nothing, merged equals
//! unmerged, written equals read, and what does not fit is refused.
//!
//! Expected logits come from `fixtures/peft/make.py`; the library versions are in each `expected.json`.
//! The other direction, PEFT reading what Lopper wrote, is `fixtures/peft/check.py`.

use lopper_heal::adapter::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, has_adapter};
use lopper_heal::{Base, LoraConfig, attach_lora, load_adapter, merge, save_adapter};
use lopper_model::{Checkpoint, Model};
use lopper_record::{LayerPosition, LayerSet};
use lopper_testkit::{Tiny, assert_close, fixture, fixture_json, max_difference, tiny_model, token_sequences};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Largest difference to PEFT's logits, which the adapters change by more than 10.
const LOGITS: f32 = 1e-4;

#[derive(Deserialize)]
struct Expected {
    dropped: LayerSet<LayerPosition>,
    sequences: Vec<Vec<u32>>,
    logits: Vec<Vec<Vec<f32>>>,
}

fn logits(model: &Model, kept: &LayerSet<LayerPosition>, tokens: &[u32]) -> Vec<f32> {
    lopper_testkit::logits(model, tokens, &kept.slots())
}

fn all(model: &Model) -> LayerSet<LayerPosition> {
    LayerSet::all(model.num_layers())
}

/// A tiny model with an adapter whose B, and whose magnitudes if it is DoRA, are drawn.
fn adapted(config: &LoraConfig, kept: &LayerSet<LayerPosition>) -> Model {
    let mut model = tiny_model(Tiny { bias: true, ..Tiny::default() }, 3);
    attach_lora(&mut model, config, 7, kept).unwrap();
    let mut value = 0.3f32;
    model.visit_mut(|name, param| {
        let shift = match name {
            name if name.ends_with("lora_B.weight") => 0.5,
            // Norms are positive.
            name if name.ends_with("lora_magnitude_vector") => -0.5,
            _ => return,
        };
        Arc::make_mut(&mut param.data).iter_mut().for_each(|x| {
            value = (value * 3.7 + 0.11) % 1.0;
            *x = value - shift;
        });
    });
    model
}

fn small() -> LoraConfig {
    LoraConfig { r: 3, alpha: 5.0, ..LoraConfig::default() }
}

#[test]
fn what_peft_saved_gives_its_logits() {
    for name in ["peft/all_rslora", "peft/attention"] {
        let Expected { dropped, sequences, logits: expected } = fixture_json(&format!("{name}/expected.json"));
        // Over the kept layers of the whole model, and on the model without the others.
        let mut whole = Model::from_checkpoint(&Checkpoint::open(&fixture("llama/untied")).unwrap()).unwrap();
        let kept = dropped.complement(whole.num_layers());
        let mut pruned = whole.keep(&kept);
        load_adapter(&fixture(name), &mut whole, &kept).unwrap();
        let layers = all(&pruned);
        load_adapter(&fixture(name), &mut pruned, &layers).unwrap();
        let mut merged = pruned.clone();
        merge(&mut merged);
        assert!(has_adapter(&pruned) && !has_adapter(&merged));
        assert_eq!(sequences.len(), expected.len());
        for (tokens, expected) in sequences.iter().zip(expected) {
            let expected = expected.concat();
            assert_close(&logits(&whole, &kept, tokens), &expected, LOGITS);
            assert_close(&logits(&pruned, &layers, tokens), &expected, LOGITS);
            assert_close(&logits(&merged, &layers, tokens), &expected, LOGITS);
        }
    }
}

#[test]
fn a_fresh_adapter_changes_nothing_and_a_drawn_one_does() {
    let plain = tiny_model(Tiny { bias: true, ..Tiny::default() }, 3);
    let tokens = &token_sequences(&[20], 37, 1)[0];
    let all = all(&plain);
    let mut dora = plain.clone();
    let added = attach_lora(&mut dora, &LoraConfig { dora: true, ..small() }, 7, &all).unwrap();
    assert_eq!(dora.parameter_count(), plain.parameter_count() + added);
    assert_close(&logits(&dora, &all, tokens), &logits(&plain, &all, tokens), 1e-5);
    let mut fresh = plain.clone();
    let added = attach_lora(&mut fresh, &small(), 7, &all).unwrap();
    assert_eq!(fresh.parameter_count(), plain.parameter_count() + added);
    assert_eq!(logits(&fresh, &all, tokens), logits(&plain, &all, tokens));
    assert!(attach_lora(&mut fresh, &small(), 7, &all).is_err(), "two adapters");

    let changed = adapted(&small(), &all);
    assert!(max_difference(&logits(&changed, &all, tokens), &logits(&plain, &all, tokens)) > 0.5);
    // A is drawn from all of ±1/√inputs.
    for (name, param) in fresh.parameters().iter().filter(|(name, _)| name.ends_with("lora_A.weight")) {
        let largest = param.data.iter().fold(0f32, |m, v| m.max(v.abs())) * (param.cols as f32).sqrt();
        assert!((0.9..=1.0).contains(&largest), "{name}: {largest}");
        let mean = param.data.iter().sum::<f32>() / param.len() as f32 * (param.cols as f32).sqrt();
        assert!(mean.abs() < 0.3, "{name}: {mean}");
    }
}

#[test]
fn what_is_written_is_read_back_exactly() {
    let targets = vec!["o_proj".to_owned(), "gate_proj".to_owned()];
    let layers = LayerSet::from([0, 2, 3]);
    let others = LoraConfig { rslora: true, alpha: 2.5, target_modules: targets, ..small() };
    for config in [small(), others.clone(), LoraConfig { dora: true, ..small() }, LoraConfig { dora: true, ..others }] {
        let model = adapted(&config, &layers);
        let dir = tempfile::tempdir().unwrap();
        save_adapter(dir.path(), &model, &layers, &config, Some(Base { name: "the/base", revision: Some("abc") }))
            .unwrap();
        let written: Value = serde_json::from_slice(&fs::read(dir.path().join(ADAPTER_CONFIG)).unwrap()).unwrap();
        assert_eq!(written["base_model_name_or_path"], "the/base");
        assert_eq!(written["revision"], "abc");
        assert_eq!((&written["use_dora"], &written["use_rslora"]), (&json!(config.dora), &json!(config.rslora)));

        let mut read = tiny_model(Tiny { bias: true, ..Tiny::default() }, 3);
        assert_eq!(load_adapter(dir.path(), &mut read, &layers).unwrap(), config);
        let values =
            |model: &Model| -> Vec<_> { model.parameters().into_iter().map(|(name, p)| (name, p.data)).collect() };
        assert_eq!(values(&read), values(&model));
        let tokens = &token_sequences(&[20], 37, 1)[0];
        assert_eq!(logits(&read, &layers, tokens), logits(&model, &layers, tokens));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let layers = LayerSet::from([0, 1, 3]);
    save_adapter(dir.path(), &adapted(&small(), &layers), &layers, &small(), None).unwrap();
    let load = |dir: &Path, tiny: Tiny, kept: &LayerSet<LayerPosition>| {
        let mut model = tiny_model(tiny, 3);
        let fault = load_adapter(dir, &mut model, kept).unwrap_err().into_fault().unwrap();
        assert!(!has_adapter(&model), "a refused adapter changes nothing");
        assert!(fault.hint.is_some() || fault.expected.is_some(), "{fault}");
        fault.to_string()
    };
    let tiny = Tiny { bias: true, ..Tiny::default() };
    // Trained for three layers: neither four nor two will do.
    assert!(load(dir.path(), tiny, &[0, 1, 2, 3].into()).contains("layers.3"));
    assert!(load(dir.path(), tiny, &[0, 1].into()).contains("layers.2"));
    assert!(load(&dir.path().join("nowhere"), tiny, &layers).contains("no such adapter"));

    let path = dir.path().join(ADAPTER_CONFIG);
    let settings: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value) in [
        ("r", json!(4)),
        ("r", json!(0)),
        ("r", json!("three")),
        ("lora_alpha", Value::Null),
        ("lora_dropout", json!(1.0)),
        ("peft_type", json!("IA3")),
        ("bias", json!("all")),
        ("use_dora", json!(true)),
        ("rank_pattern", json!({"q_proj": 8})),
        ("modules_to_save", json!(["lm_head"])),
        ("target_modules", json!([3])),
    ] {
        let mut changed = settings.clone();
        changed[key] = value.clone();
        fs::write(&path, changed.to_string()).unwrap();
        load(dir.path(), tiny, &layers);
    }
    fs::write(&path, "{").unwrap();
    load(dir.path(), tiny, &layers);
    fs::write(&path, settings.to_string()).unwrap();

    let weights = dir.path().join(ADAPTER_WEIGHTS);
    let bytes = fs::read(&weights).unwrap();
    for cut in [0, 7, 100, bytes.len() - 1] {
        fs::write(&weights, &bytes[..cut]).unwrap();
        assert!(load(dir.path(), tiny, &layers).contains("cut short"));
    }
    fs::remove_file(&weights).unwrap();
    load(dir.path(), tiny, &layers);
}
