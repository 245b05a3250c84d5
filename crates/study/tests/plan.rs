//! What a study would compute, before it runs, in its midst and after it.

mod common;

use std::path::Path;

use common::{LAYERS, Watch, model, recipe, study, watched};
use lopper_record::{NoProgress, StudyRecord};
use lopper_study::plan::StudyPlan;
use lopper_study::{Recipe, StudyInputs};

fn plan(recipe: &Recipe, directory: &Path) -> StudyPlan {
    lopper_study::plan(&model(), recipe, &StudyInputs::default(), directory, &NoProgress).unwrap()
}

/// Stage, cells and finished cells.
fn counts(plan: &StudyPlan) -> Vec<(&str, usize, usize)> {
    plan.stages.iter().map(|stage| (stage.name.as_str(), stage.cells.len(), stage.finished())).collect()
}

fn ran(record: &StudyRecord) -> Vec<(&str, usize, usize)> {
    record.timings.iter().map(|timing| (timing.stage.as_str(), timing.cells, timing.cells)).collect()
}

/// A search, a control, several seeds.
fn full_recipe() -> Recipe {
    let mut recipe = recipe();
    // Enough items for a random model to score on some.
    recipe.items.select = 40;
    recipe.cuts.strategies.push("greedy".into());
    recipe.cuts.strategies.push("block".into());
    recipe.heal.control = true;
    recipe.heal.seeds = lopper_study::HealSeeds::Number(2);
    recipe
}

#[test]
fn a_plan_writes_nothing_and_counts_what_a_study_does() {
    let dir = tempfile::tempdir().unwrap();
    let (recipe, out) = (full_recipe(), dir.path().join("study"));
    let before = plan(&recipe, &out);
    assert!(!out.exists() && std::fs::read_dir(dir.path()).unwrap().next().is_none());
    assert!(before.at_most && before.stages.iter().all(|stage| stage.finished() == 0));
    assert!(before.stages.iter().flat_map(|stage| &stage.cells).all(|cell| cell.seconds.is_finite()));
    assert!(before.seconds > 0.0 && before.disk_bytes > 1000 && before.memory.len() == 3, "{before:?}");

    let record = study(&recipe, &out).unwrap();
    let counted = counts(&before);
    assert_eq!(counted.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), stages(&record));
    for ((name, planned, _), (_, done, _)) in counted.iter().zip(ran(&record)) {
        assert!(*planned >= done, "{name}: {planned} planned, {done} done");
    }
    let of = |name: &str| counted.iter().find(|(stage, ..)| *stage == name).unwrap().1;
    assert_eq!((of("uncut model"), of("layer map"), of("greedy search"), of("block search")), (2, LAYERS, 3, 2));
    // Five strategies at two depths; two depths healed by two seeds and a control, each trained and measured.
    assert_eq!((of("cuts"), of("healing")), (10, 12));

    // Nothing is left to do, and every cell is known.
    let after = plan(&recipe, &out);
    assert_eq!(counts(&after), ran(&record));
    assert_eq!((after.at_most, after.seconds, after.disk_bytes), (false, 0.0, 0));
}

#[test]
fn a_plan_takes_damaged_answers_for_missing_and_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let (recipe, out) = (recipe(), dir.path().join("study"));
    study(&recipe, &out).unwrap();
    let is_responses = |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with("responses-");
    let cells = || std::fs::read_dir(out.join("cells")).unwrap().map(|entry| entry.unwrap().path());
    let damaged = cells().find(|path| is_responses(path) && path.extension().unwrap() == "json").unwrap();
    std::fs::write(&damaged, "{}").unwrap();
    let (before, plan) = (cells().count(), plan(&recipe, &out));
    let responses = plan.stages.iter().find(|stage| stage.name == "self-generated responses").unwrap();
    assert!(responses.finished() == 0 && responses.seconds() > 0.0);
    assert_eq!((cells().count(), std::fs::read_to_string(&damaged).unwrap().as_str()), (before, "{}"));
}

fn stages(record: &StudyRecord) -> Vec<&str> {
    record.timings.iter().map(|timing| timing.stage.as_str()).collect()
}

#[test]
fn a_plan_knows_what_an_interrupted_study_has_left() {
    let dir = tempfile::tempdir().unwrap();
    let (recipe, whole, part) = (recipe(), dir.path().join("whole"), dir.path().join("part"));
    let record = study(&recipe, &whole).unwrap();
    let total: usize = record.timings.iter().map(|timing| timing.cells).sum();
    for cells in [1, 5, 12, 20, total - 3] {
        let watch = Watch::stopping_after(cells);
        assert!(watched(&recipe, &part, &watch).unwrap_err().is_interrupted());
        let before = plan(&recipe, &part);
        // The study that goes on finds what the plan says is there.
        let watch = Watch::default();
        std::fs::create_dir_all(dir.path().join("copy/cells")).unwrap();
        copy(&part.join("cells"), &dir.path().join("copy/cells"));
        watched(&recipe, &dir.path().join("copy"), &watch).unwrap();
        let found = watch.stages.lock().unwrap();
        for (name, _, finished) in counts(&before) {
            let (_, _, there) = found.iter().find(|(stage, ..)| stage == name).unwrap();
            assert!(finished <= *there, "{name}: {finished} planned as finished, {there} found");
            // Cuts and what follows are counted once their layers are known.
            if !before.at_most || ["uncut model", "layer criteria", "layer map"].contains(&name) {
                assert_eq!(finished, *there, "{name}");
            }
        }
        std::fs::remove_dir_all(dir.path().join("copy")).unwrap();
        std::fs::remove_dir_all(&part).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}
