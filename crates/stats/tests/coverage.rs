//! How often bounds are wrong, with fixed seeds: a part of what `examples/coverage` prints, and proof that it would
//! find the percentile bootstrap out.

// The program's modules; this test uses a part of them.
#[path = "../examples/coverage/exact.rs"]
mod exact;
#[path = "../examples/coverage/percentile.rs"]
mod percentile;
#[path = "../examples/coverage/published.rs"]
mod published;
#[path = "../examples/coverage/simulate.rs"]
mod simulate;
#[path = "../examples/coverage/single.rs"]
mod single;

use exact::{Boundary, Counts};
use lopper_stats::{Pair, depth_budget, group_retention, retention, worst_retention};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Deserialize;
use simulate::{Items, Truth, outcomes, rate};
use single::lopper;

/// Most false holds, where 5 % are nominal.
const MOST: f64 = 0.055;

fn before(counts: Counts, floor: f64) -> bool {
    counts.kept + counts.lost > 0
        && percentile::lower(&[counts.items()], 500, &mut ChaCha8Rng::seed_from_u64(1)) >= floor
}

#[test]
fn a_task_at_the_floor_seldom_holds() {
    for (n, floors) in [(48, &[0.8, 0.9, 0.95][..]), (100, &[0.9])] {
        for &floor in floors {
            let boundary = Boundary::new(n, |counts| lopper(counts, floor));
            for base in [0.3, 0.5, 0.7, 0.9, 1.0] {
                for gain in [0.0, 0.02, 0.1, 0.2] {
                    let truth = Truth::new(floor, base, gain);
                    if base < 1.0 || gain == 0.0 {
                        let wrong = boundary.probability(n, &truth);
                        assert!(wrong <= 0.0501, "{n} items, {truth:?}: {wrong}");
                    }
                }
            }
        }
    }
    // The percentile bootstrap would not pass: all right before, no gains.
    let boundary = Boundary::new(48, |counts| counts.gained == 0 && before(counts, 0.9));
    let wrong = boundary.probability(48, &Truth::new(0.9, 1.0, 0.0));
    assert!(wrong > MOST, "{wrong}");
}

#[test]
fn a_task_at_the_floor_above_chance_seldom_holds() {
    for (chance, base) in [(0.25, 0.5), (0.5, 0.95)] {
        let truth = Truth { retention: 0.9, base, gain: 0.1, chance };
        let wrong = rate(1500, 7, |rng| {
            retention(&truth.draw(100, rng).pair()).unwrap().is_some_and(|bound| bound.lower95 >= 0.9)
        });
        assert!(wrong <= MOST, "{truth:?}: {wrong}");
    }
}

#[test]
fn a_group_at_the_floor_seldom_holds() {
    let alike = |count: usize| vec![Truth::new(0.9, 0.9, 0.0); count];
    let uneven = [1.0, 1.0, 1.0, 1.0, 0.5].map(|kept| Truth::new(kept, 0.9, 0.0)).to_vec();
    for (truths, too_sure_before) in [(alike(2), true), (alike(5), true), (uneven, false)] {
        let tasks = |rng: &mut ChaCha8Rng| truths.iter().map(|truth| truth.draw(48, rng)).collect::<Vec<Items>>();
        let wrong = rate(2000, 8, |rng| {
            let tasks = tasks(rng);
            let pairs: Vec<Pair<'_>> = tasks.iter().map(Items::pair).collect();
            group_retention(&pairs).unwrap().unwrap().lower95 >= 0.9
        });
        assert!(wrong <= MOST, "{} tasks: {wrong}", truths.len());
        if too_sure_before {
            let wrong = rate(1000, 8, |rng| percentile::lower(&tasks(rng), 500, rng) >= 0.9);
            assert!(wrong > MOST, "{} tasks before: {wrong}", truths.len());
        }
    }
}

#[test]
fn several_depths_need_no_correction() {
    // Depths 3 to 6 are just below the floor; the first of them ends all but one study in twenty.
    let curve = [1.0, 0.97, 0.8999, 0.8999, 0.8999, 0.8999];
    let stated = outcomes(1500, 9, |rng| {
        let cuts = curve.iter().enumerate().map(|(index, kept)| {
            let task = Truth::new(*kept, 0.9, 0.02).draw(250, rng);
            (index + 1, retention(&task.pair()).unwrap())
        });
        depth_budget(cuts, 0.9).1.unwrap_or(0)
    });
    let too_deep = stated.iter().filter(|depth| **depth > 2).count() as f64 / stated.len() as f64;
    assert!(too_deep <= MOST, "{too_deep}");
    assert!(stated.iter().filter(|depth| **depth == 2).count() > stated.len() / 2);
}

#[test]
fn one_lost_item_used_to_cost_nothing() {
    let bound = |lost: usize| {
        let mut items = Counts { kept: 30 - lost, lost, gained: 0 }.items();
        items.base.resize(100, 0.0);
        items.cut.resize(100, 0.0);
        let before = percentile::lower(std::slice::from_ref(&items), 10_000, &mut ChaCha8Rng::seed_from_u64(1));
        (before, retention(&items.pair()).unwrap().unwrap().lower95)
    };
    let ((none_before, none), (one_before, one)) = (bound(0), bound(1));
    assert!(none_before - one_before < 0.005, "{none_before} {one_before}");
    assert!((none - 0.905).abs() < 5e-4 && (one - 0.8514).abs() < 5e-4, "{none} {one}");
}

/// The page holds what the program computes: checked for the fewest items, whose lines are exact and quick.
#[test]
fn the_page_s_table_is_the_program_s() {
    let page = include_str!("../../../docs/statistics.md");
    for line in single::lines(48) {
        assert!(page.contains(&line), "docs/statistics.md has no {line:?}");
    }
}

#[derive(Deserialize)]
struct Expected {
    retention: Vec<Paired>,
    group: Interval,
}

#[derive(Deserialize)]
struct Paired {
    base: Vec<f64>,
    cut: Vec<f64>,
    expected: Interval,
}

#[derive(Deserialize)]
struct Interval {
    ci95: [f64; 2],
    lower95: f64,
}

/// What is compared with is the bootstrap that numpy makes, not a straw man.
#[test]
fn the_percentile_bootstrap_is_numpy_s() {
    let text = include_str!("../../../fixtures/stats/expected.json");
    let Expected { retention, group } = serde_json::from_str(text).expect("the fixture is valid");
    let items = |case: &Paired| Items { base: case.base.clone(), cut: case.cut.clone(), chance: Vec::new() };
    let tasks: Vec<Items> = retention.iter().map(items).collect();
    let singles = tasks.iter().map(std::slice::from_ref).zip(retention.iter().map(|case| &case.expected));
    for (tasks, want) in singles.chain([(tasks.as_slice(), &group)]) {
        let got = percentile::lower(tasks, 10_000, &mut ChaCha8Rng::seed_from_u64(7));
        let tolerance = 0.04 * (want.ci95[1] - want.ci95[0]);
        assert!((got - want.lower95).abs() < tolerance, "{got} is not {} (± {tolerance})", want.lower95);
    }
}

#[test]
fn the_worst_task_at_the_floor_seldom_holds_and_above_it_seldom_fails() {
    // One task exactly at the floor among better ones, and three exactly at it.
    let alone = [1.0, 0.97, 0.9].map(|kept| Truth::new(kept, 0.9, 0.02)).to_vec();
    let alike = vec![Truth::new(0.9, 0.9, 0.02); 3];
    for (truths, seed) in [(alone, 10), (alike, 11)] {
        let bounds = |rng: &mut ChaCha8Rng| {
            let tasks: Vec<Items> = truths.iter().map(|truth| truth.draw(100, rng)).collect();
            let pairs: Vec<Pair<'_>> = tasks.iter().map(Items::pair).collect();
            worst_retention(&pairs).unwrap().unwrap().1
        };
        let holds = rate(2000, seed, |rng| bounds(rng).lower95 >= 0.9);
        let fails = rate(2000, seed, |rng| bounds(rng).upper95 < 0.9);
        assert!(holds <= MOST && fails <= MOST, "{holds} {fails}");
    }
}
