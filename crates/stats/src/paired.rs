//! Two models on the same items: is the difference more than chance, and how many items does it take to find one of a
//! given size?

use crate::{Z_80, Z_975};

/// McNemar's exact test (two-sided): the probability that the items on which two equally good models differ split at
/// least as unevenly as `only_first` to `only_second`. An argument is the number of items that only this model answered
/// right.
pub fn mcnemar_exact(only_first: usize, only_second: usize) -> f64 {
    let n = only_first + only_second;
    // Summed in logarithms: 2^-n underflows from about n = 1075 on.
    let mut log_choose = 0.0f64;
    let mut tail = 0.0f64;
    for k in 0..=only_first.min(only_second) {
        if k > 0 {
            log_choose += ((n - k + 1) as f64 / k as f64).ln();
        }
        tail += (log_choose - n as f64 * std::f64::consts::LN_2).exp();
    }
    (2.0 * tail).min(1.0)
}

/// How many steps the sizes of all differences together are rounded to, and how many for each, at least.
const STEPS: usize = 1 << 16;
const STEPS_PER_ITEM: usize = 16;

/// The exact sign-flip test of paired differences (Fisher 1935, two-sided): the probability that the sum of the
/// `differences` is at least as far from 0 as it is, if each of them were as likely to have the other sign, as it is
/// where neither model is better. For right-or-wrong items of one task it is McNemar's exact test; differences may also
/// be graded, or weighted by task. 1 where nothing differs.
///
/// The distribution is computed, not sampled. Sizes that differ are rounded to fine steps, and sums that are closer
/// than rounding can tell count as equal.
pub fn sign_flip_exact(differences: &[f64]) -> f64 {
    let differing: Vec<f64> = differences.iter().copied().filter(|d| d.is_finite() && *d != 0.0).collect();
    let Some(first) = differing.first().map(|d| d.abs()) else { return 1.0 };
    let n = differing.len();
    let alike = differing.iter().all(|d| d.abs() == first);
    let total: f64 = differing.iter().map(|d| d.abs()).sum();
    let unit = if alike { first } else { total / STEPS.max(STEPS_PER_ITEM * n) as f64 };
    let sizes: Vec<usize> = differing.iter().map(|d| (d.abs() / unit).round() as usize).collect();
    let all: usize = sizes.iter().sum();
    let positive: usize = differing.iter().zip(&sizes).filter(|(d, _)| **d > 0.0).map(|(_, size)| size).sum();
    // Rounding moves the sum of n sizes by about 0.3 √n steps; of many items a hundredth of a standard error is enough.
    let spread = sizes.iter().map(|size| (size * size) as f64).sum::<f64>().sqrt();
    let equal = if alike { 0.0 } else { (n as f64).sqrt().min(spread / 100.0) };
    let seen = (2 * positive).abs_diff(all) as f64 - equal;
    // The distribution of the sum of the positive differences, one difference after another.
    let (mut probabilities, mut next) = (vec![0.0; all + 1], vec![0.0; all + 1]);
    probabilities[0] = 1.0;
    let mut length = 1;
    for size in sizes {
        let longer = length + size;
        next[..longer].iter_mut().zip(&probabilities).for_each(|(sum, p)| *sum = 0.5 * p);
        next[size..longer].iter_mut().zip(&probabilities).for_each(|(sum, p)| *sum += 0.5 * p);
        std::mem::swap(&mut probabilities, &mut next);
        length = longer;
    }
    let as_far = probabilities.iter().enumerate().filter(|(sum, _)| (2 * sum).abs_diff(all) as f64 >= seen);
    as_far.map(|(_, probability)| probability).sum::<f64>().min(1.0)
}

/// p-values corrected for their number by Holm's step-down method (1979), in the same order: those at most α are
/// significant at a family-wise error of α, however the tests depend on each other.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let (mut adjusted, mut largest) = (vec![1.0; p_values.len()], 0.0f64);
    for (before, at) in order.into_iter().enumerate() {
        largest = largest.max(p_values[at] * (p_values.len() - before) as f64);
        adjusted[at] = largest.min(1.0);
    }
    adjusted
}

/// Items needed so that a paired test (McNemar, two-sided 5 %) finds a true `difference` of accuracy with 80 % power
/// when the models disagree on the fraction `discordant` of the items (Connor 1987). `None` when no number is enough.
pub fn items_needed_paired(discordant: f64, difference: f64) -> Option<usize> {
    let possible = difference != 0.0 && discordant >= difference.abs() && discordant <= 1.0;
    let spread = Z_975 * discordant.sqrt() + Z_80 * (discordant - difference * difference).max(0.0).sqrt();
    possible.then(|| (spread / difference).powi(2).ceil() as usize)
}

/// Items needed in each of two unpaired samples so that a test finds accuracies `first` and `second` different with 80
/// % power at two-sided 5 %. `None` when they are equal or outside `0..=1`.
pub fn items_needed_unpaired(first: f64, second: f64) -> Option<usize> {
    let valid = |p: f64| (0.0..=1.0).contains(&p);
    let difference = first - second;
    let variance = first * (1.0 - first) + second * (1.0 - second);
    (valid(first) && valid(second) && difference != 0.0)
        .then(|| ((Z_975 + Z_80).powi(2) * variance / (difference * difference)).ceil().max(1.0) as usize)
}
