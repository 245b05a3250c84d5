//! A task's score: mean, standard error and a 95 % interval that suits the kind of items.

use lopper_record::Score;

use crate::{RESAMPLES, Z_975, bootstrap_mean_ci95};

/// Arithmetic mean; NaN for no items.
pub fn mean(items: &[f64]) -> f64 {
    items.iter().sum::<f64>() / items.len() as f64
}

/// Standard error of the mean from the sample variance (n − 1), as in lm-evaluation-harness; NaN for fewer than two
/// items.
pub(crate) fn stderr(items: &[f64]) -> f64 {
    if items.len() < 2 {
        return f64::NAN;
    }
    let n = items.len() as f64;
    let centre = mean(items);
    let variance = items.iter().map(|x| (x - centre) * (x - centre)).sum::<f64>() / (n - 1.0);
    (variance / n).sqrt()
}

/// Wilson's score interval for a proportion (Wilson 1927), without continuity correction. Unlike the normal interval it
/// keeps a width at 0 and at `n` successes. NaN for no items.
pub(crate) fn wilson95(successes: usize, n: usize) -> [f64; 2] {
    if n == 0 {
        return [f64::NAN; 2];
    }
    let (k, n) = (successes.min(n) as f64, n as f64);
    let z2 = Z_975 * Z_975;
    let centre = (k + z2 / 2.0) / (n + z2);
    let half = Z_975 / (n + z2) * (k * (n - k) / n + z2 / 4.0).sqrt();
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

/// Whether every item is right (1) or wrong (0), not graded in between.
pub(crate) fn is_binary(items: &[f64]) -> bool {
    items.iter().all(|&x| x == 0.0 || x == 1.0)
}

/// The score of a task from its items: Wilson's interval when each is right or wrong, else a percentile bootstrap of
/// the mean (ROUGE and other graded scores). The same items and seed give the same interval.
pub fn score(items: &[f64], seed: u64) -> Score {
    if items.is_empty() {
        return Score::UNDEFINED;
    }
    let ci95 = if is_binary(items) {
        let successes = items.iter().filter(|&&x| x == 1.0).count();
        wilson95(successes, items.len())
    } else {
        bootstrap_mean_ci95(items, RESAMPLES, seed)
    };
    Score { value: mean(items), stderr: stderr(items), ci95, n: items.len() }
}

/// A mean in which items do not count the same, as a share of all items' parts: the ratio of two sums. Its standard
/// error is that of the ratio, linearised, with items as what was drawn; its interval is normal.
///
/// Items and weights are paired by their places; of different numbers of them nothing is said.
pub fn weighted_score(items: &[f64], weights: &[f64]) -> Score {
    let total: f64 = weights.iter().sum();
    if items.len() != weights.len() || total <= 0.0 {
        return Score::UNDEFINED;
    }
    let n = items.len();
    let value = items.iter().zip(weights).map(|(item, weight)| item * weight).sum::<f64>() / total;
    let squares: f64 = items.iter().zip(weights).map(|(item, weight)| (weight * (item - value)).powi(2)).sum();
    let stderr = if n > 1 { (squares * n as f64 / (n as f64 - 1.0)).sqrt() / total } else { f64::NAN };
    let ci95 = [(value - Z_975 * stderr).max(0.0), (value + Z_975 * stderr).min(1.0)];
    Score { value, stderr, ci95, n }
}

/// The mean of independent tasks' scores, each task with the same weight. Its interval combines theirs by recovering
/// each side's variance from the task's own interval (MOVER, Zou and Donner 2008), so it keeps their skewness.
pub fn group_score(tasks: &[Score]) -> Score {
    if tasks.is_empty() {
        return Score::UNDEFINED;
    }
    let count = tasks.len() as f64;
    let value = tasks.iter().map(|task| task.value).sum::<f64>() / count;
    let parts: Vec<(f64, f64, [f64; 2])> = tasks.iter().map(|task| (1.0 / count, task.value, task.ci95)).collect();
    Score {
        value,
        stderr: tasks.iter().map(|task| task.stderr.powi(2)).sum::<f64>().sqrt() / count,
        ci95: sum_interval(value, &parts),
        n: tasks.iter().map(|task| task.n).sum(),
    }
}

/// The interval of `sum`, a sum of independent parts, each given as its weight, value and interval (MOVER, as in
/// [`group_score`]).
pub fn sum_interval(sum: f64, parts: &[(f64, f64, [f64; 2])]) -> [f64; 2] {
    let spread = |side: usize| {
        let squares = parts.iter().map(|(weight, value, ends)| (weight * (ends[side] - value)).powi(2));
        squares.sum::<f64>().sqrt()
    };
    [sum - spread(0), sum + spread(1)]
}

/// The score of several tasks' items together, each item with the same weight, so that large tasks count for more, as
/// lm-evaluation-harness scores MMLU. The standard error pools the tasks' variances (its `pooled_sample_stderr`); the
/// interval is normal within `0..=1`.
pub fn pooled_score(tasks: &[Score]) -> Score {
    let n: usize = tasks.iter().map(|task| task.n).sum();
    if n == 0 {
        return Score::UNDEFINED;
    }
    let count = |task: &Score| task.n as f64;
    let value = tasks.iter().filter(|task| task.n > 0).map(|task| task.value * count(task)).sum::<f64>() / n as f64;
    let several = tasks.iter().filter(|task| task.n > 1);
    let squares: f64 = several.map(|task| (count(task) - 1.0) * task.stderr.powi(2) * count(task)).sum();
    let degrees_of_freedom = n as f64 - tasks.len() as f64;
    let stderr = if degrees_of_freedom > 0.0 { (squares / degrees_of_freedom / n as f64).sqrt() } else { f64::NAN };
    let ci95 = [(value - Z_975 * stderr).max(0.0), (value + Z_975 * stderr).min(1.0)];
    Score { value, stderr, ci95, n }
}
