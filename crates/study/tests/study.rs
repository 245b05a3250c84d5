//! A whole study on a tiny random model: what it records, and that nothing is computed twice.

mod common;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::Ordering;

use common::{LAYERS, Watch, recipe, study, timeless, watched};
use lopper_record::study::{Point, Timing};
use lopper_record::{Cell, NoProgress, Store, StudyRecord};
use lopper_stats::{self as stats, Pair};
use lopper_study::Recipe;
use serde_json::Value;

/// Names of the finished cells with their contents.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory.join("cells")).unwrap().map(|entry| entry.unwrap().path());
    let cells = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    cells.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())).collect()
}

fn cells(directory: &Path, kind: &str) -> Vec<Cell> {
    let cells = Store::open(directory).unwrap().cells().unwrap();
    cells.into_iter().filter(|cell| cell.kind == kind).collect()
}

/// An evaluation's items.
fn items(cell: &Cell) -> &Vec<Value> {
    cell.value["outcome"]["items"].as_array().unwrap()
}

fn timing<'a>(record: &'a StudyRecord, stage: &str) -> &'a Timing {
    record.timings.iter().find(|timing| timing.stage == stage).unwrap()
}

/// Scores of a model on a task, read from its cell.
fn scores(cells: &[Cell], point: Option<&Point>, task: &str) -> Vec<f64> {
    let dropped = point.map(|point| point.dropped.clone()).unwrap_or_default();
    let kept: Vec<usize> = dropped.complement(LAYERS).into();
    let healed = point.is_some_and(|point| point.healed.is_some());
    let found: Vec<&Cell> = cells
        .iter()
        .filter(|cell| {
            let key = &cell.key;
            key["kept"] == serde_json::json!(kept)
                && key["task"] == task
                && key["split"] == "report"
                && key["healed"].is_null() != healed
        })
        .collect();
    assert_eq!(found.len(), 1, "one cell of {task} without {dropped:?}");
    items(found[0]).iter().map(|item| item["score"].as_f64().unwrap()).collect()
}

#[test]
fn two_processes_divide_a_study_and_come_to_the_same_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut recipe = recipe();
    // Enough items for a random model to score on some.
    recipe.items.select = 40;
    recipe.cuts.strategies.push("greedy".into());
    let alone = study(&recipe, &dir.path().join("alone")).unwrap();
    let out = dir.path().join("both");
    // Each has a model and a store of its own, as processes have.
    let records: Vec<StudyRecord> = std::thread::scope(|scope| {
        let work = || study(&recipe, &out).unwrap();
        let both = [scope.spawn(work), scope.spawn(work)];
        both.into_iter().map(|process| process.join().unwrap()).collect()
    });
    for record in &records {
        assert_eq!(timeless(record), timeless(&alone));
    }
    // No evaluation, training or reading was done twice.
    for stage in
        ["uncut model", "layer criteria", "layer map", "sentinels", "cuts", "self-generated responses", "healing"]
    {
        let of = |record: &StudyRecord| timing(record, stage).clone();
        let done: usize = records.iter().map(|record| of(record).cells - of(record).cached).sum();
        assert_eq!(done, of(&alone).cells, "{stage}");
    }
}

#[test]
fn a_study_is_complete_says_what_its_cells_say_and_is_not_computed_twice() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new/study");
    let recipe = recipe();
    let watch = Watch::default();
    let record = watched(&recipe, &out, &watch).unwrap();
    assert!(record.complete);
    assert_eq!(timeless(&StudyRecord::read(&out).unwrap()), timeless(&record));

    // Every strategy at every depth, and the main one healed.
    assert!(recipe.cuts.strategies.contains(&record.main_strategy.as_str().into()));
    let measured = |point: &&Point| point.healed.is_none();
    assert_eq!(record.points.iter().filter(measured).count(), 3 * 2);
    let healed: Vec<&Point> = record.points.iter().filter(|point| point.healed.is_some()).collect();
    assert_eq!(healed.iter().map(|point| point.removed).collect::<Vec<_>>(), [1, 3]);
    assert!(healed.iter().all(|point| point.strategy == record.main_strategy));
    for point in &healed {
        let info = point.healed.as_ref().unwrap();
        assert!(info.examples > 0 && info.steps == info.examples.div_ceil(8) && info.tokens > 0);
        assert!(info.train_loss_first.is_finite() && info.train_loss_last.is_finite());
        // The same layers as the cut it heals.
        let cut = record.points.iter().find(|p| p.strategy == point.strategy && p.removed == point.removed).unwrap();
        assert_eq!(cut.dropped, point.dropped);
    }
    assert_eq!(record.ablation.iter().map(|ablated| ablated.layer).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(record.criteria.iter().all(|criterion| criterion.values.len() == LAYERS));
    assert!(record.tasks.iter().all(|task| (task.n_report, task.n_select) == (5, 4)));
    let layer = record.model.parameters_per_layer[0];
    let base = record.base.as_ref().unwrap();

    // Scores and retentions are those of the cells' items.
    let evals = cells(&out, "eval");
    for point in &record.points {
        assert_eq!((point.removed, point.dropped.len()), (point.dropped.len(), point.removed));
        assert_eq!(point.parameters, Some(record.model.parameters - point.removed as u64 * layer));
        for (group, tasks) in
            [("classification", &recipe.tasks.classification), ("generative", &recipe.tasks.generative)]
        {
            let pairs: Vec<(Vec<f64>, Vec<f64>)> =
                tasks.iter().map(|task| (scores(&evals, None, task), scores(&evals, Some(point), task))).collect();
            for (task, (uncut, cut)) in tasks.iter().zip(&pairs) {
                let result = point.task(task).unwrap();
                assert!((result.score.value - stats::mean(cut)).abs() < 1e-12);
                assert!((base.task(task).unwrap().score.value - stats::mean(uncut)).abs() < 1e-12);
                assert_eq!(result.retention, stats::retention(&Pair::new(uncut, cut)).unwrap());
            }
            let pairs: Vec<Pair<'_>> = pairs.iter().map(|(base, cut)| Pair::new(base, cut)).collect();
            let retention = stats::group_retention(&pairs).unwrap();
            assert_eq!(point.group(group).unwrap().retention, retention, "{group}");
        }
    }

    // A random model solves nothing, so nothing can be said about generative use.
    let of_each_group = 4; // two tasks, the worst of them, and their mean
    assert_eq!(record.budget.len(), 2 * 2 * 2 * of_each_group);
    for line in &record.budget {
        assert_eq!(line.strategy, record.main_strategy);
        assert_eq!(line.depths.iter().map(|depth| depth.removed).collect::<Vec<_>>(), [1, 3]);
        if line.group == "generative" {
            assert_eq!(line.max_layers, None);
            assert!(line.statement.contains("is not known"), "{}", line.statement);
        }
    }
    assert_eq!(base.group("generative").unwrap().retention, None);

    // No work of this run passes for an earlier run's, also where strategies agree on a cut.
    let stages = watch.stages.lock().unwrap().clone();
    assert_eq!(stages.iter().map(|stage| stage.1).sum::<usize>(), watch.cells.load(Ordering::Relaxed));
    assert_eq!(stages.len(), record.timings.len());
    for ((name, cells, there), timing) in stages.iter().zip(&record.timings) {
        assert_eq!((name, *cells, *there), (&timing.stage, timing.cells, 0));
        assert_eq!(timing.cached, 0, "{name}");
    }
    assert!(timing(&record, "cuts").cells < 6, "with layer 0 kept, three of four layers are one cut");

    // Again: nothing is computed, nothing is written but the record, and it says the same.
    let before = files(&out);
    let again = Watch::default();
    let second = watched(&recipe, &out, &again).unwrap();
    assert_eq!(files(&out), before);
    assert_eq!(timeless(&second), timeless(&record));
    for (timing, first) in second.timings.iter().zip(&record.timings) {
        assert_eq!((&timing.stage, timing.cells, timing.cached), (&first.stage, first.cells, first.cells));
        assert!((timing.seconds - first.seconds).abs() < 1e-6, "the time when it was computed");
    }
    assert!(again.stages.lock().unwrap().iter().all(|(_, cells, there)| cells == there));

    // Another learning rate is another healing and nothing else.
    let mut other = recipe.clone();
    other.heal.recipe.learning_rate *= 0.5;
    let third = study(&other, &out).unwrap();
    for timing in &third.timings {
        let expected = if timing.stage == "healing" { 0 } else { timing.cells };
        assert_eq!(timing.cached, expected, "{}", timing.stage);
    }
    let unhealed = |record: &StudyRecord| -> Vec<Point> { record.points.iter().filter(measured).cloned().collect() };
    assert_eq!(unhealed(&third), unhealed(&record));
    assert!(before.iter().all(|(name, bytes)| files(&out).get(name) == Some(bytes)));
    let loss = |record: &StudyRecord| record.points.last().unwrap().healed.as_ref().unwrap().train_loss_last;
    assert_ne!(loss(&third), loss(&record));
}

#[test]
fn an_interrupted_study_continues_as_if_it_had_not_been() {
    let recipe = recipe();
    let dir = tempfile::tempdir().unwrap();
    let whole = study(&recipe, &dir.path().join("whole")).unwrap();
    let total: usize = whole.timings.iter().map(|timing| timing.cells).sum();
    // In the first stage, among the cuts, before and between the healed.
    for stop_after in [1, 5, total - 6, total - 4, total - 2] {
        let out = dir.path().join(stop_after.to_string());
        let error = watched(&recipe, &out, &Watch::stopping_after(stop_after)).unwrap_err();
        assert!(error.is_interrupted(), "{error:#}");
        let finished = files(&out);
        assert!(!finished.is_empty());
        if stop_after > 2 {
            assert!(!StudyRecord::read(&out).unwrap().complete);
        }
        let continued = study(&recipe, &out).unwrap();
        assert_eq!(timeless(&continued), timeless(&whole), "after {stop_after} cells");
        let cached: usize = continued.timings.iter().map(|timing| timing.cached).sum();
        // Cuts are measured some at a time, and those beside the last one are finished, too.
        assert!((stop_after..total).contains(&cached), "every finished cell was found again: {cached}");
        assert!(finished.iter().all(|(name, bytes)| files(&out).get(name) == Some(bytes)));
    }
}

#[test]
fn what_is_lost_or_damaged_is_computed_again() {
    let recipe = recipe();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("study");
    let whole = study(&recipe, &out).unwrap();
    let before = files(&out);
    let path = |name: &str| out.join("cells").join(name);
    let evals: Vec<&String> = before.keys().filter(|name| name.starts_with("eval-")).collect();
    std::fs::remove_file(path(evals[0])).unwrap();
    std::fs::write(path(evals[1]), &before[evals[1]][..100]).unwrap();
    // A cell of the right form under a wrong name is not believed.
    std::fs::write(path(evals[2]), &before[evals[3]]).unwrap();
    for kind in ["scores-", "responses-"] {
        let name = before.keys().find(|name| name.starts_with(kind)).unwrap();
        std::fs::write(path(name), "{}").unwrap();
    }
    // A healed cut whose weights are damaged, and one whose weights are gone.
    let heals: Vec<&String> = before.keys().filter(|name| name.starts_with("heal-")).collect();
    assert_eq!(heals.len(), 2);
    let model = |name: &str| path(&name.replace(".json", ".model"));
    std::fs::write(model(heals[0]).join("adapter_model.safetensors"), "nonsense").unwrap();
    std::fs::remove_dir_all(model(heals[1])).unwrap();

    let mended = study(&recipe, &out).unwrap();
    // Two eval cells and the two others, and the adapter that was there.
    let (of_cells, others): (Vec<String>, Vec<String>) =
        mended.warnings.iter().cloned().partition(|warning| warning.contains("cells/"));
    assert_eq!(of_cells.len(), 5, "{:#?}", mended.warnings);
    assert_eq!(StudyRecord { warnings: others, ..timeless(&mended) }, timeless(&whole));
    assert_eq!(timing(&mended, "layer criteria").cached, 0);
    assert_eq!(timing(&mended, "self-generated responses").cached, 0);
    assert_eq!(files(&out).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    // And now all is well again.
    let third = study(&recipe, &out).unwrap();
    assert_eq!(timeless(&third), timeless(&whole));
    assert!(third.timings.iter().all(|timing| timing.cached == timing.cells));
}

#[test]
fn selection_healing_and_reporting_share_no_item() {
    let dir = tempfile::tempdir().unwrap();
    study(&recipe(), dir.path()).unwrap();
    let mut ids: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    let mut prompts = HashSet::new();
    for cell in cells(dir.path(), "eval") {
        for item in items(&cell) {
            let split = cell.key["split"].as_str().unwrap();
            let id = format!("{} {}", cell.key["task"], item["id"].as_str().unwrap());
            ids.entry(split.to_owned()).or_default().insert(id);
            prompts.insert(item["prompt"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!((ids["select"].len(), ids["report"].len()), (4 * 4, 4 * 5));
    assert!(ids["select"].is_disjoint(&ids["report"]));
    let answered = cells(dir.path(), "responses");
    let rows = answered[0].value["rows"].as_array().unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        let prompt = row["prompt"].as_str().or_else(|| row["messages"][0]["content"].as_str()).unwrap();
        assert!(!prompts.contains(prompt), "{prompt:?} is evaluated and learned from");
    }
}

#[test]
fn parts_may_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut unhealed = recipe();
    unhealed.heal.depths.clear();
    unhealed.cuts.main = "bi".into();
    let record = study(&unhealed, &dir.path().join("unhealed")).unwrap();
    assert!(record.complete && record.points.iter().all(|point| point.healed.is_none()));
    assert_eq!(record.main_strategy, "bi");
    assert!(record.budget.iter().all(|line| !line.healed));
    let stages: Vec<&str> = record.timings.iter().map(|timing| timing.stage.as_str()).collect();
    assert_eq!(stages, ["uncut model", "layer criteria", "layer map", "sentinels", "cuts", "speed"]);

    let mut choices = recipe();
    choices.tasks.generative.clear();
    choices.heal.recipe.method = lopper_heal::Method::Full;
    choices.heal.depths = vec![1];
    let out = dir.path().join("choices");
    let record = study(&choices, &out).unwrap();
    assert!(record.samples.is_empty() && record.budget.iter().all(|line| line.group == "classification"));
    let again = study(&choices, &out).unwrap();
    assert_eq!(timeless(&again), timeless(&record));
    assert!(again.timings.iter().all(|timing| timing.cached == timing.cells));
}

#[test]
fn a_study_that_fails_before_its_first_cell_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |recipe: &Recipe, out: &Path| {
        let mut model = common::model();
        model.text.text.chat = None;
        let error = lopper_study::run(&model, recipe, &Default::default(), out, "", &NoProgress).unwrap_err();
        error.into_fault().unwrap()
    };
    let names = |path: &Path| std::fs::read_dir(path).unwrap().count();
    assert!(fails(&recipe(), &dir.path().join("a/b")).message.contains("chat template"));
    assert_eq!(names(dir.path()), 0);
    // A directory that was there stays, as empty as it was.
    std::fs::create_dir(dir.path().join("mine")).unwrap();
    fails(&recipe(), &dir.path().join("mine"));
    assert_eq!((names(dir.path()), names(&dir.path().join("mine"))), (1, 0));
    let mut deep = recipe();
    deep.cuts.depths = vec![1, 3, 4];
    assert!(fails(&deep, &dir.path().join("deep")).hint.unwrap().contains("cuts.depths"));
    assert_eq!(names(dir.path()), 1);
    // Finished cells are never removed.
    study(&recipe(), &dir.path().join("mine")).unwrap();
    let before = files(&dir.path().join("mine"));
    let mut other = recipe();
    other.items.report += 1;
    fails(&other, &dir.path().join("mine"));
    assert_eq!(files(&dir.path().join("mine")), before);
}
