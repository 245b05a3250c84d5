//! Stochastic rounding to bf16: a value between two representable ones becomes either, the nearer one with the larger
//! probability, so that the expected value is the value itself.
//!
//! bf16 has 8 bits of precision: rounding to nearest drops every update below half the gap to the next value, 1/512 of
//! the weight, and an update of full finetuning is often smaller. Rounded stochastically after each step, updates add
//! up in the mean, and the weights in training are those that a bf16 checkpoint holds (Zamirai et al., arXiv
//! 2010.06192; Gupta et al., arXiv 1502.02551).
//!
//! The random bits are a hash of seed, step, parameter and index: the same on any number of threads, and after an
//! interruption.

use lopper_model::Model;
use rayon::prelude::*;
use std::sync::Arc;

/// Values whose random bits come from one hash.
const PER_HASH: usize = 4;
/// The bits of an f32 that bf16 does not have.
const DROPPED: u32 = 0xffff;

/// Rounds every trained parameter of `model` to values that bf16 represents. `step` is the optimiser step that changed
/// them.
pub fn round_trained(model: &mut Model, seed: u64, step: u64) {
    let mut trained = Vec::new();
    model.visit_mut(|_, param| {
        if let Some(slot) = param.slot {
            trained.push((slot, std::mem::take(&mut param.data)));
        }
    });
    let key = hash(hash(seed).wrapping_add(step));
    trained.par_iter_mut().for_each(|(slot, data)| {
        round(Arc::make_mut(data).as_mut_slice(), hash(key.wrapping_add(*slot as u64)));
    });
    let mut trained = trained.into_iter();
    // In the order of the visit above.
    model.visit_mut(|_, param| {
        if param.slot.is_some()
            && let Some((_, data)) = trained.next()
        {
            param.data = data;
        }
    });
}

/// Rounds `values` with the random bits that belong to `key`.
fn round(values: &mut [f32], key: u64) {
    for (index, group) in values.chunks_mut(PER_HASH).enumerate() {
        let mut bits = hash(key.wrapping_add(index as u64));
        for value in group {
            *value = rounded(*value, bits as u32 & DROPPED);
            bits >>= 16;
        }
    }
}

/// `value` rounded to bf16, away from zero where the bits that are dropped and `random` carry over.
fn rounded(value: f32, random: u32) -> f32 {
    if !value.is_finite() {
        return value;
    }
    let up = f32::from_bits((value.to_bits() + random) & !DROPPED);
    // The largest values have nothing above them but infinity.
    if up.is_finite() { up } else { f32::from_bits(value.to_bits() & !DROPPED) }
}

/// SplitMix64's output function (Steele et al., OOPSLA 2014).
fn hash(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_many_roundings_is_the_value() {
        // Between 1 and 1 + 1/128, the next bf16 value, and between their negatives.
        for (value, below, above) in [(1.002f32, 1.0, 1.007_812_5), (-1.002, -1.0, -1.007_812_5)] {
            let mut values = vec![value; 1 << 16];
            round(&mut values, 7);
            assert!(values.iter().all(|v| *v == below || *v == above));
            let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
            // The standard error is 0.0034 / 256.
            assert!((mean - f64::from(value)).abs() < 6e-5, "{mean}");
        }
    }

    #[test]
    fn what_bf16_holds_stays_and_nothing_becomes_infinite() {
        let held = [0.0f32, -0.0, 1.0, -2.5, 3.389_531_4e38, f32::NEG_INFINITY, 1e-40];
        let held = held.map(|v| f32::from_bits(v.to_bits() & !DROPPED));
        for random in [0, 1, 0x8000, DROPPED] {
            assert_eq!(held.map(|v| rounded(v, random).to_bits()), held.map(f32::to_bits));
        }
        assert!(rounded(f32::MAX, DROPPED).is_finite() && rounded(f32::MIN, DROPPED).is_finite());
        assert!(rounded(f32::NAN, DROPPED).is_nan());
    }

    #[test]
    fn the_random_bits_depend_on_seed_and_index() {
        let of = |key: u64| {
            let mut values = vec![1.003f32; 64];
            round(&mut values, key);
            values
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert!(of(1).windows(2).any(|pair| pair[0] != pair[1]));
    }
}
