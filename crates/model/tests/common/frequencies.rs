//! The rotary frequencies of a configuration, apart from the decoder's, so that what is tested
//! against transformers is the reading of the configuration.

use lopper_model::config::{Rope, RopeScaling};
use serde::Deserialize;

/// What transformers computed for texts of one length.
#[derive(Deserialize)]
pub struct Frequencies {
    length: usize,
    inv_freq: Vec<f64>,
    attention_scaling: f64,
}

impl Frequencies {
    /// Asserts that `rope` gives these.
    pub fn check(&self, context: &str, rope: &Rope) {
        let (ours, factor) = frequencies(rope, self.length);
        assert_eq!(ours.len(), self.inv_freq.len(), "{context}: {rope:?}");
        for (a, b) in ours.iter().zip(&self.inv_freq) {
            // transformers computes them in f32, powers of large bases with a few ulps.
            assert!((a - b).abs() <= 2e-6 * b, "{context}, {} tokens: {a}, expected {b} by {rope:?}", self.length);
        }
        assert!((factor - self.attention_scaling).abs() < 1e-12, "{context}: factor {factor} of {rope:?}");
    }
}

/// The formulas of `modeling_rope_utils.py`, in f64.
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
