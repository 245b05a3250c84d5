//! How often the bounds on retention are wrong, and what depth budgets say: the tables of `docs/statistics.md`.
//!
//!     cargo run --release -p lopper-stats --example coverage [STUDIES [PAGE]]
//!
//! PAGE's text between the marks is replaced; without one, the tables are printed.
//!
//! Single tasks without chance are summed over every outcome, so they have no simulation error. The others are
//! simulated, each study with a random stream of its own, so that the tables do not depend on the threads.

mod exact;
mod percentile;
mod published;
mod simulate;
mod single;

use std::io::Write;

use lopper_stats::{Pair, depth_budget, group_retention, retention};
use rand_chacha::ChaCha8Rng;
use simulate::{Items, Truth, outcomes, rate};

/// Between these the tables are in a page.
const BEGIN: &str = "<!-- made: coverage -->";
const END: &str = "<!-- end -->";
const ITEMS: [usize; 4] = [48, 100, 250, 500];
/// Studies whose percentile bootstrap is simulated, and its resamples.
const BEFORE: (u64, usize) = (1000, 500);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let studies = arguments.next().map_or(4000, |given| given.parse().expect("STUDIES is a number"));
    let mut out = String::new();
    single(&mut out);
    above_chance(&mut out, studies);
    groups(&mut out, studies);
    depths(&mut out, studies / 10);
    match arguments.next() {
        None => std::io::stdout().write_all(out.as_bytes()).expect("the tables can be printed"),
        Some(page) => {
            let text = std::fs::read_to_string(&page).expect("PAGE can be read");
            let (head, rest) = text.split_once(BEGIN).expect("PAGE has the mark");
            let (_, tail) = rest.split_once(END).expect("PAGE has the mark's end");
            std::fs::write(&page, format!("{head}{BEGIN}\n\n{out}{END}{tail}")).expect("PAGE can be written");
        }
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn percent(rate: f64) -> String {
    format!("{:.1}", rate * 100.0)
}

/// Every rule on single tasks: the worst over floors and gains.
fn single(out: &mut String) {
    let names = published::RULES.map(|(name, _)| name).join(" | ");
    line(out, "### One task, cut ÷ uncut\n");
    line(out, &format!("| items | uncut accuracy | {names} | Lopper | percentile bootstrap |"));
    line(out, &format!("|--:|--:|{}--:|--:|", "--:|".repeat(published::RULES.len())));
    for n in ITEMS {
        for (begun, base) in single::lines(n).into_iter().zip(single::BASES) {
            line(out, &format!("{begun} {} |", percent(before(n, base))));
        }
    }
    line(out, "");
}

/// The percentile bootstrap at the floor 0.9: the worse of no gains and some.
fn before(n: usize, base: f64) -> f64 {
    let gains = if base < 1.0 { vec![0.0, 0.05] } else { vec![0.0] };
    let of = |gain: f64| false_holds_before(&[Truth::new(0.9, base, gain)], n, 0.9);
    gains.into_iter().map(of).fold(0.0, f64::max)
}

fn false_holds_before(truths: &[Truth], n: usize, floor: f64) -> f64 {
    rate(BEFORE.0, 2, |rng| {
        let tasks: Vec<Items> = truths.iter().map(|truth| truth.draw(n, rng)).collect();
        percentile::lower(&tasks, BEFORE.1, rng) >= floor
    })
}

/// Chance-corrected retention of single tasks: the worst over floors and gains.
fn above_chance(out: &mut String, studies: u64) {
    line(out, "### One task, above chance\n");
    line(out, "| items | chance | uncut accuracy | floor 0.8 | floor 0.9 | floor 0.95 |");
    line(out, "|--:|--:|--:|--:|--:|--:|");
    for n in ITEMS {
        for (chance, base) in [(0.25, 0.5), (0.25, 0.75), (0.25, 0.95), (0.5, 0.75), (0.5, 0.95)] {
            let cells = single::FLOORS.map(|floor| {
                let of = |gain: f64| {
                    let truth = Truth { retention: floor, base, gain, chance };
                    rate(studies, 3, |rng| {
                        let bound = retention(&truth.draw(n, rng).pair()).expect("valid items");
                        bound.is_some_and(|bound| bound.lower95 >= floor)
                    })
                };
                percent([0.02, 0.2].into_iter().map(of).fold(0.0, f64::max))
            });
            line(out, &format!("| {n} | {chance} | {base} | {} |", cells.join(" | ")));
        }
    }
    line(out, "");
}

/// Groups whose mean retention is exactly 0.9.
fn profiles() -> Vec<(&'static str, Vec<Truth>)> {
    let same = |count: usize, base: f64, gain: f64| vec![Truth::new(0.9, base, gain); count];
    let uneven = |retentions: &[f64], bases: &[f64], gain: f64| {
        let of = |(retention, base): (&f64, &f64)| Truth::new(*retention, *base, if *base < 1.0 { gain } else { 0.0 });
        retentions.iter().zip(bases).map(of).collect::<Vec<Truth>>()
    };
    let mixed = [0.3, 0.5, 0.7, 0.9, 1.0];
    vec![
        ("2 alike, uncut 0.9", same(2, 0.9, 0.0)),
        ("2 alike, uncut 0.6, gains", same(2, 0.6, 0.1)),
        ("2, kept 1 and 0.8, uncut 0.9 and 0.3", uneven(&[1.0, 0.8], &[0.9, 0.3], 0.05)),
        ("5 alike, uncut 1", same(5, 1.0, 0.0)),
        ("5 alike, uncut 0.9", same(5, 0.9, 0.0)),
        ("5, uncut 0.3 to 1, gains", uneven(&[0.9; 5], &mixed, 0.05)),
        ("5, one keeps half, uncut 0.9", uneven(&[1.0, 1.0, 1.0, 1.0, 0.5], &[0.9; 5], 0.0)),
        ("5, one keeps half, uncut 0.3", uneven(&[1.0, 1.0, 1.0, 1.0, 0.5], &[0.9, 0.9, 0.9, 0.9, 0.3], 0.02)),
    ]
}

/// Means over groups of tasks, before and now.
fn groups(out: &mut String, studies: u64) {
    line(out, "### Groups of tasks, mean of cut ÷ uncut, floor 0.9\n");
    line(out, &format!("| tasks | {} |", ITEMS.map(|n| format!("{n} items")).join(" | ")));
    line(out, &format!("|---|{}", "--:|".repeat(ITEMS.len())));
    for (name, truths) in profiles() {
        let cells = ITEMS.map(|n| {
            let now = rate(studies, 4, |rng| {
                let tasks: Vec<Items> = truths.iter().map(|truth| truth.draw(n, rng)).collect();
                let pairs: Vec<Pair<'_>> = tasks.iter().map(Items::pair).collect();
                let bound = group_retention(&pairs).expect("valid items");
                bound.is_some_and(|bound| bound.lower95 >= 0.9)
            });
            format!("{} → {}", percent(false_holds_before(&truths, n, 0.9)), percent(now))
        });
        line(out, &format!("| {name} | {} |", cells.join(" | ")));
    }
    line(out, "");
}

/// True retention by layers removed.
const CURVES: [(&str, [f64; 9]); 3] = [
    ("as the healed pocket model's", [1.0, 1.0, 1.0, 0.99, 0.98, 0.97, 0.93, 0.83, 0.65]),
    ("steep", [0.98, 0.94, 0.86, 0.7, 0.5, 0.3, 0.2, 0.1, 0.1]),
    ("gentle, 0.899 at depth 4", [0.98, 0.96, 0.93, 0.899, 0.87, 0.84, 0.81, 0.78, 0.75]),
];

/// The budgets of whole studies at the floor 0.9.
fn depths(out: &mut String, studies: u64) {
    line(out, "### Stated depths, floor 0.9\n");
    line(
        out,
        "| true retention by depth | tasks | items | true depth | before | now | too deep before | too deep now |",
    );
    line(out, "|---|---|--:|--:|--:|--:|--:|--:|");
    let one = |base: f64| vec![(base, 0.02)];
    let five = [0.5, 0.7, 0.8, 0.9, 0.95].map(|base| (base, 0.02)).to_vec();
    for (name, curve) in CURVES {
        let truth = curve.iter().take_while(|kept| **kept >= 0.9).count();
        for (tasks, rates) in
            [("1, uncut 0.9", one(0.9)), ("1, uncut 0.6", one(0.6)), ("5, uncut 0.5 to 0.95", five.clone())]
        {
            for n in [48, 100, 250] {
                let [(before, too_deep_before), (now, too_deep_now)] = [false, true].map(|now| {
                    let stated = outcomes(studies, 5, |rng| stated_depth(&curve, &rates, n, now, rng));
                    let of_studies = |sum: usize| sum as f64 / stated.len() as f64;
                    let too_deep = stated.iter().filter(|depth| **depth > truth).count();
                    (of_studies(stated.iter().sum()), percent(of_studies(too_deep)))
                });
                line(
                    out,
                    &format!(
                        "| {name} | {tasks} | {n} | {truth} | {before:.2} | {now:.2} | {too_deep_before} | \
                         {too_deep_now} |"
                    ),
                );
            }
        }
    }
    line(out, "");
}

/// What one study states: each depth on the same number of fresh answers.
fn stated_depth(curve: &[f64], rates: &[(f64, f64)], n: usize, now: bool, rng: &mut ChaCha8Rng) -> usize {
    let mut cuts = Vec::new();
    for (index, kept) in curve.iter().enumerate() {
        let tasks: Vec<Items> = rates.iter().map(|(base, gain)| Truth::new(*kept, *base, *gain).draw(n, rng)).collect();
        let pairs: Vec<Pair<'_>> = tasks.iter().map(Items::pair).collect();
        let mut bound =
            if let [task] = pairs.as_slice() { retention(task) } else { group_retention(&pairs) }.expect("valid items");
        if !now && let Some(bound) = &mut bound {
            bound.lower95 = percentile::lower(&tasks, 500, rng);
        }
        cuts.push((index + 1, bound));
        if bound.is_none_or(|bound| bound.lower95 < 0.9) {
            break;
        }
    }
    depth_budget(cuts, 0.9).1.unwrap_or(0)
}
