//! The probability that a weighted sum of gamma variables is at most 0, from its characteristic function.

use std::f64::consts::PI;

/// Step of the trapezoidal rule in the logarithm of the frequency. The error falls as exp(−2πη / step) with η about a
/// half, so it is below 1e-9 wherever [`CERTAIN`] does not decide.
const STEP: f64 = 0.1;
/// Mean ÷ standard deviation beyond which the probability is taken as 0 or 1.
const CERTAIN: f64 = 9.0;
/// Where the integrand's modulus has fallen below rounding.
const NEGLIGIBLE: f64 = -26.0;
/// Largest shape for the closed form.
const MOST_COUNTED: f64 = 500.0;
/// Logarithm of the smallest probability that the closed form begins with.
const UNDERFLOW: f64 = -600.0;

/// P(Σ wᵢ Gᵢ ≤ 0) for independent Gᵢ ~ Gamma(shape, 1), given as `(weight, shape)`; a shape need not be whole.
pub(crate) fn at_most_zero(terms: &[(f64, f64)]) -> f64 {
    let terms: Vec<(f64, f64)> = terms.iter().copied().filter(|(weight, shape)| weight * shape != 0.0).collect();
    let sign = |positive: bool| terms.iter().copied().filter(move |(weight, _)| (*weight > 0.0) == positive);
    match (sign(true).count(), sign(false).count()) {
        (0, _) => 1.0,
        (_, 0) => 0.0,
        (1 | 2, 1) => {
            let negative = sign(false).next().unwrap_or_default();
            counted(&sign(true).collect::<Vec<_>>(), negative).unwrap_or_else(|| inverted(&terms))
        }
        _ => inverted(&terms),
    }
}

/// The closed form where one gamma has a negative weight and a whole shape: it is the time of that many events of a
/// Poisson process, and the events within each of the others' times have a negative binomial number. None where the
/// shape is not whole or a term would underflow.
fn counted(positive: &[(f64, f64)], (weight, shape): (f64, f64)) -> Option<f64> {
    if shape.fract() != 0.0 || shape > MOST_COUNTED {
        return None;
    }
    let mut numbers = Vec::with_capacity(2);
    for (other, successes) in positive {
        let success = weight / (weight - other);
        if successes * success.ln() < UNDERFLOW {
            return None;
        }
        let mut probability = success.powf(*successes);
        let number = |i: usize| {
            let this = probability;
            probability *= (successes + i as f64) / (i as f64 + 1.0) * (1.0 - success);
            this
        };
        numbers.push((0..shape as usize).map(number).collect::<Vec<f64>>());
    }
    let [first, others @ ..] = numbers.as_slice() else { return None };
    let Some(second) = others.first() else { return Some(first.iter().sum()) };
    // P(first + second < shape): the second's number is below what the first leaves.
    let mut at_most = 0.0;
    Some(
        first
            .iter()
            .rev()
            .zip(second)
            .map(|(first, second)| {
                at_most += second;
                first * at_most
            })
            .sum(),
    )
}

/// Gil-Pelaez (1951): ½ − (1/π) ∫ Im φ(t) / t dt with φ(t) = Π (1 − i wᵢ t)^−shape, here over ln t, where the integrand
/// is analytic and vanishes at both ends, so that the trapezoidal rule converges exponentially (Imhof 1961 has the same
/// integral for chi-squared variables).
fn inverted(terms: &[(f64, f64)]) -> f64 {
    let (mut mean, mut variance) = (0.0, 0.0);
    for (weight, shape) in terms {
        mean += weight * shape;
        variance += weight * weight * shape;
    }
    let spread = f64::sqrt(variance);
    if mean.abs() > CERTAIN * spread {
        return if mean > 0.0 { 0.0 } else { 1.0 };
    }
    // Below `first` the integrand is mean · t to nine digits, and its sum a geometric series.
    let first = 1e-3 / (mean.abs() + spread);
    let mut sum = mean * first / STEP.exp_m1();
    let (mut t, ratio) = (first, STEP.exp());
    for _ in 0..1000 {
        let (mut log_modulus, mut phase) = (0.0, 0.0);
        for &(weight, shape) in terms {
            let x = weight * t;
            log_modulus -= 0.5 * shape * (x * x).ln_1p();
            phase += shape * x.atan();
        }
        if log_modulus < NEGLIGIBLE {
            break;
        }
        sum += log_modulus.exp() * phase.sin();
        t *= ratio;
    }
    (0.5 - STEP / PI * sum).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_and_inversion_agree() {
        for floor in [0.5, 0.8, 0.9, 0.97] {
            for (kept, lost, gained) in [(40.0, 3.0, 0.0), (30.0, 6.0, 2.0), (400.0, 40.0, 12.0), (12.5, 2.0, 0.75)] {
                let terms = [(1.0 - floor, kept), (-floor, lost), (1.0, gained)];
                let (counted, inverted) = (at_most_zero(&terms), inverted(&terms));
                assert!((counted - inverted).abs() < 1e-8, "{floor} {kept} {lost} {gained}: {counted} {inverted}");
            }
        }
    }

    #[test]
    fn two_gammas_make_a_beta() {
        // P(a G₁ ≤ b G₂) with shapes 1: b / (a + b). With shapes n and 1: (b / (a + b))^n.
        for (a, b, n) in [(1.0, 1.0, 1.0), (0.1, 0.9, 1.0), (0.1, 0.9, 30.0), (0.05, 0.95, 60.0), (3.0, 0.2, 2.0)] {
            let expected = f64::powf(b / (a + b), n);
            let got = at_most_zero(&[(a, n), (-b, 1.0)]);
            assert!((got - expected).abs() < 1e-12, "{a} {b} {n}: {got} is not {expected}");
            let got = inverted(&[(a, n), (-b, 1.0)]);
            assert!((got - expected).abs() < 1e-9, "{a} {b} {n}: {got} is not {expected}");
        }
        assert_eq!(at_most_zero(&[(1.0, 2.0)]), 0.0);
        assert_eq!(at_most_zero(&[(-1.0, 2.0), (1.0, 0.0)]), 1.0);
        assert_eq!(at_most_zero(&[]), 1.0);
    }
}
