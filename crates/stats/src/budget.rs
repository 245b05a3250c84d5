//! The depth budget: the deepest cut whose retention reaches a floor with 95 % confidence, when every shallower cut
//! that was measured does.
//!
//! Depths are judged in ascending order and the first that does not hold ends the budget. That is a fixed-sequence
//! procedure (Maurer, Hothorn and Lehmacher 1995): a budget that is too deep needs the first depth whose true retention
//! is below the floor to hold by chance, so 5 % for one depth is 5 % for all, with no correction. Several strategies
//! are not a sequence, and are not covered. Nor are several groups of tasks, each of which is one answer.

use lopper_record::Retention;
use lopper_record::study::{BudgetDepth, Verdict};

/// The verdict on each measured cut (layers removed, retention) by ascending depth; and the most layers that may go: 0
/// where the shallowest cut fails, `None` where that one is not decided.
pub fn depth_budget(
    cuts: impl IntoIterator<Item = (usize, Option<Retention>)>,
    floor: f64,
) -> (Vec<BudgetDepth>, Option<usize>) {
    let depth = |(removed, retention): (usize, Option<Retention>)| {
        let verdict = retention.map_or(Verdict::Undecided, |retention| Verdict::of(&retention, floor));
        BudgetDepth { removed, retention, holds: verdict == Verdict::Holds, verdict, ..BudgetDepth::default() }
    };
    let mut depths: Vec<BudgetDepth> = cuts.into_iter().map(depth).collect();
    depths.sort_by_key(|depth| depth.removed);
    let held = depths.iter().take_while(|depth| depth.holds).last().map(|depth| depth.removed);
    let failed = depths.first().is_some_and(|depth| depth.verdict == Verdict::Fails);
    (depths, held.or(failed.then_some(0)))
}
