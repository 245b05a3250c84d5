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

/// The budgets at every threshold, of the cuts as they are and healed, for each group of tasks.
pub fn decide(
    judged: &[JudgedCut],
    tasks: &StudyTasks,
    strategy: &str,
    recipe: &Recipe,
    num_layers: usize,
) -> Result<Vec<BudgetLine>> {
    let mut lines = Vec::new();
    for &threshold in &recipe.budget.thresholds {
        for healed in [false, true] {
            let of_kind: Vec<&JudgedCut> = judged.iter().filter(|cut| cut.healing.is_some() == healed).collect();
            let healing_data = of_kind.first().and_then(|cut| cut.healing.clone()).unwrap_or_default();
            for (group, names) in &tasks.groups {
                let cuts: Vec<MeasuredCut> = of_kind.iter().map(|cut| only(&cut.cut, names)).collect();
                for mut line in group_budgets(group, &cuts, threshold)? {
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

/// The cut on some of the tasks.
fn only(cut: &MeasuredCut, names: &[String]) -> MeasuredCut {
    let tasks = names.iter().filter_map(|name| cut.tasks.iter().find(|task| task.task == *name).cloned());
    MeasuredCut { removed: cut.removed, tasks: tasks.collect() }
}
