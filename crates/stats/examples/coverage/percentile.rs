//! The paired percentile bootstrap that decided budgets before, with at least the exact bound on a rate seen 0 times
//! where a task lost no item. It is wrong too often, and is here to be compared with.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use crate::simulate::Items;

/// One-sided 95 % lower bound of the mean of the tasks' cut ÷ uncut.
pub fn lower(tasks: &[Items], resamples: usize, rng: &mut ChaCha8Rng) -> f64 {
    let count = tasks.len() as f64;
    let (mut means, mut value, mut extra) = (vec![0.0; resamples], 0.0, 0.0);
    for Items { base, cut, .. } in tasks {
        let n = base.len();
        let uncut: f64 = base.iter().sum();
        let seen = cut.iter().sum::<f64>() / uncut;
        let mut ratios: Vec<f64> = (0..resamples).map(|_| ratio(base, cut, rng)).collect();
        means.iter_mut().zip(&ratios).for_each(|(mean, ratio)| *mean += ratio / count);
        if base.iter().zip(cut).all(|(base, cut)| cut >= base) {
            let unseen = (1.0 - 0.05f64.powf(1.0 / n as f64)) * n as f64 / uncut;
            extra += (unseen.powi(2) - (seen - twentieth(&mut ratios)).powi(2)).max(0.0) / (count * count);
        }
        value += seen / count;
    }
    value - ((value - twentieth(&mut means)).max(0.0).powi(2) + extra).sqrt()
}

/// Cut ÷ uncut of resampled items; 1 where the uncut model scores nothing.
fn ratio(base: &[f64], cut: &[f64], rng: &mut ChaCha8Rng) -> f64 {
    let (mut uncut, mut kept) = (0.0, 0.0);
    for _ in base {
        let item = ((u64::from(rng.next_u32()) * base.len() as u64) >> 32) as usize;
        uncut += base[item];
        kept += cut[item];
    }
    if uncut > 0.0 { kept / uncut } else { 1.0 }
}

fn twentieth(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 20]
}
