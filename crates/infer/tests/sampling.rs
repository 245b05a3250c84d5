//! Sampling against a plain implementation: sort everything, cut, renormalise.

use lopper_infer::{Sampler, Sampling};
use proptest::prelude::*;

/// The distribution after temperature, top-k and top-p, written for clarity: one probability for
/// each token. The cuts are those of transformers 5's logits warpers: ties with the k-th value
/// stay, and the nucleus is the shortest prefix of the sorted tokens that reaches p.
fn reference(logits: &[f32], temperature: f64, top_k: Option<usize>, top_p: Option<f64>) -> Vec<f64> {
    let scaled: Vec<f32> = logits.iter().map(|v| v * (1.0 / temperature) as f32).collect();
    let mut sorted: Vec<usize> = (0..logits.len()).collect();
    sorted.sort_by(|a, b| scaled[*b].total_cmp(&scaled[*a]).then(a.cmp(b)));
    let kth = scaled[sorted[top_k.unwrap_or(usize::MAX).min(logits.len()) - 1]];
    sorted.retain(|i| scaled[*i] >= kth);
    let weight = |i: usize| f64::from(scaled[i] - scaled[sorted[0]]).exp();
    let total: f64 = sorted.iter().map(|i| weight(*i)).sum();
    let mut kept = vec![0.0; logits.len()];
    let mut cumulative = 0.0;
    for &i in &sorted {
        if cumulative >= top_p.unwrap_or(1.0) * total && cumulative > 0.0 {
            break;
        }
        cumulative += weight(i);
        kept[i] = weight(i);
    }
    let sum: f64 = kept.iter().sum();
    kept.iter().map(|w| w / sum).collect()
}

fn frequencies(logits: &[f32], sampling: Sampling, draws: usize) -> Vec<f64> {
    let mut sampler = Sampler::new(sampling, 42);
    let mut counts = vec![0.0; logits.len()];
    for _ in 0..draws {
        counts[sampler.choose(logits).unwrap().0 as usize] += 1.0 / draws as f64;
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn draws_follow_the_reference(
        // Quarters, so that ties are common.
        quarters in prop::collection::vec(-20i32..20, 1..300),
        temperature in 0.3f64..2.0,
        top_k in prop::option::of(1usize..120),
        top_p in prop::option::of(0.05f64..1.0),
    ) {
        let logits: Vec<f32> = quarters.iter().map(|q| *q as f32 / 4.0).collect();
        let expected = reference(&logits, temperature, top_k, top_p);
        let draws = 4000;
        let found = frequencies(&logits, Sampling::Sample { temperature, top_k, top_p }, draws);
        prop_assert_eq!(found.len(), expected.len());
        for (token, (found, expected)) in found.iter().zip(&expected).enumerate() {
            if *expected == 0.0 {
                prop_assert_eq!(*found, 0.0, "token {} was cut but drawn", token);
            }
            // Six standard errors and one draw.
            let tolerance = 6.0 * (expected * (1.0 - expected) / draws as f64).sqrt() + 1.5 / draws as f64;
            prop_assert!((found - expected).abs() <= tolerance, "token {}: {} for {}", token, found, expected);
        }
    }

    #[test]
    fn greedy_is_the_first_maximum(quarters in prop::collection::vec(-20i32..20, 1..300)) {
        let logits: Vec<f32> = quarters.iter().map(|q| *q as f32 / 4.0).collect();
        let (token, logprob) = Sampler::new(Sampling::Greedy, 1).choose(&logits).unwrap();
        let best = quarters.iter().max().unwrap();
        prop_assert_eq!(token as usize, quarters.iter().position(|q| q == best).unwrap());
        let total: f64 = logits.iter().map(|v| f64::from(*v).exp()).sum();
        prop_assert!((f64::from(logprob) - (f64::from(logits[token as usize]) - total.ln())).abs() < 1e-4);
    }
}

#[test]
fn the_nucleus_of_a_large_vocabulary_is_right() {
    // Flat enough that the nucleus is far longer than one partial selection.
    let logits: Vec<f32> = (0..20_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 2000.0).collect();
    let expected = reference(&logits, 1.0, None, Some(0.5));
    let found = frequencies(&logits, Sampling::Sample { temperature: 1.0, top_k: None, top_p: Some(0.5) }, 500);
    let kept = expected.iter().filter(|p| **p > 0.0).count();
    assert!(kept > 1000 && kept < 15_000, "{kept}");
    for (token, found) in found.iter().enumerate() {
        assert!(*found == 0.0 || expected[token] > 0.0, "token {token} was cut but drawn");
    }
    // Every quarter of the kept mass is hit about as often as it should be.
    let (a, b): (f64, f64) = (found[..5000].iter().sum(), expected[..5000].iter().sum());
    assert!((a - b).abs() < 0.12, "{a} for {b}");
}

#[test]
fn extreme_temperatures_stay_finite() {
    let logits = [1.0, 3.0, 2.0, 3.0f32.next_down()];
    for (temperature, top_p) in [(1e-30, None), (1e-30, Some(0.9))] {
        let sampling = Sampling::Sample { temperature, top_k: None, top_p };
        for seed in 0..50 {
            assert!([1, 3].contains(&Sampler::new(sampling, seed).choose(&logits).unwrap().0));
        }
    }
    let flat = frequencies(&logits, Sampling::Sample { temperature: 1e30, top_k: None, top_p: None }, 4000);
    assert!(flat.iter().all(|f| (f - 0.25).abs() < 0.05), "{flat:?}");
}

#[test]
fn seeds_repeat_and_differ() {
    let logits: Vec<f32> = (0..50).map(|i| (i as f32).sin()).collect();
    let sampling = Sampling::Sample { temperature: 1.0, top_k: None, top_p: None };
    let draw = |seed| {
        let mut sampler = Sampler::new(sampling, seed);
        (0..20).map(|_| sampler.choose(&logits).unwrap().0).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}
