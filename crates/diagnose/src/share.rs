//! Shares of right answers as means with Wilson's interval, which keeps a width at 0 and at 1.

use lopper_record::study::Mean;

use lopper_stats::wilson95;

/// How many of `values` are true; none of none.
pub fn share(values: impl IntoIterator<Item = bool>) -> Option<Mean> {
    let (mut right, mut n) = (0, 0);
    for value in values {
        right += usize::from(value);
        n += 1;
    }
    (n > 0).then(|| Mean { value: right as f64 / n as f64, ci95: Some(wilson95(right, n)), n })
}
