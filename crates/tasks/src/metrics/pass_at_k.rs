//! pass@k: the chance that at least one of k responses is right.

/// The unbiased estimate from `n` responses of which `right` are right, 1 − C(n−c, k) / C(n, k) (Chen et
/// al. 2021, arXiv 2107.03374, equation 1). With fewer responses than k it is that of all.
pub fn pass_at_k(n: usize, right: usize, k: usize) -> f64 {
    let (right, k) = (right.min(n), k.min(n));
    if n - right < k {
        return if k == 0 { 0.0 } else { 1.0 };
    }
    // The quotient of the binomials, factor by factor.
    let missed: f64 = (n - right + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    1.0 - missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_by_hand() {
        // 2 of 4 right: a pair misses both in 1 of 6 cases.
        assert!((pass_at_k(4, 2, 2) - 5.0 / 6.0).abs() < 1e-12);
        assert!((pass_at_k(10, 3, 1) - 0.3).abs() < 1e-12);
        assert_eq!((pass_at_k(5, 0, 3), pass_at_k(5, 5, 1), pass_at_k(5, 3, 3)), (0.0, 1.0, 1.0));
        assert_eq!((pass_at_k(0, 0, 1), pass_at_k(3, 1, 9)), (0.0, 1.0));
    }
}
