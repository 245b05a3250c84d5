//! The depth budget of a study's points, as the record words it.

use lopper_record::study::{BudgetLine, Point};
use lopper_stats::depth_budget;

/// Decides the budget of one group from the points of one strategy, healed or not.
///
/// Where no depth has a retention with a bound, nothing is decided.
pub fn decide(
    points: &[&Point],
    group: &str,
    threshold: f64,
    healed: bool,
    strategy: &str,
    num_layers: usize,
) -> BudgetLine {
    let of_strategy = points.iter().filter(|p| p.strategy == strategy && p.healed.is_some() == healed);
    let cuts = of_strategy.map(|p| (p.removed, p.group(group).and_then(|g| g.retention)));
    let (depths, max_layers) = depth_budget(cuts, threshold);
    let mut line = BudgetLine {
        group: group.to_owned(),
        threshold,
        healed,
        strategy: strategy.to_owned(),
        max_layers,
        statement: String::new(),
        depths,
    };
    line.statement = line.sentence(num_layers);
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_record::Retention;
    use lopper_record::study::GroupResult;

    fn point(removed: usize, lower95: f64) -> Point {
        let retention = Some(Retention { value: lower95 + 0.03, ci95: [lower95, 1.0], lower95, upper95: 1.0, n: 100 });
        let groups = vec![GroupResult { group: "generative".into(), retention, ..Default::default() }];
        Point { strategy: "bi".into(), removed, groups, ..Default::default() }
    }

    #[test]
    fn other_strategies_and_healed_points_do_not_count() {
        let mut other = point(2, 0.1);
        other.strategy = "random".into();
        let mut healed = point(3, 0.1);
        healed.healed = Some(Default::default());
        let points = [point(1, 0.97), other, healed];
        let line = decide(&points.iter().collect::<Vec<_>>(), "generative", 0.9, false, "bi", 12);
        assert_eq!((line.max_layers, line.depths.len()), (Some(1), 1));
    }
}
