//! Searches, given cuts and several random ones in a study: what they choose, what is recorded, and that no finished
//! round is computed twice.

mod common;

use std::path::Path;

use common::{LAYERS, Watch, recipe, study, timeless, watched};
use lopper_record::study::{SearchRecord, StudyRecord, Timing};
use lopper_record::{LayerSet, Store};
use lopper_study::{Cuts, GivenCut, Items, Objective, Recipe, StrategyEntry, Tasks};

/// The tiny model guesses among choices, which is something to lose.
fn searched(strategies: &[&str], depths: &[usize]) -> Recipe {
    let mut recipe = recipe();
    recipe.items = Items { report: 6, select: 40, calibration: 4 };
    recipe.tasks = Tasks {
        classification: ["pocket_kind", "pocket_topic"].map(str::to_owned).to_vec(),
        generative: vec!["pocket_brackets".into()],
    };
    let strategies: Vec<StrategyEntry> = strategies.iter().map(|name| StrategyEntry::from(*name)).collect();
    recipe.cuts = Cuts {
        strategies,
        depths: depths.to_vec(),
        objective: Objective::One("classification".into()),
        ..Cuts::default()
    };
    recipe.heal.depths.clear();
    recipe
}

fn timing<'a>(record: &'a StudyRecord, stage: &str) -> &'a Timing {
    record.timings.iter().find(|timing| timing.stage == stage).unwrap()
}

fn search<'a>(record: &'a StudyRecord, strategy: &str) -> &'a SearchRecord {
    record.searches.iter().find(|search| search.strategy == strategy).unwrap()
}

fn dropped(record: &StudyRecord, strategy: &str) -> Vec<LayerSet> {
    record.points.iter().filter(|point| point.strategy == strategy).map(|point| point.dropped.clone()).collect()
}

fn count(directory: &Path, kind: &str) -> usize {
    Store::open(directory).unwrap().cells().unwrap().iter().filter(|cell| cell.kind == kind).count()
}

#[test]
fn a_greedy_search_gives_every_depth_and_goes_on_from_its_rounds() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("study");
    let shallow = study(&searched(&["greedy", "ablation"], &[1]), &out).unwrap();
    let found = search(&shallow, "greedy");
    assert_eq!((found.cuts.len(), found.cuts[0].removed, timing(&shallow, "greedy search").cells), (1, 1, 1));
    // The layer map is the first round.
    assert_eq!((count(&out, "search"), count(&out, "search-scores")), (1, 0));
    let best = shallow.ablation[1..].iter().filter_map(|ablated| ablated.group_mean_retention);
    assert_eq!(found.cuts[0].score, best.fold(f64::MIN, f64::max));
    assert_eq!(dropped(&shallow, "greedy"), dropped(&shallow, "ablation"));

    // Deeper: the round that is there is not computed again.
    let deep = study(&searched(&["greedy", "ablation"], &[1, 2, 3]), &out).unwrap();
    let of_search = timing(&deep, "greedy search");
    assert_eq!((of_search.cells, of_search.cached), (3, 1));
    let found = search(&deep, "greedy");
    assert_eq!(found.cuts.iter().map(|cut| cut.removed).collect::<Vec<_>>(), [1, 2, 3]);
    for pair in found.cuts.windows(2) {
        assert!(pair[0].dropped.without(&pair[1].dropped).is_empty(), "each cut holds the one before");
    }
    assert!(found.cuts.iter().all(|cut| !cut.dropped.contains(0.into())), "the first layer stays");
    assert_eq!(dropped(&deep, "greedy"), found.cuts.iter().map(|cut| cut.dropped.clone()).collect::<Vec<_>>());
    assert_eq!(deep.objective.as_ref().unwrap().tasks, ["pocket_kind", "pocket_topic"]);
    // The second round's two candidates; the third has one. Nothing is asked of the task that does not choose.
    assert_eq!((count(&out, "search"), count(&out, "search-scores")), (3, 3));

    let again = study(&searched(&["greedy", "ablation"], &[1, 2, 3]), &out).unwrap();
    assert_eq!(timeless(&again), timeless(&deep));
    assert!(again.timings.iter().all(|timing| timing.cells == timing.cached), "{:?}", again.timings);
    // Another objective is another search, and the same evaluations otherwise.
    let mut all = searched(&["greedy", "ablation"], &[1, 2, 3]);
    all.cuts.objective = Objective::Several(vec!["pocket_kind".into(), "pocket_brackets".into()]);
    let other = study(&all, &out).unwrap();
    assert_eq!((timing(&other, "greedy search").cached, timing(&other, "layer map").cached), (0, LAYERS));
}

#[test]
fn every_search_finds_cuts_of_every_depth() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["greedy", "racing", "block", "evolution"];
    let record = study(&searched(&names, &[1, 2]), dir.path()).unwrap();
    for name in names {
        let found = search(&record, name);
        let removed: Vec<usize> = found.cuts.iter().map(|cut| cut.removed).collect();
        assert_eq!(removed, [1, 2], "{name}");
        assert!(found.cuts.iter().all(|cut| cut.dropped.len() == cut.removed && cut.score > 0.0), "{name}");
        assert_eq!(dropped(&record, name), found.cuts.iter().map(|cut| cut.dropped.clone()).collect::<Vec<_>>());
        assert!(found.evaluations > 0);
    }
    let block = &search(&record, "block").cuts[1].dropped;
    assert_eq!(block.indices().next_back().unwrap() - block.indices().next().unwrap(), 1, "{block}");
    // All three sets of two layers are known after a generation.
    assert!(search(&record, "evolution").cuts[1].score >= search(&record, "greedy").cuts[1].score);
    assert_eq!(timing(&record, "evolution search").cells, 20);
    let again = study(&searched(&names, &[1, 2]), dir.path()).unwrap();
    assert_eq!(timeless(&again), timeless(&record));
}

#[test]
fn an_interrupted_search_continues_as_if_it_had_not_been() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = searched(&["greedy", "racing"], &[1, 2, 3]);
    let whole = study(&recipe, &dir.path().join("whole")).unwrap();
    let before: usize =
        ["uncut model", "layer criteria", "layer map"].map(|stage| timing(&whole, stage).cells).iter().sum();
    for rounds in 1..=5 {
        let out = dir.path().join(rounds.to_string());
        let error = watched(&recipe, &out, &Watch::stopping_after(before + rounds)).unwrap_err();
        assert!(error.is_interrupted(), "{error:#}");
        assert_eq!(count(&out, "search"), rounds);
        let record = study(&recipe, &out).unwrap();
        assert_eq!(timeless(&record), timeless(&whole));
        let cached = ["greedy search", "racing search"].map(|stage| timing(&record, stage).cached);
        assert_eq!(cached.iter().sum::<usize>(), rounds, "after {rounds} rounds");
    }
}

#[test]
fn a_search_needs_something_to_lose() {
    let dir = tempfile::tempdir().unwrap();
    let mut recipe = searched(&["greedy"], &[1]);
    recipe.cuts.objective = Objective::One("generative".into());
    let fault = study(&recipe, dir.path()).unwrap_err().into_fault().unwrap();
    assert!(fault.message.contains("scores nothing") && fault.hint.unwrap().contains("cuts.objective"));
    assert_eq!(count(dir.path(), "scores"), 0, "it is found before the layers are measured");
}

#[test]
fn given_cuts_and_several_random_ones_are_strategies() {
    let dir = tempfile::tempdir().unwrap();
    let mut recipe = searched(&["bi", "random"], &[1, 2]);
    let given = GivenCut { drop: Some("1,3".into()), name: Some("mine".into()), plan: None };
    recipe.cuts.strategies.push(StrategyEntry::Given(given));
    recipe.cuts.random = 4;
    let record = study(&recipe, dir.path()).unwrap();
    assert_eq!(dropped(&record, "mine"), [LayerSet::from([1, 3])]);
    assert!(record.warnings.iter().any(|warning| warning.contains("mine") && warning.contains("no cut of 1")));
    let random: Vec<_> = ["random", "random-2", "random-3", "random-4"].map(|name| dropped(&record, name)).to_vec();
    assert!(random.iter().all(|cuts| cuts.len() == 2));
    assert!(random.iter().any(|cuts| *cuts != random[0]), "{random:?}");
    let seeds: Vec<&str> = record.seeds.iter().map(|seed| seed.name.as_str()).collect();
    assert!(seeds.contains(&"random-4"), "{seeds:?}");
    // Where the main strategy must give a depth that the given cut lacks, it is not among those to choose from.
    recipe.cuts.depths = vec![1, 2, 3];
    recipe.cuts.strategies.drain(..2);
    recipe.cuts.random = 1;
    recipe.heal.depths = vec![1];
    let fault = study(&recipe, dir.path()).unwrap_err().into_fault().unwrap();
    assert!(fault.message.contains("no strategy gives"), "{fault}");
}
