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
