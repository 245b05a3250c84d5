//! Against scipy and numpy: `fixtures/stats/make.py` writes `expected.json`. Closed forms agree to 1e-12; a bootstrap's
//! quantiles to the Monte Carlo error of both sides, so that their tolerance is stated where they are compared.

use lopper_record::study::Mean;
use serde::Deserialize;

use super::*;
use crate::bootstrap::quantile;
use crate::summary::{stderr, wilson95};
use crate::token_mean::student_975;

#[derive(Deserialize)]
struct Expected {
    versions: String,
    means: Vec<Means>,
    wilson: Vec<(usize, usize, [f64; 2])>,
    quantiles: Vec<(f64, f64)>,
    quantile_values: Vec<f64>,
    mcnemar: Vec<(usize, usize, f64)>,
    unpaired: Vec<(f64, f64, usize)>,
    paired: Vec<(f64, f64, usize)>,
    student: Vec<(usize, f64)>,
    sign_flips: Vec<(Vec<f64>, f64)>,
    token_means: Vec<TokenMeans>,
}

/// Sums and tokens of texts, their mean over all tokens, and its interval.
type TokenMeans = (Vec<(f64, usize)>, f64, [f64; 2]);

#[derive(Deserialize)]
struct Means {
    items: Vec<f64>,
    mean: f64,
    stderr: f64,
    bootstrap: [f64; 2],
}

fn expected() -> Expected {
    let text = include_str!("../../../fixtures/stats/expected.json");
    serde_json::from_str(text).expect("the fixture is valid")
}

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance, "{a} is not {b} (± {tolerance})");
}

#[test]
fn means_and_standard_errors_agree_with_scipy() {
    let expected = expected();
    assert!(expected.versions.contains("scipy"));
    for case in &expected.means {
        close(mean(&case.items), case.mean, 1e-12);
        close(stderr(&case.items), case.stderr, 1e-12);
        let [low, high] = bootstrap_mean_ci95(&case.items, RESAMPLES, 7);
        close(low, case.bootstrap[0], 0.12 * case.stderr);
        close(high, case.bootstrap[1], 0.12 * case.stderr);
    }
}

#[test]
fn wilson_and_quantiles_agree_with_scipy_and_numpy() {
    let expected = expected();
    for (k, n, ci) in expected.wilson {
        let got = wilson95(k, n);
        close(got[0], ci[0], 1e-12);
        close(got[1], ci[1], 1e-12);
    }
    for (q, value) in expected.quantiles {
        close(quantile(&expected.quantile_values, q), value, 1e-12);
    }
    assert!(quantile(&[], 0.5).is_nan());
}

#[test]
fn tests_and_sample_sizes_agree_with_scipy() {
    let expected = expected();
    for (b, c, p) in expected.mcnemar {
        close(mcnemar_exact(b, c), p, 1e-10);
    }
    for (p, q, n) in expected.unpaired {
        assert_eq!(items_needed_unpaired(p, q), Some(n));
    }
    for (psi, d, n) in expected.paired {
        assert_eq!(items_needed_paired(psi, d), Some(n));
    }
    assert_eq!(items_needed_unpaired(0.5, 0.5), None);
    assert_eq!(items_needed_paired(0.1, 0.2), None);
    assert_eq!(items_needed_paired(0.1, 0.0), None);
}

#[test]
fn sign_flips_agree_with_scipy_and_with_mcnemar() {
    for (differences, p) in expected().sign_flips {
        close(sign_flip_exact(&differences), p, 1e-12);
    }
    for (lost, gained) in [(0, 0), (1, 0), (0, 6), (3, 9), (12, 12), (40, 61), (900, 800)] {
        // Items that do not differ say nothing, and one unit is as good as another.
        let differences = [vec![-0.3; lost], vec![0.3; gained], vec![0.0; 20]].concat();
        close(sign_flip_exact(&differences), mcnemar_exact(lost, gained), 1e-10);
    }
    // Weights that rounding does not hold exactly: one item of 1 and two of ½ against it are even.
    close(sign_flip_exact(&[1.0, -0.5, -0.5]), 1.0, 1e-12);
    close(sign_flip_exact(&[1.0 / 3.0, -1.0 / 6.0, -1.0 / 6.0]), 1.0, 1e-12);
    // Many graded items approach the normal distribution.
    let graded: Vec<f64> = (0..3000).map(|i| f64::from(i % 101) / 100.0 - 0.488).collect();
    // 2 · scipy.stats.norm.cdf(−Σd ÷ √Σd²), at 1.591.
    close(sign_flip_exact(&graded), 0.111503, 5e-3);
}

/// statsmodels 0.15.0: `multipletests(p, method="holm")[1]`.
#[test]
fn holms_correction_is_that_of_statsmodels() {
    for (adjusted, expected) in holm(&[0.01, 0.04, 0.03, 0.005, 0.5]).into_iter().zip([0.04, 0.09, 0.09, 0.025, 0.5]) {
        close(adjusted, expected, 1e-12);
    }
    assert_eq!((holm(&[]), holm(&[0.8, 0.9])), (vec![], vec![1.0, 1.0]));
}

#[test]
fn means_over_tokens_agree_with_scipy() {
    let Expected { student, token_means, .. } = expected();
    for (degrees, t) in student {
        close(student_975(degrees), t, 1e-6);
    }
    for (sequences, mean, ends) in token_means {
        let found: TokenMean = sequences.iter().copied().collect();
        let found = found.mean().unwrap();
        close(found.value, mean, 1e-12);
        let [low, high] = found.ci95.unwrap();
        close(low, ends[0], 1e-9);
        close(high, ends[1], 1e-9);
        assert_eq!(found.n, sequences.len());
    }
    // Sequences without tokens, or with an infinite sum, say nothing; one sequence says nothing of the spread.
    let one: TokenMean = [(6.0, 3), (0.0, 0), (f64::INFINITY, 4)].into_iter().collect();
    assert_eq!(one.mean(), Some(Mean { value: 2.0, ci95: None, n: 1 }));
    assert_eq!(one.exp().map(|mean| mean.value), Some(2.0f64.exp()));
    assert_eq!(TokenMean::default().mean(), None);
    let lost: TokenMean = [(1e4, 10), (3e4, 10)].into_iter().collect();
    assert!(lost.mean().is_some() && lost.exp().is_none());
}

#[test]
fn the_same_seed_gives_the_same_interval() {
    let items: Vec<f64> = (0..40).map(|i| f64::from(i % 7) / 7.0).collect();
    assert_eq!(score(&items, 3), score(&items, 3));
    assert_ne!(score(&items, 3).ci95, score(&items, 4).ci95);
}

#[test]
fn a_mean_of_values_that_come_one_by_one_is_the_mean() {
    let moments: Moments = [1.0, 2.0, 4.0, f64::NAN].into_iter().collect();
    let mean = moments.mean().unwrap();
    assert_eq!(mean.n, 3);
    assert!((mean.value - 7.0 / 3.0).abs() < 1e-15);
    // Sample variance 7/3 of [1, 2, 4]; its standard error is √(7/9).
    let [low, high] = mean.ci95.unwrap();
    assert!(((high - low) / 2.0 - Z_975 * (7.0_f64 / 9.0).sqrt()).abs() < 1e-12);
    assert_eq!(Moments::default().mean(), None);
    let one: Moments = [3.0].into_iter().collect();
    assert_eq!(one.mean().unwrap(), Mean { value: 3.0, ci95: None, n: 1 });
    assert_eq!(proportion([]), None);
    let half = proportion([true, false]).unwrap();
    assert_eq!((half.value, half.n, half.ci95), (0.5, 2, Some(wilson95(1, 2))));
}

#[test]
fn too_few_items_give_undefined_numbers_and_no_panic() {
    assert!(score(&[], 1).value.is_nan());
    let one = score(&[1.0], 1);
    assert!(one.value == 1.0 && one.stderr.is_nan() && one.ci95[0] < 0.3);
    assert!(bootstrap_mean_ci95(&[], RESAMPLES, 1)[0].is_nan());
    assert!(wilson95(0, 0)[0].is_nan());
}

#[test]
fn a_group_of_one_task_has_that_tasks_interval() {
    let task = score(&[1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0], 1);
    let group = group_score(&[task]);
    close(group.ci95[0], task.ci95[0], 1e-12);
    close(group.ci95[1], task.ci95[1], 1e-12);
    // Four equal tasks have half the standard error of one.
    let four = group_score(&[task; 4]);
    close(four.stderr, task.stderr / 2.0, 1e-12);
    assert_eq!(four.n, 28);
}

#[test]
fn a_weighted_mean_is_a_ratio_of_sums() {
    let items = [1.0, 0.5, 0.0, 1.0, 0.25];
    let (plain, even) = (score(&items, 0), weighted_score(&items, &[2.0; 5]));
    assert!((plain.value - even.value).abs() < 1e-12 && (plain.stderr - even.stderr).abs() < 1e-12 && even.n == 5);
    // (1·1 + 2·½ + 3·0) ÷ 6; residuals ⅔, ⅓ and −1, whose squares are 14 ÷ 9 together.
    let uneven = weighted_score(&[1.0, 0.5, 0.0], &[1.0, 2.0, 3.0]);
    assert!((uneven.value - 1.0 / 3.0).abs() < 1e-12);
    assert!((uneven.stderr - (14.0f64 / 9.0 * 3.0 / 2.0).sqrt() / 6.0).abs() < 1e-12);
    assert!(uneven.ci95[0] == 0.0 && uneven.ci95[1] > 0.8 && uneven.ci95[1] < 1.0);
    assert!(weighted_score(&[1.0], &[1.0, 1.0]).value.is_nan() && weighted_score(&[], &[]).value.is_nan());
    assert!(weighted_score(&[1.0], &[3.0]).stderr.is_nan());
}

/// lm_eval 0.4.13, `lm_eval.api.metrics`, tolerance 1e-12:
///
/// ```python
/// stderrs = [mean_stderr(x) for x in ([1, 0, 0, 1, 1, 0, 1], [0, 1, 1], [1, 0, 0, 0])]
/// pooled_sample_stderr(stderrs, [7, 3, 4]), unweighted_mean_stderr(stderrs)
/// ```
#[test]
fn standard_errors_of_groups_are_the_harness_s() {
    let items: [&[f64]; 3] = [&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0], &[0.0, 1.0, 1.0], &[1.0, 0.0, 0.0, 0.0]];
    let mut tasks = items.map(|items| score(items, 1)).to_vec();
    let pooled = pooled_score(&tasks);
    close(pooled.stderr, 0.142_586_323_385_428_18, 1e-12);
    close(pooled.value, 0.5, 1e-12);
    close(group_score(&tasks).stderr, 0.154_354_367_768_069_24, 1e-12);
    // One item says nothing of the spread, and takes nothing from what the others say of it.
    tasks.push(score(&[1.0], 1));
    close(pooled_score(&tasks).stderr, pooled.stderr * (14.0f64 / 15.0).sqrt(), 1e-12);
}
