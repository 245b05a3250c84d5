//! Adapters of other kinds than a plain LoRA against PEFT: DoRA, ranks and alphas by module, whole modules, tokens.
//!
//! Expected logits come from `fixtures/peft/make_kinds.py`; the library versions are in each `expected.json`.

use lopper_heal::adapter::{ADAPTER_CONFIG, has_adapter};
use lopper_heal::{load_adapter, merge};
use lopper_model::{Checkpoint, Model};
use lopper_record::{LayerPosition, LayerSet};
use lopper_testkit::{assert_close, fixture, fixture_json};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Largest difference to PEFT's logits, which the adapters change by more than 5.
const LOGITS: f32 = 1e-4;
const KINDS: [&str; 10] = [
    "dora",
    "dora_biases",
    "patterns",
    "patterns_rslora",
    "eva",
    "saved",
    "saved_tied",
    "saved_tied_both",
    "tokens",
    "tokens_tied",
];

#[derive(Deserialize)]
struct Expected {
    base: String,
    dropped: LayerSet<LayerPosition>,
    sequences: Vec<Vec<u32>>,
    logits: Vec<Vec<Vec<f32>>>,
}

#[test]
fn every_kind_that_peft_saves_gives_its_logits() {
    for name in KINDS {
        let adapter = fixture(&format!("peft/kinds/{name}"));
        let Expected { base, dropped, sequences, logits } = fixture_json(&format!("peft/kinds/{name}/expected.json"));
        let checkpoint = Arc::new(Checkpoint::open(&fixture(&base)).unwrap());
        // From memory and from the file, on the kept layers of the whole model.
        for mut model in [Model::from_checkpoint(&checkpoint).unwrap(), Model::mapped(&checkpoint).unwrap()] {
            let kept = dropped.complement(model.num_layers());
            load_adapter(&adapter, &mut model, &kept).unwrap();
            let mut merged = model.clone();
            merge(&mut merged);
            assert!(has_adapter(&model) && !has_adapter(&merged), "{name}");
            assert_eq!(sequences.len(), logits.len());
            for (tokens, expected) in sequences.iter().zip(&logits) {
                let expected = expected.concat();
                for model in [&model, &merged] {
                    assert_close(&lopper_testkit::logits(model, tokens, &kept.slots()), &expected, LOGITS);
                }
            }
        }
    }
}

/// The fault of an adapter with a changed setting.
fn refused(name: &str, key: &str, value: Value) -> String {
    let (source, directory) = (fixture(&format!("peft/kinds/{name}")), tempfile::tempdir().unwrap());
    for entry in std::fs::read_dir(&source).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
    }
    let path = directory.path().join(ADAPTER_CONFIG);
    let mut settings: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    settings[key] = value;
    std::fs::write(&path, settings.to_string()).unwrap();
    let Expected { base, dropped, .. } = fixture_json(&format!("peft/kinds/{name}/expected.json"));
    let mut model = Model::from_checkpoint(&Checkpoint::open(&fixture(&base)).unwrap()).unwrap();
    let kept = dropped.complement(model.num_layers());
    let fault = load_adapter(directory.path(), &mut model, &kept).unwrap_err().into_fault().unwrap();
    assert!(!has_adapter(&model), "a refused adapter changes nothing");
    assert!(fault.expected.is_some() && fault.file.is_some(), "{fault}");
    format!("{fault} {:?}", fault.got)
}

#[test]
fn an_initialisation_that_changes_the_base_is_refused_by_name() {
    for name in ["pissa", "pissa_niter_4", "olora", "OLoRA", "corda", "loftq", "lora_ga", "of_the_future"] {
        let fault = refused("eva", "init_lora_weights", json!(name));
        assert!(fault.contains("init_lora_weights") && fault.contains(name), "{fault}");
    }
}

#[test]
fn settings_that_contradict_the_weights_are_refused() {
    for (name, key, value, expected) in [
        ("dora", "use_dora", json!(false), "lora_magnitude_vector"),
        ("patterns", "use_dora", json!(true), "lora_magnitude_vector"),
        ("patterns", "rank_pattern", json!({"q_proj": 3}), "does not fit"),
        ("patterns", "rank_pattern", json!({"q_proj": 2.5}), "rank_pattern"),
        ("patterns", "alpha_pattern", json!({"q_proj": -1}), "alpha_pattern"),
        ("tokens", "trainable_token_indices", json!([1, 2, 48]), "does not say which tokens"),
        ("tokens", "trainable_token_indices", json!([1, 2]), "does not fit"),
        ("tokens", "trainable_token_indices", Value::Null, "does not say which tokens"),
        ("tokens", "trainable_token_indices", json!("all"), "trainable_token_indices"),
        ("saved", "modules_to_save", json!("lm_head"), "modules_to_save"),
        ("eva", "kasa_config", json!({"x": 1}), "kasa_config"),
        ("eva", "lora_bias", json!(true), "lora_bias"),
    ] {
        let fault = refused(name, key, value.clone());
        assert!(fault.contains(expected), "{name}, {key} = {value}: {fault}");
    }
}

#[test]
fn a_model_and_its_adapted_copy_share_all_but_layers() {
    let adapted = |name: &str| {
        let Expected { base, .. } = fixture_json(&format!("peft/kinds/{name}/expected.json"));
        let model = Model::from_checkpoint(&Checkpoint::open(&fixture(&base)).unwrap()).unwrap();
        let (mut adapted, kept) = (model.clone(), LayerSet::all(model.num_layers()));
        load_adapter(&fixture(&format!("peft/kinds/{name}")), &mut adapted, &kept).unwrap();
        model.with_adapted_layers(&adapted, &kept).map(|both| both.num_layers())
    };
    assert_eq!(adapted("dora").unwrap(), 6);
    for (name, part) in [("saved", "the embedding"), ("tokens", "the embedding"), ("saved_tied", "the embedding")] {
        let fault = adapted(name).unwrap_err().into_fault().unwrap();
        assert!(fault.message.contains(part) && fault.hint.is_some(), "{fault}");
    }
}
