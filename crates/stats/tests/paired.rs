//! Paired tests over many simulated ablations: how often removals that change nothing are marked, and how often a
//! mean's interval has the true mean. Seeds are fixed.

use lopper_stats::{Pair, holm, retention, sign_flip_exact, sum_interval};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Items of one task, by two models: both are right with probability `kept` of `base`, and where one of them is not,
/// the other is with the same probability, so that neither is better if `cut` is `base`.
fn items(rng: &mut ChaCha8Rng, n: usize, base: f64, cut: f64) -> (Vec<f64>, Vec<f64>) {
    // Half of what the better model gets right depends on the item alone.
    let common = 0.5 * base.min(cut);
    let rest = |p: f64| (p - common) / (1.0 - common);
    let mut answer = || {
        let easy = uniform(rng) < common;
        let own = |rng: &mut ChaCha8Rng, p: f64| f64::from(u8::from(easy || uniform(rng) < rest(p)));
        (own(rng, base), own(rng, cut))
    };
    (0..n).map(|_| answer()).unzip()
}

/// What each item adds to the mean over the tasks of the relative differences.
fn contributions(tasks: &[(Vec<f64>, Vec<f64>)]) -> Vec<f64> {
    let of_task = |(base, cut): &(Vec<f64>, Vec<f64>)| {
        let pooled = (base.iter().sum::<f64>() + cut.iter().sum::<f64>()) / 2.0;
        base.iter().zip(cut).map(|(base, cut)| (cut - base) / pooled).collect::<Vec<f64>>()
    };
    tasks.iter().flat_map(of_task).collect()
}

#[test]
fn removals_that_change_nothing_are_seldom_marked() {
    let (studies, removals) = (400, 12);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (mut any, mut single) = (0, 0);
    for _ in 0..studies {
        let p: Vec<f64> = (0..removals)
            .map(|_| {
                let tasks = [(40, 0.9), (30, 0.5), (60, 0.3)].map(|(n, score)| items(&mut rng, n, score, score));
                sign_flip_exact(&contributions(&tasks))
            })
            .collect();
        single += p.iter().filter(|p| **p <= 0.05).count();
        any += usize::from(holm(&p).iter().any(|p| *p <= 0.05));
    }
    // Nominal: 5 % of all tests, and 5 % of the ablations with any mark; the standard errors are 0.3 and 1.1.
    let single = single as f64 / (studies * removals) as f64;
    let any = any as f64 / studies as f64;
    assert!((0.03..0.06).contains(&single), "{single}");
    assert!((0.01..0.08).contains(&any), "{any}");
}

#[test]
fn a_loss_is_found() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let found = (0..200).filter(|_| {
        let tasks = [(100, 0.9, 0.7), (100, 0.5, 0.4)].map(|(n, base, cut)| items(&mut rng, n, base, cut));
        sign_flip_exact(&contributions(&tasks)) * 12.0 <= 0.05
    });
    let found = found.count();
    // More than half, although every second item answers at random.
    assert!(found > 100, "{found} of 200");
}

#[test]
fn the_interval_of_a_mean_of_retentions_has_the_true_one() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for (scores, name) in [([(0.9, 0.8), (0.6, 0.6)], "little lost"), ([(0.9, 0.45), (0.6, 0.1)], "much lost")] {
        let truth = scores.iter().map(|(base, cut)| cut / base / 2.0).sum::<f64>();
        let within = (0..400).filter(|_| {
            let parts = scores.map(|(base, cut)| {
                let (base, cut) = items(&mut rng, 48, base, cut);
                let kept = retention(&Pair::new(&base, &cut)).unwrap().unwrap();
                (0.5, kept.value, kept.ci95)
            });
            let value = parts.iter().map(|(weight, value, _)| weight * value).sum();
            let [low, high] = sum_interval(value, &parts);
            (low..=high).contains(&truth)
        });
        // At least 95 %: the parts' intervals are exact or wider.
        let within = within.count();
        assert!(within >= 376, "{name}: {within} of 400");
    }
}
