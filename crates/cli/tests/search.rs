//! `lopper ablate` and `lopper search` on the embedded model, and running models in other ways.

mod common;

use common::lopper;
use serde_json::Value;
use std::path::Path;

fn json(directory: &Path, args: &[&str]) -> Value {
    let output = lopper().current_dir(directory).args(args).assert().success();
    serde_json::from_slice(&output.get_output().stdout).unwrap()
}

const TASKS: &str = "pocket_kind,pocket_arith,pocket_brackets";

#[test]
fn an_ablation_is_each_removal_evaluated() {
    let place = tempfile::tempdir().unwrap();
    let ask = ["--tasks", TASKS, "--limit", "10", "--split", "report", "--json"];
    let ablation = json(place.path(), &[&["ablate", "pocket"], &ask[..]].concat());
    let removals = ablation["removals"].as_array().unwrap();
    assert_eq!((removals.len(), ablation["base"]["group_mean_retention"].as_f64()), (12, Some(1.0)));
    for layer in [0, 7] {
        let drop = layer.to_string();
        let alone = json(place.path(), &[&["eval", "pocket", "--drop", &drop], &ask[..]].concat());
        let removal = &removals[layer];
        assert_eq!(removal["layers"], serde_json::json!([layer]));
        for (task, scores) in removal["tasks"].as_object().unwrap() {
            assert_eq!(scores["metrics"], alone["tasks"][task]["metrics"], "{task} without {layer}");
        }
    }
    // The trie of 12 single removals and the uncut model; drafts that were checked.
    let cost = &ablation["cost"];
    let share = cost["layer_rows"].as_f64().unwrap() / cost["layer_rows_apart"].as_f64().unwrap();
    assert!((share - 78.0 / 144.0).abs() < 1e-9, "{share}");
    assert!(cost["draft_tokens_accepted"].as_u64().unwrap() > 0);
    // Without drafts, and as blocks of one, the same scores.
    let plain = json(place.path(), &[&["ablate", "pocket", "--no-drafts", "--block", "1"], &ask[..]].concat());
    assert_eq!(plain["removals"], ablation["removals"]);
    let blocks = json(place.path(), &[&["ablate", "pocket", "--block", "3", "--layers", "2-4"], &ask[..]].concat());
    let removed: Vec<&Value> = blocks["removals"].as_array().unwrap().iter().map(|r| &r["layers"]).collect();
    assert_eq!(removed, [&serde_json::json!([2, 3, 4]), &serde_json::json!([3, 4, 5]), &serde_json::json!([4, 5, 6])]);
}

/// Three tasks of one group and one of the other: averaging over tasks would rank layers otherwise.
#[test]
fn ablate_search_and_study_rank_layers_by_the_same_figure() {
    let place = tempfile::tempdir().unwrap();
    let study = r#"
        items = { report = 2, select = 8, calibration = 2 }
        cuts = { strategies = ["reverse"], depths = [1], main = "reverse" }
        heal = { depths = [] }
        [tasks]
        classification = ["pocket_kind", "pocket_topic", "pocket_trend"]
        generative = ["pocket_arith"]
    "#;
    std::fs::write(place.path().join("study.toml"), study).unwrap();
    // The order of the tasks changes no bit.
    let ask = ["--tasks", "pocket_arith,pocket_trend,pocket_kind,pocket_topic", "--limit", "8", "--json"];
    let record = json(place.path(), &["study", "study.toml", "--out", "out", "--json"]);
    let ablation = json(place.path(), &[&["ablate", "pocket"], &ask[..]].concat());
    let search = ["search", "pocket", "--remove", "1", "--no-sentinels", "-o", "found"];
    let search = json(place.path(), &[&search[..], &ask].concat());
    assert_eq!(ablation["policy"], record["policy"]);

    let (map, removals) = (record["ablation"].as_array().unwrap(), ablation["removals"].as_array().unwrap());
    assert_eq!((map.len(), removals.len()), (12, 12));
    for (in_study, removal) in map.iter().zip(removals) {
        assert!(in_study["group_mean_retention"].is_number());
        assert_eq!(in_study["group_mean_retention"], removal["group_mean_retention"], "without {}", in_study["layer"]);
    }
    let candidates = search["state"]["rounds"][0]["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 11, "the first layer stays");
    for candidate in candidates {
        let layer = candidate["removes"][0].as_u64().unwrap() as usize;
        assert_eq!(candidate["score"], removals[layer]["group_mean_retention"], "without {layer}");
    }
    let ratio = |removal: &Value, task: &str| {
        let score = |of: &Value| {
            let task = &of["tasks"][task];
            task["metrics"][task["primary"].as_str().unwrap()]["value"].as_f64().unwrap()
        };
        score(removal) / score(&ablation["base"])
    };
    let differs = |removal: &&Value| {
        let by_task = ask[1].split(',').map(|task| ratio(removal, task)).sum::<f64>() / 4.0;
        (by_task - removal["group_mean_retention"].as_f64().unwrap()).abs() > 0.01
    };
    assert!(removals.iter().any(|removal| differs(&removal)), "the groups are of unequal size");
}

#[test]
fn a_search_is_recorded_resumed_and_cut() {
    let place = tempfile::tempdir().unwrap();
    let ask = ["--tasks", TASKS, "--limit", "8"];
    let run = |remove: &str, more: &[&str]| {
        let args = [&["search", "pocket", "--remove", remove, "-o", "found"], &ask[..], more].concat();
        lopper().current_dir(place.path()).args(args).assert()
    };
    let first = run("2", &["--json"]).success();
    let record: Value = serde_json::from_slice(&first.get_output().stdout).unwrap();
    let removed: Vec<u64> = record["removed"].as_array().unwrap().iter().map(|l| l.as_u64().unwrap()).collect();
    assert_eq!((removed.len(), record["state"]["rounds"].as_array().unwrap().len()), (2, 2));
    assert!(!removed.contains(&0), "the first layer stays");
    // Taking one round back and going on gives the same, without asking anything twice.
    let path = place.path().join("found/search.json");
    let mut halted = record.clone();
    halted["state"]["rounds"].as_array_mut().unwrap().pop();
    std::fs::write(&path, halted.to_string()).unwrap();
    let again = run("2", &["--json"]).success();
    let resumed: Value = serde_json::from_slice(&again.get_output().stdout).unwrap();
    assert_eq!(resumed["state"]["rounds"], record["state"]["rounds"]);
    // A search that found nothing left is over, until it is told not to mind.
    let mut over = record.clone();
    over["stopped"] = "all gone".into();
    over["state"]["rounds"].as_array_mut().unwrap().pop();
    std::fs::write(&path, over.to_string()).unwrap();
    let ended = run("2", &["--json"]).success();
    let stopped: Value = serde_json::from_slice(&ended.get_output().stdout).unwrap();
    assert_eq!((stopped["removed"].as_array().unwrap().len(), stopped["stopped"].as_str()), (1, Some("all gone")));
    assert!(String::from_utf8_lossy(&ended.get_output().stderr).contains("ended after 1 of 2 layers"));
    let on: Value =
        serde_json::from_slice(&run("2", &["--no-sentinels", "--json"]).success().get_output().stdout).unwrap();
    assert_eq!((&on["state"]["rounds"], &on["stopped"]), (&record["state"]["rounds"], &Value::Null));
    // Another search may not take its place unasked.
    let other = run("3", &[]).code(2);
    assert!(String::from_utf8_lossy(&other.get_output().stderr).contains("another search"));
    run("1", &["--force", "--strategy", "racing", "--first-sample", "4"]).success();
    run("2", &["--force", "--strategy", "block"]).success();
    run("2", &["--force", "--strategy", "evolution", "--population", "3", "--generations", "2"]).success();
    run("2", &["--force", "--strategy", "one-shot"]).success();
    lopper()
        .current_dir(place.path())
        .args(["prune", "pocket", "--plan", "found/cut.json", "-o", "cut", "--no-verify"])
        .assert()
        .success();
    // Nor may a search take the place of a pruned model's plan.
    let before = std::fs::read(place.path().join("cut/cut.json")).unwrap();
    let args = ["search", "pocket", "--remove", "1", "--tasks", "pocket_kind", "--limit", "4", "-o", "cut"];
    lopper().current_dir(place.path()).args(args).assert().code(2);
    assert_eq!(std::fs::read(place.path().join("cut/cut.json")).unwrap(), before);
    let plan: Value = serde_json::from_slice(&std::fs::read(place.path().join("cut/cut.json")).unwrap()).unwrap();
    assert_eq!((plan["criterion"].as_str(), plan["dropped"].as_array().unwrap().len()), (Some("search-one-shot"), 2));
}

/// At nine of twelve layers the pocket model still classifies and no longer reasons.
#[test]
fn a_search_by_both_groups_raises_the_gap_alarm() {
    let place = tempfile::tempdir().unwrap();
    let args = ["search", "pocket", "--remove", "9", "--tasks", "pocket_kind,pocket_word", "--limit", "24"];
    let more = ["--strategy", "block", "--json"];
    let output = lopper().current_dir(place.path()).args(args).args(more).assert().success();
    let record: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert!(record["gaps"]["1"]["classification"].as_f64() > record["gaps"]["1"]["generative"].as_f64());
    assert!(record["readings"]["1"]["perplexity"].as_f64() > record["uncut"]["perplexity"].as_f64());
    assert!(String::from_utf8_lossy(&output.get_output().stderr).contains("gap alarm"));
}

#[test]
fn streaming_and_half_precision_give_the_same_text_its_due() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("ids.json"), "[[5,9,2,7,30,4,4,8],[3,1]]").unwrap();
    let run =
        |more: &[&str]| json(place.path(), &[&["logprobs", "pocket", "--tokens", "ids.json", "--json"], more].concat());
    let held = run(&[]);
    for more in [&["--stream"][..], &["--stream", "--memory", "1KB"]] {
        let streamed = run(more);
        let difference = streamed["mean_nll"].as_f64().unwrap() - held["mean_nll"].as_f64().unwrap();
        assert!(difference.abs() < 1e-4, "{difference}");
    }
    let stored = run(&["--dtype", "bfloat16"]);
    let difference = stored["mean_nll"].as_f64().unwrap() - held["mean_nll"].as_f64().unwrap();
    assert!(difference != 0.0 && difference.abs() < 0.05, "{difference}");
    let wrong = lopper().args(["logprobs", "pocket", "--tokens", "x", "--memory", "much"]).assert().code(2);
    assert!(String::from_utf8_lossy(&wrong.get_output().stderr).contains("no size"));
}
