//! Every family against transformers: logits over whole and cut models, greedy continuation
//! through the cache, gradients, both spellings of the configuration, and the frequencies of the
//! rotary embeddings that the configuration is lowered to.
//!
//! Numbers come from `fixtures/make_families.py` (its versions stand in each `expected.json`), in
//! f32 with eager attention. The script asserts that each feature of a variant, switched off,
//! moves some logit by more than 1e-2, a hundred times the tolerance here.
//!
//! `cargo test -p lopper-model --test families -- --nocapture` prints the largest difference of
//! every variant, from which the table in `docs/reference/families.md` is filled.

mod common;

use common::frequencies::Frequencies;
use common::{Fixture, Greedy};
use serde::Deserialize;
use std::path::PathBuf;

const VARIANTS: [&str; 22] = [
    "llama/linear",
    "llama/dynamic",
    "llama/llama3",
    "llama/yarn",
    "llama/yarn_full",
    "llama/bf16",
    "llama/f16_stored_head",
    "mistral/window",
    "mistral/full",
    "qwen2/biases",
    "qwen2/window",
    "qwen3/window",
    "gemma2/alternating",
    "gemma3/pattern",
    "olmo2/plain",
    "olmo3/yarn",
    "phi3/window",
    "phi3/longrope",
    "phi3/su",
    "smollm3/nope",
    "smollm3/window",
    "granite/scaled",
];

fn directory(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

#[test]
fn every_fixture_of_the_script_is_tested() {
    let mut found = Vec::new();
    for family in std::fs::read_dir(directory("")).unwrap().map(|entry| entry.unwrap().path()).filter(|p| p.is_dir()) {
        for variant in std::fs::read_dir(&family).unwrap().map(|entry| entry.unwrap().path()) {
            let Ok(expected) = std::fs::read_to_string(variant.join("expected.json")) else { continue };
            if expected.contains("make_families.py") {
                let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
                found.push(format!("{}/{}", name(&family), name(&variant)));
            }
        }
    }
    found.sort();
    let mut tested = VARIANTS.map(String::from);
    tested.sort();
    assert_eq!(found, tested);
}

#[test]
#[allow(clippy::print_stdout)] // The numbers are what `--nocapture` is for; see above.
fn logits_whole_and_cut() {
    for name in VARIANTS {
        let [whole, cut] = Fixture::read(name).check_logits();
        println!("{name:24} largest logit difference: whole {whole:.1e}, cut {cut:.1e}");
    }
}

#[test]
fn loss_and_every_gradient() {
    let mut checked = 0;
    for name in VARIANTS.into_iter().filter(|name| directory(name).join("gradients.safetensors").exists()) {
        Fixture::read(name).check_loss_and_gradients();
        checked += 1;
    }
    assert_eq!(checked, 4);
}

#[test]
fn greedy_continuations_through_the_cache() {
    for fixture in VARIANTS.into_iter().map(Fixture::read) {
        let runs = Vec::<Greedy>::deserialize(&fixture.json()["greedy"]).unwrap();
        assert!(!runs.is_empty());
        runs.into_iter().for_each(|greedy| fixture.check_continuation(greedy));
    }
}

#[test]
fn both_spellings_of_the_configuration_mean_the_same() {
    VARIANTS.into_iter().for_each(|name| Fixture::read(name).check_spellings());
}

#[test]
fn rotary_embeddings_are_lowered_to_the_frequencies_of_transformers() {
    for name in VARIANTS {
        let fixture = Fixture::read(name);
        let config = &fixture.model.config;
        let ropes = Vec::<Vec<Frequencies>>::deserialize(&fixture.json()["ropes"]).unwrap();
        assert_eq!(config.ropes.len(), ropes.len(), "{name}");
        for (rope, expected) in config.ropes.iter().zip(ropes) {
            for frequencies in expected {
                frequencies.check(name, rope);
            }
        }
    }
}
