//! Published one-sided 95 % bounds on cut ÷ uncut that were tried, as rules on counts of items.

use crate::exact::Counts;

/// Standard normal quantile at 0.95.
const Z: f64 = 1.644_853_626_951_472_2;

/// A rule: whether the bound reaches the floor.
pub type Rule = fn(Counts, f64) -> bool;

/// All, by name.
pub const RULES: [(&str, Rule); 4] = [
    ("score test", score),
    ("MOVER of Wilson's", mover_of_wilson),
    ("mid-p", mid_p),
    ("MOVER of exact", mover_of_exact),
];

/// The score test of a ratio of paired proportions, its variance from the maximum likelihood under the floor (Nam and
/// Blackwelder 2002; Tang, Tang and Chan 2003).
pub fn score(counts: Counts, floor: f64) -> bool {
    let [kept, lost, gained] = [counts.kept, counts.lost, counts.gained].map(|count| count as f64);
    let n = kept + lost + gained;
    let values = [(kept, 1.0 - floor), (lost, -floor), (gained, 1.0)];
    let sum: f64 = values.iter().map(|(count, value)| count * value).sum();
    if kept + gained == 0.0 {
        return false;
    }
    let variance = if counts.lost == 0 {
        // No lost item was seen, so the floor's own lost items are what the others leave.
        let (kept, gained) = (floor * kept / n, floor * gained / (1.0 + floor) / n);
        kept * (1.0 - floor).powi(2) + (1.0 - kept - gained) * floor * floor + gained
    } else {
        // Probabilities count / (n (1 + λ value)), λ such that the values' mean is 0.
        let present = || values.iter().filter(|(count, _)| *count > 0.0);
        let largest = present().map(|(_, value)| *value).fold(0.0, f64::max);
        let (mut low, mut high) = (-1.0 / largest, 1.0 / floor);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            let mean: f64 = present().map(|(count, value)| count * value / (1.0 + middle * value)).sum();
            if mean > 0.0 { low = middle } else { high = middle }
        }
        present().map(|(count, value)| count / n / (1.0 + high * value) * value * value).sum()
    };
    sum >= Z * (n * variance).sqrt()
}

/// The p-value of Lopper's bound for counts, in closed form: the lost items seen, and one more, are at least as many as
/// come before the kept and the gained ones.
pub fn p_value(counts: Counts, floor: f64) -> f64 {
    let number = |successes: usize, success: f64| {
        let mut probability = success.powi(successes as i32);
        (0..=counts.lost).map(move |i| {
            let this = probability;
            probability *= (successes + i) as f64 / (i + 1) as f64 * (1.0 - success);
            this
        })
    };
    let kept: Vec<f64> = number(counts.kept, floor).collect();
    let mut at_most = 0.0;
    let rest = number(counts.gained, floor / (1.0 + floor)).map(|p| {
        at_most += p;
        at_most
    });
    kept.iter().rev().zip(rest).map(|(p, rest)| p * rest).sum()
}

/// The same with half the probability of the outcome itself (Lancaster 1961).
pub fn mid_p(counts: Counts, floor: f64) -> bool {
    let strict =
        counts.lost.checked_sub(1).map(|lost| p_value(Counts { kept: counts.kept + 1, lost, ..counts }, floor));
    p_value(counts, floor) + strict.unwrap_or(0.0) < 0.1
}

/// The ratio as kept ÷ uncut + gained ÷ uncut, whose lower bounds are combined by their distances from the estimates
/// (Zou and Donner 2008).
fn mover(counts: Counts, floor: f64, lower: impl Fn(usize, usize) -> f64) -> bool {
    let uncut = counts.kept + counts.lost;
    if uncut == 0 {
        return false;
    }
    let of_uncut = |count: usize| count as f64 / uncut as f64;
    let (kept, gained) = (of_uncut(counts.kept), of_uncut(counts.gained));
    let gained_of_both = lower(counts.gained, uncut + counts.gained);
    let below = (kept - lower(counts.kept, uncut)).hypot(gained - gained_of_both / (1.0 - gained_of_both));
    kept + gained - below >= floor
}

fn mover_of_wilson(counts: Counts, floor: f64) -> bool {
    mover(counts, floor, |successes, n| {
        let (k, n, z2) = (successes as f64, n as f64, Z * Z);
        (k + z2 / 2.0 - Z * (k * (n - k) / n + z2 / 4.0).sqrt()) / (n + z2)
    })
}

fn mover_of_exact(counts: Counts, floor: f64) -> bool {
    mover(counts, floor, |successes, n| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            let p = p_value(Counts { kept: successes, lost: n - successes, gained: 0 }, middle);
            if successes > 0 && p < 0.05 { low = middle } else { high = middle }
        }
        low
    })
}
