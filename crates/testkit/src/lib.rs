//! What tests of several crates share: tiny random models of every kind of configuration, comparisons that say by how
//! much they failed, the fixtures, a progress that remembers what was reported, and a hub on this machine.

pub mod hub;
pub mod tasks;

mod fixtures;
mod progress;
mod require;
mod zoo;

pub use fixtures::{NamedTensor, SHARDS, fixture, fixture_json, fixtures, shard, tensors, write_tensors};
pub use progress::{RecordedProgress, RecordedStep};
pub use require::{Feature, skip_unless};
pub use zoo::zoo;

use lopper_model::{Batch, Config, Model, QkNorm, Threads};
use lopper_record::{LayerSet, LayerSlot};
use std::ops::Range;

/// What varies between the tiny configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiny {
    /// Decoder layers.
    pub layers: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// RMSNorm over query and key heads, as in Qwen3.
    pub qk_norm: bool,
    /// Biases on every projection.
    pub bias: bool,
    /// The head is the embedding.
    pub tied: bool,
}

impl Default for Tiny {
    fn default() -> Self {
        Self { layers: 4, vocab: 37, qk_norm: false, bias: false, tied: true }
    }
}

/// A configuration with grouped queries and a head width that is not hidden/heads, so that mixed-up
/// shapes show. Positions end at 64.
pub fn tiny_config(tiny: Tiny) -> Config {
    Config {
        model_type: if tiny.qk_norm { "qwen3" } else { "llama" }.into(),
        vocab_size: tiny.vocab,
        hidden_size: 24,
        num_key_value_heads: 2,
        intermediate_size: 40,
        rms_norm_eps: 1e-5,
        tie_word_embeddings: tiny.tied,
        qkv_bias: tiny.bias,
        o_bias: tiny.bias,
        mlp_bias: tiny.bias,
        qk_norm: if tiny.qk_norm { QkNorm::Head } else { QkNorm::None },
        max_position_embeddings: 64,
        ..Config::plain(tiny.layers, 4, 10)
    }
}

/// A random model of [`tiny_config`]; its weights are large enough that every layer changes the
/// most probable token now and then.
pub fn tiny_model(tiny: Tiny, seed: u64) -> Model {
    Model::random(tiny_config(tiny), 0.4, seed).expect("a tiny configuration is valid")
}

/// Logits after each token of one text, `[tokens, vocab]`, with the layers `kept`.
pub fn logits(model: &Model, tokens: &[u32], kept: &LayerSet<LayerSlot>) -> Vec<f32> {
    logits_after(model, tokens, kept, 0..tokens.len())
}

/// Logits after the last token of one text, `[vocab]`, with the layers `kept`.
pub fn last_logits(model: &Model, tokens: &[u32], kept: &LayerSet<LayerSlot>) -> Vec<f32> {
    logits_after(model, tokens, kept, tokens.len() - 1..tokens.len())
}

fn logits_after(model: &Model, tokens: &[u32], kept: &LayerSet<LayerSlot>, rows: Range<usize>) -> Vec<f32> {
    let batch = Batch::new(&[tokens]);
    let hidden = model.hidden_states(&batch, kept, Threads::One, None, None).expect("tokens and layers of the model");
    model.logits(&model.normed_rows(&hidden, rows), Threads::One)
}

/// Token sequences of the given lengths below `vocab`; the same seed gives the same tokens.
pub fn token_sequences(lengths: &[usize], vocab: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        // Knuth's MMIX linear congruential generator; the high bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocab as u64) as u32
    };
    lengths.iter().map(|n| (0..*n).map(|_| next()).collect()).collect()
}

/// Largest absolute difference between two slices of the same length.
pub fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths differ");
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Panics unless the slices agree to `tolerance` everywhere (a NaN never agrees).
#[track_caller]
pub fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "lengths differ");
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        let difference = (x - y).abs();
        assert!(difference <= tolerance, "element {i}: {x} and {y} differ by {difference}, allowed {tolerance}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_in_range_and_repeatable() {
        let a = token_sequences(&[5, 0, 40], 7, 3);
        assert_eq!(a, token_sequences(&[5, 0, 40], 7, 3));
        assert_ne!(a, token_sequences(&[5, 0, 40], 7, 4));
        assert_eq!(a.iter().map(Vec::len).collect::<Vec<_>>(), [5, 0, 40]);
        assert!(a.iter().flatten().all(|t| *t < 7));
    }

    #[test]
    #[should_panic(expected = "element 1")]
    fn assert_close_refuses_nan() {
        assert_close(&[1.0, f32::NAN], &[1.0, f32::NAN], 1.0);
    }

    #[test]
    fn tiny_models_of_all_kinds_run() {
        for (qk_norm, bias, tied) in [(false, false, true), (true, false, false), (false, true, false)] {
            let model = tiny_model(Tiny { qk_norm, bias, tied, ..Tiny::default() }, 1);
            let logits = logits(&model, &[1, 2, 3], &model.all_layers());
            assert!(logits.len() == 3 * 37 && logits.iter().all(|v| v.is_finite()));
        }
    }
}
