//! The depth budget: the deepest cut whose retention stays above a threshold with 95 % confidence, when no shallower
//! measured cut fails.

use lopper_record::Retention;
use lopper_record::study::BudgetDepth;

/// Whether each measured cut (layers removed, retention) keeps at least `threshold` at its one-sided 95 % bound, by
/// ascending depth; and the most layers that may go, 0 where the shallowest cut fails. None where no cut has a bound,
/// so that the data decide nothing.
pub fn depth_budget(
    cuts: impl IntoIterator<Item = (usize, Option<Retention>)>,
    threshold: f64,
) -> (Vec<BudgetDepth>, Option<usize>) {
    let depth = |(removed, retention): (usize, Option<Retention>)| {
        let holds = retention.is_some_and(|retention| retention.lower95 >= threshold);
        BudgetDepth { removed, retention, holds }
    };
    let mut depths: Vec<BudgetDepth> = cuts.into_iter().map(depth).collect();
    depths.sort_by_key(|depth| depth.removed);
    let decided = depths.iter().any(|depth| depth.retention.is_some_and(|retention| retention.lower95.is_finite()));
    let at_most = depths.iter().take_while(|depth| depth.holds).last().map_or(0, |depth| depth.removed);
    (depths, decided.then_some(at_most))
}
