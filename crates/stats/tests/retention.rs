//! Retention's bounds: against scipy and numpy (`fixtures/stats/retention.py`), and as a user relies on them.

use lopper_record::Retention;
use lopper_record::study::Verdict;
use lopper_stats::{Pair, depth_budget, group_retention, items_needed, retention};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    versions: String,
    clopper_pearson: Vec<Exact>,
    with_gains: Vec<Exact>,
    above_chance: Vec<Drawn>,
    group: Group,
}

#[derive(Deserialize)]
struct Exact {
    kept: usize,
    lost: usize,
    #[serde(default)]
    gained: usize,
    low: Option<f64>,
    lower: f64,
}

#[derive(Deserialize)]
struct Drawn {
    base: Vec<f64>,
    cut: Vec<f64>,
    chance: Vec<f64>,
    value: f64,
    low: f64,
    low_error: f64,
    lower: f64,
    lower_error: f64,
    upper: f64,
    upper_error: f64,
    high: f64,
    high_error: f64,
}

#[derive(Deserialize)]
struct Group {
    tasks: Vec<(Vec<f64>, Vec<f64>)>,
    value: f64,
    low: f64,
    lower: f64,
    upper: f64,
    high: f64,
}

fn expected() -> Expected {
    let text = include_str!("../../../fixtures/stats/retention.json");
    serde_json::from_str(text).expect("the fixture is valid")
}

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance, "{a} is not {b} (± {tolerance})");
}

/// Scores of items: right in both models, in the uncut one only, in the cut one only, in neither.
fn items(kept: usize, lost: usize, gained: usize, neither: usize) -> (Vec<f64>, Vec<f64>) {
    let list = |of: [f64; 3]| [vec![of[0]; kept], vec![of[1]; lost], vec![of[2]; gained], vec![0.0; neither]].concat();
    (list([1.0, 1.0, 0.0]), list([1.0, 0.0, 1.0]))
}

fn bounds(kept: usize, lost: usize, gained: usize, neither: usize) -> Retention {
    let (base, cut) = items(kept, lost, gained, neither);
    retention(&Pair::new(&base, &cut)).unwrap().unwrap()
}

#[test]
fn bounds_of_one_task_agree_with_scipy() {
    let expected = expected();
    assert!(expected.versions.contains("scipy"));
    for case in expected.clopper_pearson.iter().chain(&expected.with_gains) {
        for neither in [0, 70] {
            let got = bounds(case.kept, case.lost, case.gained, neither);
            close(got.lower95, case.lower, 1e-8);
            if let Some(low) = case.low {
                close(got.ci95[0], low, 1e-8);
            }
            close(got.value, (case.kept + case.gained) as f64 / (case.kept + case.lost) as f64, 1e-12);
        }
    }
}

#[test]
fn bounds_above_chance_and_of_graded_items_agree_with_draws() {
    for case in expected().above_chance {
        let got = retention(&Pair { base: &case.base, cut: &case.cut, chance: &case.chance }).unwrap().unwrap();
        close(got.value, case.value, 1e-12);
        // Five standard errors of the fixture's quantiles.
        close(got.ci95[0], case.low, 5.0 * case.low_error);
        close(got.lower95, case.lower, 5.0 * case.lower_error);
        close(got.upper95, case.upper, 5.0 * case.upper_error);
        close(got.ci95[1], case.high, 5.0 * case.high_error);
    }
}

#[test]
fn bounds_of_a_group_agree_with_draws() {
    let expected = expected().group;
    let pairs: Vec<Pair<'_>> = expected.tasks.iter().map(|(base, cut)| Pair::new(base, cut)).collect();
    let got = group_retention(&pairs).unwrap().unwrap();
    close(got.value, expected.value, 1e-12);
    // The group's grid; the bounds are 0.03 to 0.05 from the value.
    close(got.ci95[0], expected.low, 4e-4);
    close(got.lower95, expected.lower, 4e-4);
    close(got.upper95, expected.upper, 4e-4);
    close(got.ci95[1], expected.high, 4e-4);
    assert_eq!(got.n, expected.tasks.iter().map(|(base, _)| base.len()).sum::<usize>());
}

#[test]
fn an_item_more_lost_never_raises_a_bound() {
    for (right, gained, neither) in [(30, 0, 70), (44, 4, 0), (25, 9, 14)] {
        let (mut before, mut group_before) = (f64::INFINITY, f64::INFINITY);
        let mut upper_before = f64::INFINITY;
        for lost in 0..=right {
            let got = bounds(right - lost, lost, gained, neither);
            assert!(got.lower95 < before || got.lower95 == 0.0, "{lost} lost: {} after {before}", got.lower95);
            assert!(got.upper95 < upper_before, "{lost} lost: {} after {upper_before}", got.upper95);
            assert!(got.ci95[0] <= got.lower95 && got.lower95 <= got.value + 1e-9);
            assert!(got.value - 1e-9 <= got.upper95 && got.upper95 <= got.ci95[1]);
            (before, upper_before) = (got.lower95, got.upper95);
            let ((base, cut), other) = (items(right - lost, lost, gained, neither), items(50, 5, 3, 0));
            let group = [Pair::new(&base, &cut), Pair::new(&other.0, &other.1)];
            let bound = group_retention(&group).unwrap().unwrap().lower95;
            assert!(bound <= group_before, "{lost} lost: {bound} after {group_before}");
            group_before = bound;
        }
    }
    // A gained item never lowers it, also above chance.
    let chance = vec![0.25; 60];
    let mut before = f64::NEG_INFINITY;
    for gained in 0..=12 {
        let (base, cut) = items(40, 5, gained, 15 - gained);
        let bound = retention(&Pair { base: &base, cut: &cut, chance: &chance }).unwrap().unwrap().lower95;
        assert!(bound > before);
        before = bound;
    }
}

#[test]
fn no_change_seen_is_not_certainty() {
    let same = bounds(60, 0, 0, 0);
    assert_eq!(same.value, 1.0);
    close(same.lower95, 0.05f64.powf(1.0 / 60.0), 1e-9);
    close(same.ci95[0], 0.025f64.powf(1.0 / 60.0), 1e-9);
    assert!(same.upper95 > 1.0, "the cut may be better");
    let nothing = bounds(0, 60, 0, 0);
    assert_eq!(nothing.value, 0.0);
    assert!(nothing.lower95 == 0.0 && nothing.upper95 > 0.04 && nothing.upper95 < 0.06, "{nothing:?}");
    // Five such tasks are as certain of their mean as their items together: what none of 300 shows is rarer than 1 %.
    let (base, cut) = items(60, 0, 0, 0);
    let group = group_retention(&[Pair::new(&base, &cut); 5]).unwrap().unwrap();
    close(group.lower95, 1.0 - (1.0 - same.lower95) / 5.0, 1e-3);
    assert_eq!((group.value, group.upper95), (1.0, 1.0));
}

#[test]
fn a_better_task_pays_for_no_other() {
    let (better, worse) = (items(20, 0, 20, 10), items(80, 20, 0, 0));
    let group = group_retention(&[Pair::new(&better.0, &better.1), Pair::new(&worse.0, &worse.1)]).unwrap().unwrap();
    close(group.value, 0.9, 1e-12);
    assert!(group.lower95 < 0.9 && group.upper95 < 1.0);
}

#[test]
fn a_weak_uncut_model_gives_no_ratio() {
    let none = |kept: usize, neither: usize, chance: f64| {
        let (base, cut) = items(kept, 0, 0, neither);
        let chance = vec![chance; base.len()];
        retention(&Pair { base: &base, cut: &cut, chance: &chance }).unwrap().is_none()
    };
    assert!(none(0, 50, 0.0) && none(2, 48, 0.0) && !none(3, 47, 0.0));
    // 30 of 100 is not more than guessing among four; 45 of 100 is.
    assert!(none(30, 70, 0.25) && none(20, 80, 0.25) && !none(45, 55, 0.25));
    assert_eq!(group_retention(&[]).unwrap(), None);
    assert_eq!(retention(&Pair::default()).unwrap(), None);

    // Such a task is left out of its group.
    let (task, weak) = (items(10, 10, 0, 0), items(0, 0, 0, 30));
    let tasks = [Pair::new(&task.0, &task.1), Pair::new(&weak.0, &weak.1)];
    let alone = bounds(10, 10, 0, 0);
    let group = group_retention(&tasks).unwrap().unwrap();
    assert_eq!((group.value, group.lower95, group.n), (alone.value, alone.lower95, alone.n));
}

#[test]
fn items_that_do_not_match_are_refused() {
    let refused = |base: &[f64], cut: &[f64], chance: &[f64]| retention(&Pair { base, cut, chance }).is_err();
    assert!(refused(&[1.0], &[1.0, 0.0], &[]));
    assert!(refused(&[1.0, 0.0], &[1.0, 0.0], &[0.5]));
    assert!(refused(&[1.0, f64::NAN], &[1.0, 0.0], &[]));
    assert!(refused(&[1.0, -1.0], &[1.0, 0.0], &[]));
    assert!(refused(&[1.0, 0.0], &[1.0, 0.0], &[0.5, f64::INFINITY]));
}

#[test]
fn the_items_needed_would_decide() {
    let needed = |kept: usize, lost: usize, floor: f64| {
        let (base, cut) = items(kept, lost, 0, 0);
        items_needed(&[Pair::new(&base, &cut)], floor).unwrap()
    };
    // 19 of 20 kept does not decide on 0.9. With as many items as are needed, the same rate holds clearly.
    assert!(bounds(19, 1, 0, 0).lower95 < 0.9);
    let n = needed(19, 1, 0.9).unwrap();
    assert!((150..250).contains(&n), "{n}");
    let lost = n.div_ceil(20);
    assert!(bounds(n - lost, lost, 0, 0).lower95 > 0.91);
    // Below the floor it fails instead.
    let n = needed(16, 4, 0.9).unwrap();
    assert!(bounds(16, 4, 0, 0).upper95 >= 0.9 && bounds(n - n / 5, n / 5, 0, 0).upper95 < 0.9, "{n}");
    // At the floor no number does.
    assert_eq!(needed(18, 2, 0.9), None);
    assert_eq!(items_needed(&[], 0.9).unwrap(), None);
    // Decided already: the items there are.
    assert_eq!(needed(200, 0, 0.9), Some(200));
}

#[test]
fn a_shallower_failure_ends_the_depth_budget() {
    let cut = |removed, lower95: f64| {
        let upper95 = lower95 + 0.06;
        (removed, Some(Retention { value: lower95 + 0.03, ci95: [lower95, 1.0], lower95, upper95, n: 100 }))
    };
    let at_most = |cuts: &[(usize, Option<Retention>)]| depth_budget(cuts.iter().copied(), 0.9).1;
    assert_eq!(at_most(&[cut(3, 0.8), cut(1, 0.97), cut(2, 0.92)]), Some(2));
    assert_eq!(at_most(&[cut(1, 0.97), cut(2, 0.7), cut(3, 0.95)]), Some(1));
    assert_eq!(at_most(&[cut(1, 0.5)]), Some(0));
    // Too few items is not a failure.
    assert_eq!(at_most(&[cut(1, 0.87), cut(2, 0.95)]), None);
    assert_eq!(at_most(&[]), None);
    assert_eq!(at_most(&[(1, None)]), None);
    let verdicts: Vec<Verdict> = depth_budget([cut(1, 0.97), cut(2, 0.87), cut(3, 0.7), (4, None)], 0.9)
        .0
        .into_iter()
        .map(|depth| depth.verdict)
        .collect();
    assert_eq!(verdicts, [Verdict::Holds, Verdict::Undecided, Verdict::Fails, Verdict::Undecided]);
}
