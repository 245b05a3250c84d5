//! How far criteria agree on the order of layers: Kendall's τ-b, which is 1 for the same order, −1 for
//! the reverse, and corrects for ties (Kendall, Biometrika 33, 1945).

use serde::Serialize;

use super::LayerScores;

/// Two criteria and how far they agree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// The criteria's names.
    pub criteria: [&'static str; 2],
    /// Kendall's τ-b of their scores; none where one of them gives all layers the same score.
    pub tau: Option<f64>,
}

/// The agreement of every two criteria that score single layers and were measured.
pub fn agreement(scores: &LayerScores) -> Vec<Agreement> {
    let lists = scores.by_criterion();
    let mut pairs = Vec::new();
    for (at, (first, a)) in lists.iter().enumerate() {
        for (second, b) in &lists[at + 1..] {
            pairs.push(Agreement { criteria: [first, second], tau: tau_b(a, b) });
        }
    }
    pairs
}

fn tau_b(a: &[f64], b: &[f64]) -> Option<f64> {
    let (mut agree, mut tied_a, mut tied_b, mut pairs) = (0i64, 0i64, 0i64, 0i64);
    for i in 0..a.len() {
        for j in 0..i {
            let order = |list: &[f64]| list[i].total_cmp(&list[j]) as i64;
            pairs += 1;
            agree += order(a) * order(b);
            tied_a += i64::from(order(a) == 0);
            tied_b += i64::from(order(b) == 0);
        }
    }
    let scale = ((pairs - tied_a) as f64 * (pairs - tied_b) as f64).sqrt();
    (scale > 0.0).then(|| agree as f64 / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of `scipy.stats.kendalltau` 1.17.1 on the same lists.
    #[test]
    fn orders_are_compared_as_scipy_does() {
        let close = |a: &[f64], b: &[f64], expected: f64| assert!((tau_b(a, b).unwrap() - expected).abs() < 1e-9);
        close(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0], 1.0);
        close(&[1.0, 2.0, 3.0, 4.0], &[4.0, 3.0, 2.0, 1.0], -1.0);
        close(&[12.0, 2.0, 1.0, 12.0, 2.0], &[1.0, 4.0, 7.0, 1.0, 0.0], -0.471_404_520_791_031_6);
        assert_eq!(tau_b(&[1.0, 1.0], &[1.0, 2.0]), None);
    }
}
