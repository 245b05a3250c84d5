//! The percentile bootstrap (Efron 1979): items resampled with replacement, and quantiles of a statistic of them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The default number of resamples: the Monte Carlo error of a 2.5 % quantile is then about 0.15 percentage points of
/// coverage.
pub const RESAMPLES: usize = 10_000;

/// Draws `n` indices below `n`, `resamples` times, and calls `visit` with each set. The same seed and stream give the
/// same sets, so every model of a study is resampled on the same items.
pub(crate) fn resample(n: usize, resamples: usize, seed: u64, stream: u64, mut visit: impl FnMut(&[u32])) {
    debug_assert!(n > 0 && u32::try_from(n).is_ok());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    let mut indices = vec![0u32; n];
    for _ in 0..resamples {
        for index in &mut indices {
            // Lemire's multiply-shift without rejection: the bias is below n / 2^32.
            *index = ((u64::from(rng.next_u32()) * n as u64) >> 32) as u32;
        }
        visit(&indices);
    }
}

/// The `q` quantile of sorted values with linear interpolation (numpy's default); NaN for none.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

/// Percentile bootstrap of the mean: its 2.5 % and 97.5 % quantiles. NaN for no items.
pub fn bootstrap_mean_ci95(items: &[f64], resamples: usize, seed: u64) -> [f64; 2] {
    if items.is_empty() || resamples == 0 {
        return [f64::NAN; 2];
    }
    let mut means = Vec::with_capacity(resamples);
    resample(items.len(), resamples, seed, 0, |indices| {
        means.push(indices.iter().map(|&i| items[i as usize]).sum::<f64>() / items.len() as f64);
    });
    means.sort_unstable_by(f64::total_cmp);
    [quantile(&means, 0.025), quantile(&means, 0.975)]
}
