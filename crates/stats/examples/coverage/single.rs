//! Every rule on single tasks, by exact sums.

use std::thread;

use lopper_stats::retention;

use crate::exact::{Boundary, Counts};
use crate::published::{RULES, Rule};
use crate::simulate::Truth;

/// The uncut accuracies of the table.
pub const BASES: [f64; 5] = [0.3, 0.5, 0.7, 0.9, 1.0];
/// Whose worst is taken.
pub const FLOORS: [f64; 3] = [0.8, 0.9, 0.95];
/// Whose worst is taken: the cut model's accuracy where the uncut one is wrong.
const GAINS: [f64; 5] = [0.0, 0.02, 0.05, 0.1, 0.2];

/// Lopper's own rule.
pub fn lopper(counts: Counts, floor: f64) -> bool {
    let bound = retention(&counts.items().pair()).expect("the items are valid");
    bound.is_some_and(|bound| bound.lower95 >= floor)
}

/// The beginning of the table's lines for `n` items: the worst rate of false holds in %, over floors and gains, of each
/// published rule and of Lopper's.
pub fn lines(n: usize) -> Vec<String> {
    let rules = RULES.iter().map(|(_, rule)| *rule).chain([lopper as Rule]);
    let boundary = |rule: Rule, floor: f64| (floor, Boundary::new(n, |counts| rule(counts, floor)));
    let boundaries: Vec<[(f64, Boundary); 3]> = thread::scope(|scope| {
        let boundary = &boundary;
        let running: Vec<_> =
            rules.map(|rule| FLOORS.map(|floor| scope.spawn(move || boundary(rule, floor)))).collect();
        running.into_iter().map(|of| of.map(|part| part.join().expect("a rule does not panic"))).collect()
    });
    let line = |base: f64| {
        let worst = |(floor, boundary): &(f64, Boundary)| {
            let truths = GAINS.into_iter().map(|gain| Truth::new(*floor, base, gain));
            let possible = truths.filter(|truth| (base < 1.0 || truth.gain == 0.0) && truth.kept() >= 0.0);
            possible.map(|truth| boundary.probability(n, &truth)).fold(0.0, f64::max)
        };
        let rate = |floors: &[(f64, Boundary); 3]| floors.iter().map(worst).fold(0.0, f64::max);
        let cells: Vec<String> = boundaries.iter().map(|of| format!("{:.1}", rate(of) * 100.0)).collect();
        format!("| {n} | {base} | {} |", cells.join(" | "))
    };
    BASES.into_iter().map(line).collect()
}
