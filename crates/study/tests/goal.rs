//! A study of one question ends when it is answered, with the answer that the whole study gives.

mod common;

use common::{recipe, study};
use lopper_record::StudyRecord;
use lopper_record::study::{BudgetLine, Scope};

fn line<'a>(record: &'a StudyRecord, task: &str, healed: bool) -> &'a BudgetLine {
    let is_it = |line: &&BudgetLine| {
        line.task.as_deref() == Some(task)
            && line.scope == Scope::Task
            && line.threshold == 0.9
            && line.healed == healed
    };
    record.budget.iter().find(is_it).unwrap()
}

#[test]
fn a_goal_ends_a_study_with_the_answer_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (out, mut recipe) = (dir.path().join("study"), recipe());
    recipe.cuts.depths = vec![1, 2, 3];
    recipe.budget.thresholds = vec![0.5];
    recipe.budget.goal = Some("pocket_kind>=0.9".into());
    let record = study(&recipe, &out).unwrap();
    assert!(record.complete);
    // No five items show that anything is kept, so that the shallowest cut decides.
    let depths = |healed: bool| -> Vec<(&str, usize)> {
        let points = record.points.iter().filter(|point| point.healed.is_some() == healed);
        points.map(|point| (point.strategy.as_str(), point.removed)).collect()
    };
    let main = record.main_strategy.as_str();
    assert_eq!((depths(false), depths(true)), (vec![(main, 1)], vec![(main, 1)]));
    let headlines = record.headlines();
    assert_eq!(headlines.len(), 2, "as cut and healed: {headlines:?}");
    assert!(headlines.iter().all(|line| line.task.as_deref() == Some("pocket_kind") && line.threshold == 0.9));
    let ended = record.warnings.iter().find(|warning| warning.contains("`pocket_kind>=0.9` was decided")).unwrap();
    assert!(ended.contains("cuts of 2,3 layers, healed cuts of 3 layers") && ended.contains("reverse"), "{ended}");
    let timing = record.timings.iter().find(|timing| timing.stage == "cuts").unwrap();
    assert_eq!(timing.cells, 1);

    // The whole study goes on from there, and says the same.
    recipe.budget.goal = None;
    recipe.budget.thresholds = vec![0.9];
    let whole = study(&recipe, &out).unwrap();
    let timing = whole.timings.iter().find(|timing| timing.stage == "cuts").unwrap();
    assert!(timing.cached >= 1 && timing.cells > 1, "{timing:?}");
    for healed in [false, true] {
        let (short, long) = (line(&record, "pocket_kind", healed), line(&whole, "pocket_kind", healed));
        assert_eq!((short.max_layers, &short.depths[0]), (long.max_layers, &long.depths[0]));
    }
}

#[test]
fn a_goal_about_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut recipe = recipe();
    for (goal, expected) in [("gsm8k>=0.9", "pocket_word"), ("pocket_kind>0.9", "at most 1")] {
        recipe.budget.goal = Some(goal.into());
        let error = study(&recipe, &dir.path().join("study")).unwrap_err();
        let fault = error.into_fault().unwrap();
        assert!(fault.to_string().contains(expected) && fault.hint.is_some(), "{fault}");
    }
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
}
