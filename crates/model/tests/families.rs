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

use common::{Fixture, Greedy};
use lopper_model::config::{Config, Rope, RopeScaling};
use lopper_model::families::parse_config;
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

/// The configuration in a fixture's `file`, lowered.
fn config(name: &str, file: &str) -> Config {
    let path = directory(name).join(file);
    parse_config(&serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap(), &path).unwrap()
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
fn logits_whole_and_cut() {
    for name in VARIANTS {
        let (mut whole, mut cut) = (0f32, 0f32);
        Fixture::read(name).check_logits(|run, largest| {
            let kind = if run.kept.len() < run.kept.last().unwrap() + 1 || whole > 0.0 { &mut cut } else { &mut whole };
            *kind = kind.max(largest);
        });
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
    for name in VARIANTS {
        assert_eq!(config(name, "config_v4.json"), config(name, "config.json"), "{name}");
    }
}

/// What transformers computed for texts of one length.
#[derive(Deserialize)]
struct Frequencies {
    length: usize,
    inv_freq: Vec<f64>,
    attention_scaling: f64,
}

#[test]
fn rotary_embeddings_are_lowered_to_the_frequencies_of_transformers() {
    for name in VARIANTS {
        let config = config(name, "config.json");
        let expected = std::fs::read(directory(name).join("expected.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        let ropes = Vec::<Vec<Frequencies>>::deserialize(&expected["ropes"]).unwrap();
        assert_eq!(config.ropes.len(), ropes.len(), "{name}");
        for (rope, expected) in config.ropes.iter().zip(ropes) {
            for Frequencies { length, inv_freq, attention_scaling } in expected {
                let (ours, factor) = frequencies(rope, length);
                assert_eq!(ours.len(), inv_freq.len(), "{name}: {rope:?}");
                for (a, b) in ours.iter().zip(&inv_freq) {
                    // transformers computes them in f32.
                    assert!((a - b).abs() <= 1e-6 * b, "{name}, {length} tokens: {a}, expected {b} by {rope:?}");
                }
                assert!((factor - attention_scaling).abs() < 1e-12, "{name}: factor {factor} of {rope:?}");
            }
        }
    }
}

/// The formulas of `modeling_rope_utils.py` once more, in f64 and apart from the decoder, so that
/// what is tested is the reading of the configuration.
fn frequencies(rope: &Rope, length: usize) -> (Vec<f64>, f64) {
    let half = rope.rotary_dim / 2;
    let dim = rope.rotary_dim as f64;
    let plain = |theta: f64| (0..half).map(move |i| theta.powf(-2.0 * i as f64 / dim));
    match &rope.scaling {
        RopeScaling::Default => (plain(rope.theta).collect(), 1.0),
        RopeScaling::Linear { factor } => (plain(rope.theta).map(|f| f / factor).collect(), 1.0),
        RopeScaling::Dynamic { factor, max_positions } => {
            let stretch = factor * length.max(*max_positions) as f64 / *max_positions as f64 - (factor - 1.0);
            (plain(rope.theta * stretch.powf(dim / (dim - 2.0))).collect(), 1.0)
        }
        RopeScaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original_max_positions } => {
            let scaled = plain(rope.theta).map(|f| {
                let turns = *original_max_positions as f64 * f / std::f64::consts::TAU;
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                kept * f + (1.0 - kept) * f / factor
            });
            (scaled.collect(), 1.0)
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_max_positions, attention_factor, truncate } => {
            let dimension = |turns: f64| {
                let wavelength = *original_max_positions as f64 / (turns * std::f64::consts::TAU);
                dim * wavelength.ln() / (2.0 * rope.theta.ln())
            };
            let round = |low: f64, high: f64| if *truncate { (low.floor(), high.ceil()) } else { (low, high) };
            let (low, high) = round(dimension(*beta_fast), dimension(*beta_slow));
            let (low, high) = (low.max(0.0), high.min(dim - 1.0));
            let width = if high == low { 0.001 } else { high - low };
            let scaled = plain(rope.theta).enumerate().map(|(i, f)| {
                let divided = ((i as f64 - low) / width).clamp(0.0, 1.0);
                divided * f / factor + (1.0 - divided) * f
            });
            (scaled.collect(), *attention_factor)
        }
        RopeScaling::LongRope { short_factor, long_factor, original_max_positions, attention_factor } => {
            let factors = if length > *original_max_positions { long_factor } else { short_factor };
            (plain(rope.theta).zip(factors).map(|(f, factor)| f / factor).collect(), *attention_factor)
        }
    }
}
