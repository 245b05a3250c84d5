//! The depth budget of a group of tasks: how many layers may go so that each task, the worst of them, and their mean
//! keep enough of the uncut model's score.
//!
//! Computed from items alone, so a study and files of samples measured elsewhere give the same answer.

use lopper_record::study::{BudgetDepth, BudgetLine, ItemsNeeded, Scope, Verdict};
use lopper_record::{Result, Retention};
use lopper_stats::{self as stats, Pair, depth_budget};

use crate::TaskItems;

/// A cut that was measured on tasks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MeasuredCut {
    /// Layers removed.
    pub removed: usize,
    /// The items of each task, by both models; the same tasks for every cut.
    pub tasks: Vec<TaskItems>,
}

/// The budgets of a group of tasks for a retention to keep, from its cuts, each measured on the same tasks: one for
/// each task, then for the worst of them and for their mean where there are several. Retention is that above chance;
/// tasks on which the uncut model is not shown to do better than guessing are named and left out.
///
/// The caller fills in what it knows besides: strategy, healing, and the sentence.
///
/// # Errors
/// Where the models' items of a task differ in number.
pub fn group_budgets(group: &str, cuts: &[MeasuredCut], threshold: f64) -> Result<Vec<BudgetLine>> {
    let Some(first) = cuts.first() else { return Ok(vec![]) };
    let names: Vec<String> = first.tasks.iter().map(|task| task.task.clone()).collect();
    let (mut judged, mut left_out) = (Vec::new(), Vec::new());
    for task in &first.tasks {
        // Whether a task can be judged depends on the uncut model alone.
        match stats::retention(&task.above_chance())? {
            Some(_) => judged.push(task.task.clone()),
            None => left_out.push(task.task.clone()),
        }
    }
    let several = names.len() > 1;
    let mut lines = Vec::new();
    for name in &names {
        let own = |names: &[String]| names.iter().filter(|other| *other == name).cloned().collect::<Vec<_>>();
        let line = Line { scope: Scope::Task, cuts, tasks: own(&judged), threshold };
        let line =
            BudgetLine { task: Some(name.clone()), left_out: own(&left_out), headline: !several, ..line.decide()? };
        lines.push(line);
    }
    for scope in [Scope::Worst, Scope::Mean].into_iter().filter(|_| several) {
        let line = Line { scope, cuts, tasks: judged.clone(), threshold }.decide()?;
        lines.push(BudgetLine { left_out: left_out.clone(), headline: scope == Scope::Worst, ..line });
    }
    lines.iter_mut().for_each(|line| group.clone_into(&mut line.group));
    Ok(lines)
}

/// One budget to decide.
struct Line<'a> {
    scope: Scope,
    cuts: &'a [MeasuredCut],
    /// The tasks that can be judged.
    tasks: Vec<String>,
    threshold: f64,
}

impl Line<'_> {
    fn items<'a>(&self, cut: &'a MeasuredCut) -> Vec<&'a TaskItems> {
        cut.tasks.iter().filter(|task| self.tasks.contains(&task.task)).collect()
    }

    fn decide(self) -> Result<BudgetLine> {
        let judged = self.cuts.iter().map(|cut| Ok((cut.removed, self.retention(cut)?))).collect::<Result<Vec<_>>>()?;
        let (mut depths, max_layers) = depth_budget(judged, self.threshold);
        for depth in &mut depths {
            if let Some(cut) = self.cuts.iter().find(|cut| cut.removed == depth.removed) {
                self.explain(cut, depth)?;
            }
        }
        let chance = |cut: &MeasuredCut| self.items(cut).iter().any(|task| !task.chance.is_empty());
        Ok(BudgetLine {
            scope: self.scope,
            above_chance: self.cuts.first().is_some_and(chance),
            tasks: self.tasks,
            threshold: self.threshold,
            max_layers,
            depths,
            ..BudgetLine::default()
        })
    }

    /// The retention that is judged.
    fn retention(&self, cut: &MeasuredCut) -> Result<Option<Retention>> {
        let items = self.items(cut);
        let pairs: Vec<Pair<'_>> = items.iter().map(|task| task.above_chance()).collect();
        Ok(match (self.scope, pairs.first()) {
            (_, None) => None,
            (Scope::Task, Some(pair)) => stats::retention(pair)?,
            (Scope::Worst, _) => stats::worst_retention(&pairs)?.map(|(_, retention)| retention),
            (Scope::Mean, _) => stats::group_retention(&pairs)?,
        })
    }

    /// Adds the plain ratio, the task that keeps least, and the items that would decide.
    fn explain(&self, cut: &MeasuredCut, depth: &mut BudgetDepth) -> Result<()> {
        let items = self.items(cut);
        let plain: Vec<Pair<'_>> = items.iter().map(|task| task.plain()).collect();
        let above: Vec<Pair<'_>> = items.iter().map(|task| task.above_chance()).collect();
        let undecided = depth.verdict == Verdict::Undecided;
        if self.scope == Scope::Worst {
            let Some((worst, _)) = stats::worst_retention(&above)? else { return Ok(()) };
            depth.worst = Some(items[worst].task.clone());
            depth.ratio = stats::retention(&plain[worst])?.map(|ratio| ratio.value);
            let needed = if undecided { stats::items_needed_of_worst(&above, self.threshold)? } else { None };
            depth.needed = needed.map(|(task, needed)| ItemsNeeded {
                items: needed,
                measured: items[task].base.len(),
                task: Some(items[task].task.clone()),
            });
            return Ok(());
        }
        depth.ratio = match self.scope {
            Scope::Task => plain.first().map(stats::retention).transpose()?.flatten(),
            _ => stats::group_retention(&plain)?,
        }
        .map(|ratio| ratio.value);
        let needed = if undecided { stats::items_needed(&above, self.threshold)? } else { None };
        let measured = above.iter().map(|pair| pair.base.len()).sum();
        depth.needed = needed.map(|needed| ItemsNeeded { items: needed, measured, task: None });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `right` of `n` items right in the uncut model, `kept` of these in the cut.
    fn task(name: &str, n: usize, right: usize, kept: usize, chance: f64) -> TaskItems {
        let ones = |count: usize| (0..n).map(|item| f64::from(u8::from(item < count))).collect::<Vec<f64>>();
        let chance = if chance > 0.0 { vec![chance; n] } else { vec![] };
        TaskItems { task: name.into(), base: ones(right), cut: ones(kept), chance }
    }

    fn line<'a>(lines: &'a [BudgetLine], scope: Scope, task: Option<&str>) -> &'a BudgetLine {
        lines.iter().find(|line| line.scope == scope && line.task.as_deref() == task).expect("there is such a line")
    }

    #[test]
    fn a_good_mean_does_not_hide_the_task_that_broke() {
        let cut = |removed, kept: [usize; 3]| MeasuredCut {
            removed,
            tasks: (0..3).map(|i| task(["a", "b", "c"][i], 400, 400, kept[i], 0.0)).collect(),
        };
        let cuts = [cut(2, [400, 400, 390]), cut(1, [400; 3]), cut(3, [400, 400, 320])];
        let lines = group_budgets("generative", &cuts, 0.9).unwrap();
        assert_eq!(lines.len(), 5);
        let scopes: Vec<Scope> = lines.iter().map(|line| line.scope).collect();
        assert_eq!(scopes, [Scope::Task, Scope::Task, Scope::Task, Scope::Worst, Scope::Mean]);
        assert_eq!(line(&lines, Scope::Task, Some("a")).max_layers, Some(3));
        assert_eq!(line(&lines, Scope::Mean, None).max_layers, Some(3), "a mean of 0.93");
        let worst = line(&lines, Scope::Worst, None);
        assert_eq!((worst.max_layers, worst.headline), (Some(2), true));
        assert_eq!(worst.depths[2].worst.as_deref(), Some("c"));
        assert_eq!(worst.depths[2].verdict, Verdict::Fails);
        // Two levels of the upper bound: a third of 5 % for each of three tasks.
        let of_c = line(&lines, Scope::Task, Some("c")).depths[2].retention.unwrap();
        let of_worst = worst.depths[2].retention.unwrap();
        assert_eq!((of_c.value, of_c.lower95), (of_worst.value, of_worst.lower95));
        assert!(of_worst.upper95 > of_c.upper95 && of_worst.upper95 < 0.9);
    }

    #[test]
    fn a_model_that_guesses_keeps_nothing_of_classification() {
        // 38 % of what the uncut model has right, which is what guessing scores.
        let cuts = [MeasuredCut { removed: 4, tasks: vec![task("choices", 240, 158, 60, 0.25)] }];
        let lines = group_budgets("classification", &cuts, 0.9).unwrap();
        let [line] = lines.as_slice() else { panic!("one task has one line") };
        let depth = &line.depths[0];
        assert!(line.above_chance && line.headline);
        assert!((depth.ratio.unwrap() - 60.0 / 158.0).abs() < 1e-12);
        assert!(depth.retention.unwrap().value.abs() < 1e-9);
        assert_eq!((line.max_layers, depth.verdict), (Some(0), Verdict::Fails));
    }

    #[test]
    fn a_task_the_uncut_model_cannot_do_is_left_out_by_name_and_carries_nothing() {
        let tasks = vec![task("good", 200, 180, 178, 0.0), task("hopeless", 200, 1, 0, 0.0)];
        let lines = group_budgets("generative", &[MeasuredCut { removed: 1, tasks }], 0.9).unwrap();
        assert_eq!(line(&lines, Scope::Mean, None).max_layers, Some(1));
        assert_eq!(line(&lines, Scope::Worst, None).left_out, ["hopeless"]);
        let hopeless = line(&lines, Scope::Task, Some("hopeless"));
        assert_eq!((hopeless.max_layers, hopeless.tasks.len()), (None, 0));
        assert!(hopeless.sentence(Some(12)).contains("is not known for hopeless"));
        let none = vec![MeasuredCut { removed: 1, tasks: vec![task("a", 9, 0, 0, 0.0), task("b", 9, 1, 1, 0.0)] }];
        assert!(group_budgets("generative", &none, 0.9).unwrap().iter().all(|line| line.max_layers.is_none()));
    }

    #[test]
    fn an_undecided_depth_says_how_many_items_of_which_task_decide() {
        let tasks = vec![task("sure", 500, 500, 500, 0.0), task("unsure", 60, 50, 48, 0.0)];
        let lines = group_budgets("generative", &[MeasuredCut { removed: 1, tasks }], 0.9).unwrap();
        let worst = line(&lines, Scope::Worst, None);
        let needed = worst.depths[0].needed.as_ref().expect("some number decides");
        assert_eq!((needed.task.as_deref(), needed.measured), (Some("unsure"), 60));
        assert_eq!(
            Some(needed.items),
            line(&lines, Scope::Task, Some("unsure")).depths[0].needed.as_ref().map(|n| n.items)
        );
        assert!(needed.items > 60 && needed.items < 600, "{}", needed.items);
        assert!(worst.sentence(Some(12)).contains("items of unsure would decide it, 60 were measured"));
    }
}
