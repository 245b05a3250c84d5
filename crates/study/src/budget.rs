//! The depth budget of a study, from the items of its main strategy's cuts.

use lopper_measure::{MeasuredCut, TaskItems, group_budgets};
use lopper_record::Result;
use lopper_record::study::{BudgetLine, HealInfo};
use lopper_tasks::TaskOutcome;

use crate::Recipe;
use crate::tasks::StudyTasks;

/// A cut of the main strategy, with all that the budget is decided on.
pub struct JudgedCut {
    /// What it was healed on; none of a cut that was not.
    healing: Option<String>,
    cut: MeasuredCut,
}

impl JudgedCut {
    /// From the outcomes of the uncut model and of the cut on the reporting items.
    pub fn new(removed: usize, healing: Option<&HealInfo>, pairs: &[(&TaskOutcome, &TaskOutcome)]) -> Self {
        let tasks = pairs.iter().map(|(base, cut)| TaskItems::of(base, cut)).collect();
        let healing = healing.map(|info| match (info.data.as_str(), info.in_distribution) {
            ("", _) => format!("{} answers", info.examples),
            (data, false) => data.to_owned(),
            (data, true) => format!("{data} (in-distribution)"),
        });
        Self { healing, cut: MeasuredCut { removed, tasks } }
    }
}

/// The budgets at every threshold, of the cuts as they are and healed, for each group of tasks. Of a study with a goal
/// the first answer is that of the goal.
pub fn decide(
    judged: &[JudgedCut],
    tasks: &StudyTasks,
    strategy: &str,
    recipe: &Recipe,
    num_layers: usize,
) -> Result<Vec<BudgetLine>> {
    let mut lines = Vec::new();
    let goal = recipe.budget.parsed_goal()?;
    let mut floors: Vec<f64> = goal.iter().map(|goal| goal.floor).collect();
    floors.extend(recipe.budget.thresholds.iter().filter(|floor| goal.as_ref().is_none_or(|g| g.floor != **floor)));
    for threshold in floors {
        for healed in [false, true] {
            let of_kind: Vec<&JudgedCut> = judged.iter().filter(|cut| cut.healing.is_some() == healed).collect();
            let healing_data = of_kind.first().and_then(|cut| cut.healing.clone()).unwrap_or_default();
            for (group, names) in &tasks.groups {
                let cuts: Vec<MeasuredCut> = of_kind.iter().map(|cut| only(&cut.cut, names)).collect();
                for mut line in group_budgets(group, &cuts, threshold)? {
                    if let Some(goal) = &goal {
                        line.headline = goal.is_of(&line);
                    }
                    line.healed = healed;
                    line.healing_data.clone_from(&healing_data);
                    strategy.clone_into(&mut line.strategy);
                    line.statement = line.sentence(Some(num_layers));
                    lines.push(line);
                }
            }
        }
    }
    Ok(lines)
}

/// How many layers may go as far as is known, in a few words: `≥ 90 % kept: classification 7, generative 3 (healed 5)`.
pub fn so_far(lines: &[BudgetLine]) -> String {
    let first: Vec<&BudgetLine> = lines.iter().filter(|line| line.headline).collect();
    let Some(floor) = first.first().map(|line| line.threshold) else { return String::new() };
    let name = |line: &BudgetLine| line.task.clone().unwrap_or_else(|| line.group.clone());
    let most = |line: &BudgetLine| line.max_layers.map_or_else(|| "?".to_owned(), |most| most.to_string());
    let of_floor = || first.iter().filter(|line| line.threshold == floor);
    let words = of_floor().filter(|line| !line.healed).map(|line| {
        let healed = of_floor().find(|other| other.healed && name(other) == name(line));
        let healed = healed.map_or_else(String::new, |healed| format!(" (healed {})", most(healed)));
        format!("{} {}{healed}", name(line), most(line))
    });
    format!("≥ {:.0} % kept so far: {}", 100.0 * floor, words.collect::<Vec<_>>().join(", "))
}

/// The cut on some of the tasks.
fn only(cut: &MeasuredCut, names: &[String]) -> MeasuredCut {
    let tasks = names.iter().filter_map(|name| cut.tasks.iter().find(|task| task.task == *name).cloned());
    MeasuredCut { removed: cut.removed, tasks: tasks.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_so_far_fits_on_a_line() {
        let line = |group: &str, healed, threshold, max_layers| BudgetLine {
            headline: true,
            group: group.into(),
            healed,
            threshold,
            max_layers,
            ..BudgetLine::default()
        };
        let lines = [
            line("classification", false, 0.9, Some(7)),
            line("generative", false, 0.9, None),
            line("generative", true, 0.9, Some(5)),
            line("generative", false, 0.5, Some(9)),
        ];
        assert_eq!(so_far(&lines), "≥ 90 % kept so far: classification 7, generative ? (healed 5)");
        assert_eq!(so_far(&[]), "");
    }
}
