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

/// The choice of the highest log-likelihood for each character of its text, lm-evaluation-harness's
/// `acc_norm`: long choices are not punished for having more to predict.
pub fn best_per_length(log_likelihoods: &[f64], lengths: impl IntoIterator<Item = usize>) -> Option<usize> {
    let scaled: Vec<f64> =
        log_likelihoods.iter().zip(lengths).map(|(value, length)| value / length.max(1) as f64).collect();
    best(&scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_wins() {
        assert_eq!(best(&[-2.0, -1.0, -1.0]), Some(1));
        assert_eq!(best(&[]), None);
        assert_eq!(best_per_length(&[-4.0, -1.0], [8, 1]), Some(0));
        assert_eq!(best_per_length(&[-1.0, -2.0], [0, 1]), Some(0));
    }
}
