//! The depth budget: the deepest cut whose retention is still above a threshold with 95 %
//! confidence, and no shallower measured cut that fails.

use lopper_record::study::{BudgetDepth, BudgetLine, Point};

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
    let mut depths: Vec<BudgetDepth> = points
        .iter()
        .filter(|p| p.strategy == strategy && p.healed.is_some() == healed)
        .map(|p| {
            let retention = p.group(group).and_then(|g| g.retention);
            let holds = retention.is_some_and(|r| r.lower95 >= threshold);
            BudgetDepth { removed: p.removed, retention, holds }
        })
        .collect();
    depths.sort_by_key(|d| d.removed);
    let decided = depths.iter().any(|d| d.retention.is_some_and(|r| r.lower95.is_finite()));
    let max_layers = decided.then(|| depths.iter().take_while(|d| d.holds).last().map_or(0, |d| d.removed));
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
        let retention = Some(Retention { value: lower95 + 0.03, ci95: [lower95, 1.0], lower95, n: 100 });
        let groups = vec![GroupResult { group: "generative".into(), retention, ..Default::default() }];
        Point { strategy: "bi".into(), removed, groups, ..Default::default() }
    }

    fn budget(points: &[Point]) -> Option<usize> {
        decide(&points.iter().collect::<Vec<_>>(), "generative", 0.9, false, "bi", 12).max_layers
    }

    #[test]
    fn a_shallower_failure_ends_the_budget() {
        assert_eq!(budget(&[point(1, 0.97), point(2, 0.92), point(3, 0.8)]), Some(2));
        assert_eq!(budget(&[point(1, 0.97), point(2, 0.7), point(3, 0.95)]), Some(1));
        assert_eq!(budget(&[point(1, 0.5)]), Some(0));
        assert_eq!(budget(&[]), None);
        let mut unknown = point(1, 0.97);
        unknown.groups.clear();
        assert_eq!(budget(&[unknown]), None);
    }

    #[test]
    fn other_strategies_and_healed_points_do_not_count() {
        let mut other = point(2, 0.1);
        other.strategy = "random".into();
        let mut healed = point(3, 0.1);
        healed.healed = Some(Default::default());
        assert_eq!(budget(&[point(1, 0.97), other, healed]), Some(1));
    }
}
