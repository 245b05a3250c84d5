use std::collections::BTreeMap;

use lopper_stats::mcnemar_exact;
use lopper_tasks::{GenerationPolicy, ItemResult};

use super::*;

/// A task's outcome with these scores.
fn outcome(task: &str, group: Group, scores: &[f64]) -> TaskOutcome {
    let item = |(at, score): (usize, &f64)| ItemResult { id: at.to_string(), score: *score, ..ItemResult::default() };
    TaskOutcome {
        task: task.to_owned(),
        group,
        version: 1,
        policy: GenerationPolicy::default(),
        n: scores.len(),
        metrics: BTreeMap::from([("acc".to_owned(), stats::score(scores, 0))]),
        primary: "acc".to_owned(),
        items: scores.iter().enumerate().map(item).collect(),
        chance: None,
        families: vec![],
        source: None,
        bad_rows: vec![],
        truncated: vec![],
        timings: vec![],
    }
}

/// Of `n` items the first `right` are right.
fn first(right: usize, n: usize) -> Vec<f64> {
    (0..n).map(|at| f64::from(u8::from(at < right))).collect()
}

fn generative(scores: &[f64]) -> Vec<TaskOutcome> {
    vec![outcome("a", Group::Generative, scores)]
}

#[test]
fn one_task_is_tested_as_mcnemar_does_and_corrected_by_holm() {
    let base = generative(&first(30, 40));
    // Lost: 0, 4, 9 and 20; the third also gains two.
    let gained = [first(21, 30), vec![1.0; 2], vec![0.0; 8]].concat();
    let removals = [first(30, 40), first(26, 40), gained, first(10, 40)].map(|scores| generative(&scores));
    let (test, effects) = compare_removals(&base, &removals).unwrap();
    let p: Vec<f64> = effects.iter().map(|effect| effect.p_value).collect();
    let expected = [1.0, mcnemar_exact(4, 0), mcnemar_exact(9, 2), mcnemar_exact(20, 0)];
    for (p, expected) in p.iter().zip(expected) {
        assert!((p - expected).abs() < 1e-12, "{p} {expected}");
    }
    // Alone the third would be near 5 % (0.065), of four it is 0.196; the last stays significant.
    let corrected: Vec<f64> = effects.iter().map(|effect| effect.p_corrected).collect();
    assert!((corrected[3] - 4.0 * p[3]).abs() < 1e-15 && (corrected[2] - 3.0 * p[2]).abs() < 1e-12);
    assert_eq!(effects.iter().map(|effect| effect.differs).collect::<Vec<_>>(), [false, false, false, true]);
    assert_eq!((test.differ, test.removals), (1, 4));
    assert!(test.sentences().starts_with("4 removals were compared with none (exact paired sign-flip test"));
    assert!(test.sentences().contains("Holm's method, level 5 %): 1 differs. "), "{}", test.sentences());
    // With one task the figure and its interval are that task's retention.
    let kept = stats::retention(&Pair::new(&first(30, 40), &first(26, 40))).unwrap().unwrap();
    let [low, high] = effects[1].group_mean_retention_ci95.unwrap();
    assert_eq!(effects[1].group_mean_retention, Some(26.0 / 30.0));
    assert!((low - kept.ci95[0]).abs() < 1e-12 && (high - kept.ci95[1]).abs() < 1e-12);
    assert!(low < 26.0 / 30.0 && high > 26.0 / 30.0);
}

#[test]
fn groups_weigh_the_same_and_tasks_that_score_nothing_do_not_count() {
    let suite = |scores: [Vec<f64>; 4]| -> Vec<TaskOutcome> {
        let groups = [Group::Classification, Group::Classification, Group::Generative, Group::Generative];
        let tasks = ["a", "b", "c", "none"].into_iter().zip(groups);
        tasks.zip(&scores).map(|((task, group), scores)| outcome(task, group, scores)).collect()
    };
    let base = suite([first(20, 20), first(10, 20), first(12, 40), first(0, 9)]);
    let cut = suite([first(18, 20), first(10, 20), first(6, 40), first(3, 9)]);
    let pairs: Vec<_> = base.iter().zip(&cut).collect();
    assert_eq!(weights(&pairs), [0.25, 0.25, 0.5, 0.0]);
    let (_, effects) = compare_removals(&base, &[cut.clone(), base.clone()]).unwrap();
    let value = effects[0].group_mean_retention.unwrap();
    assert!((value - (0.25 * 0.9 + 0.25 + 0.5 * 0.5)).abs() < 1e-12);
    let [low, high] = effects[0].group_mean_retention_ci95.unwrap();
    assert!(low < value && value < high && effects[1].group_mean_retention_ci95.unwrap()[1] > 1.0 - 1e-12);
    // Two items of weight 0.25 ÷ 19 and six of 0.5 ÷ 9, all lost: as uneven as eight items can be.
    assert!((effects[0].p_value - 2.0 / 256.0).abs() < 1e-12);
    assert_eq!(effects[1].p_value, 1.0);

    // Two of three lost in generation weigh more than three gained in classification.
    let mixed = suite([first(20, 20), first(13, 20), first(10, 40), first(0, 9)]);
    let pairs: Vec<_> = base.iter().zip(&mixed).collect();
    // Gains of 0.25 ÷ 11.5 each, 0.0652 together; losses of 0.5 ÷ 11 each, 0.0909 together. Of the 32 assignments of
    // signs, 24 are at least as far from 0 as this difference of 0.0257.
    let [gain, loss] = [0.25 / 11.5, 0.5 / 11.0];
    let seen = (3.0f64 * gain - 2.0 * loss).abs() - 1e-9;
    let sign = |bits: u32, at: u32| if bits >> at & 1 == 1 { 1.0 } else { -1.0 };
    let sum = |bits: u32| (0..5).map(|at| sign(bits, at) * if at < 3 { gain } else { loss }).sum::<f64>();
    let far = (0..32).filter(|bits| sum(*bits).abs() >= seen).count();
    assert!((paired_p_value(&pairs) - far as f64 / 32.0).abs() < 1e-12);
}

#[test]
fn too_few_items_are_said() {
    let base = generative(&first(5, 8));
    let (test, effects) = compare_removals(&base, &vec![generative(&first(0, 8)); 12]).unwrap();
    // 2 ÷ 2⁵, twelve times.
    assert!(!test.possible() && (test.least_p_corrected - 0.75).abs() < 1e-12);
    assert!(effects.iter().all(|effect| !effect.differs));
    let sentences = test.sentences();
    assert!(sentences.contains("a removal that lost every item would have p = 0.75 (raise --limit)"), "{sentences}");
    // Enough items, and nothing lost.
    let base = generative(&first(12, 20));
    let (test, _) = compare_removals(&base, &vec![base.clone(); 3]).unwrap();
    assert!(test.possible() && test.sentences().contains(": none differs. "));
    assert!(test.sentences().contains("may still cost what its interval allows"));
    // Too few right items for a ratio: a value, a test, no interval.
    let base = generative(&first(2, 40));
    let (_, effects) = compare_removals(&base, &[generative(&first(1, 40))]).unwrap();
    assert_eq!((effects[0].group_mean_retention, effects[0].group_mean_retention_ci95), (Some(0.5), None));
    let nothing = generative(&first(0, 40));
    let (_, effects) = compare_removals(&nothing, std::slice::from_ref(&nothing)).unwrap();
    assert_eq!((effects[0].group_mean_retention, effects[0].p_value), (None, 1.0));
    // Other items are a fault.
    assert!(compare_removals(&base, &[generative(&first(1, 39))]).is_err());
}
