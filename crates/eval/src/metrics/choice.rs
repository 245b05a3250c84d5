//! Picking a choice by log-likelihood.

/// The choice of the highest log-likelihood, the first of equals; none of none.
pub fn best(log_likelihoods: &[f64]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (at, value) in log_likelihoods.iter().enumerate() {
        if best.is_none_or(|best| *value > log_likelihoods[best]) {
            best = Some(at);
        }
    }
    best
}

/// The choice of the highest log-likelihood for each byte of its text, lm-evaluation-harness's
/// `acc_norm`: long choices are not punished for having more to predict. (There the length counts
/// characters, which is the same for ASCII text.)
pub fn best_per_byte(log_likelihoods: &[f64], bytes: impl IntoIterator<Item = usize>) -> Option<usize> {
    let scaled: Vec<f64> =
        log_likelihoods.iter().zip(bytes).map(|(value, length)| value / length.max(1) as f64).collect();
    best(&scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_wins() {
        assert_eq!(best(&[-2.0, -1.0, -1.0]), Some(1));
        assert_eq!(best(&[]), None);
        assert_eq!(best_per_byte(&[-4.0, -1.0], [8, 1]), Some(0));
        assert_eq!(best_per_byte(&[-1.0, -2.0], [0, 1]), Some(0));
    }
}
