//! The depth budget from scores that were measured elsewhere.

use lopper_record::study::BudgetLine;
use lopper_record::{Fault, Result};

use crate::samples::{SampleScores, ScoredTask};
use crate::{MeasuredCut, TaskItems, group_budgets};

/// A cut's scores.
#[derive(Debug, Clone, PartialEq)]
pub struct SampledCut {
    /// Layers removed.
    pub removed: usize,
    /// Its scores.
    pub scores: SampleScores,
}

/// The budgets from samples.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplesBudget {
    /// For each task, the worst of them, and their mean, as [`group_budgets`] has them.
    pub lines: Vec<BudgetLine>,
    /// What was left out, a sentence each.
    pub remarks: Vec<String>,
}

/// Decides the budgets of all tasks together that the uncut model and every cut were measured on, over the items that
/// all of them have.
///
/// # Errors
/// A [`Fault`] where no task or no item is common to all, where a task's metric differs between the models, and where
/// items of the same number are not the same.
pub fn samples_budget(base: &SampleScores, cuts: &[SampledCut], threshold: f64) -> Result<SamplesBudget> {
    let mut remarks = Vec::new();
    let mut measured: Vec<MeasuredCut> =
        cuts.iter().map(|cut| MeasuredCut { removed: cut.removed, tasks: vec![] }).collect();
    let mut names: Vec<&String> = base.tasks.keys().collect();
    names.extend(cuts.iter().flat_map(|cut| cut.scores.tasks.keys()));
    names.sort_unstable();
    names.dedup();
    for name in names {
        let models = std::iter::once(&base.tasks).chain(cuts.iter().map(|cut| &cut.scores.tasks));
        let found: Vec<&ScoredTask> = models.filter_map(|tasks| tasks.get(name)).collect();
        if found.len() <= cuts.len() {
            remarks.push(format!("{name} is left out: it was not measured on every model"));
            continue;
        }
        let (uncut, of_cuts) = (found[0], &found[1..]);
        same_metric(name, &found)?;
        let mut ids: Vec<&String> = uncut.items.keys().collect();
        ids.retain(|id| of_cuts.iter().all(|task| task.items.contains_key(*id)));
        let most = found.iter().map(|task| task.items.len()).max().unwrap_or_default();
        if ids.is_empty() {
            return Err(Fault::new(format!("the models have no item of `{name}` in common"))
                .expected("the same items for the uncut model and every cut")
                .got(format!("{} items of the uncut model, none of which every cut has", uncut.items.len()))
                .hint("evaluate all models with the same `--limit` and seed")
                .into());
        }
        if ids.len() < most {
            remarks.push(format!("{name}: {} of {most} items, which all models have", ids.len()));
        }
        for (cut, of_cut) in measured.iter_mut().zip(of_cuts) {
            cut.tasks.push(items(name, uncut, of_cut, &ids)?);
        }
    }
    if measured.iter().all(|cut| cut.tasks.is_empty()) {
        return Err(Fault::new("the models have no task in common")
            .expected("samples of the same tasks for the uncut model and every cut")
            .got(remarks.join("; "))
            .hint("the task is named by `task` in each row, or by the file's name `samples_TASK_DATE.jsonl`")
            .into());
    }
    Ok(SamplesBudget { lines: group_budgets("", &measured, threshold)?, remarks })
}

fn same_metric(name: &str, models: &[&ScoredTask]) -> Result<()> {
    let first = &models[0].metric;
    match models.iter().find(|task| task.metric != *first) {
        None => Ok(()),
        Some(other) => Err(Fault::new(format!("the scores of `{name}` are not of one metric"))
            .expected(format!("`{first}`, as the uncut model's"))
            .got(format!("`{}`", other.metric))
            .hint("`--metric` and `--filter` name the score to read")
            .into()),
    }
}

fn items(name: &str, uncut: &ScoredTask, cut: &ScoredTask, ids: &[&String]) -> Result<TaskItems> {
    let mut items = TaskItems { task: name.to_owned(), ..TaskItems::default() };
    for id in ids {
        let (of_uncut, of_cut) = (&uncut.items[*id], &cut.items[*id]);
        if of_uncut.content != of_cut.content {
            return Err(Fault::new(format!("item {id} of `{name}` is not the same in all files"))
                .expected(format!("{:?}", of_uncut.content.as_deref().unwrap_or_default()))
                .got(format!("{:?}", of_cut.content.as_deref().unwrap_or_default()))
                .hint("evaluate all models with one program, on the same rows")
                .into());
        }
        items.base.push(of_uncut.score);
        items.cut.push(of_cut.score);
        items.chance.push(of_uncut.chance);
    }
    if items.chance.iter().all(|chance| *chance == 0.0) {
        items.chance.clear();
    }
    Ok(items)
}
