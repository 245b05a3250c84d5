//! `lopper ablate` and `lopper search` on the embedded model, and running models in other ways.

mod common;

use common::Workplace;
use serde_json::{Value, json};

const TASKS: &str = "--tasks pocket_kind,pocket_arith,pocket_brackets";

#[test]
fn an_ablation_is_each_removal_evaluated() {
    let place = Workplace::new(false);
    let run = |command: &str| place.json(&format!("{command} {TASKS} --limit 10 --split report --json"));
    let ablation = run("ablate pocket");
    let removals = ablation["removals"].as_array().unwrap();
    assert_eq!((removals.len(), ablation["base"]["group_mean_retention"].as_f64()), (12, Some(1.0)));
    // Without the first layer the model is lost; without a layer of the middle it is not, as far as ten items show.
    let test = &ablation["test"];
    assert_eq!((test["correction"].as_str(), test["removals"].as_u64()), (Some("Holm's method"), Some(12)));
    let differ = removals.iter().filter(|removal| removal["differs"] == true).count();
    assert!(differ as u64 == test["differ"].as_u64().unwrap() && differ < 6, "{differ}");
    assert!(removals[0]["differs"] == true && removals[0]["p_corrected"].as_f64().unwrap() < 1e-3);
    assert!(removals[7]["differs"] == false && ablation["base"]["differs"].is_null());
    for removal in removals {
        let [kept, low, high] = [
            &removal["group_mean_retention"],
            &removal["group_mean_retention_ci95"][0],
            &removal["group_mean_retention_ci95"][1],
        ]
        .map(|value| value.as_f64().unwrap());
        assert!(low <= kept && kept <= high && removal["p_value"].as_f64() <= removal["p_corrected"].as_f64());
    }
    for layer in [0, 7] {
        let alone = run(&format!("eval pocket --drop {layer}"));
        let removal = &removals[layer];
        assert_eq!(removal["layers"], json!([layer]));
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
    assert_eq!(run("ablate pocket --no-drafts --block 1")["removals"], ablation["removals"]);
    let blocks = run("ablate pocket --block 3 --layers 2-4");
    let removed: Vec<&Value> = blocks["removals"].as_array().unwrap().iter().map(|r| &r["layers"]).collect();
    assert_eq!(removed, [&json!([2, 3, 4]), &json!([3, 4, 5]), &json!([4, 5, 6])]);
    // For a person: marks, p-values with a floor, and how they came about.
    let table = place.run(&format!("ablate pocket {TASKS} --limit 10 --split report --layers 0,7")).out;
    let line = |layer: &str| table.lines().find(|line| line.starts_with(layer)).unwrap().to_owned();
    assert!(line("0 ").contains("< 0.001") && line("0 ").contains("worse"), "{table}");
    assert!(line("7 ").contains("  no  ") && !table.contains("0.000"), "{table}");
    assert!(table.contains("p corrected for their number by Holm's method, level 5 %): 1 differs."), "{table}");
    let few = place.run("ablate pocket --tasks pocket_kind --limit 4 --layers 0,7").out;
    assert!(few.contains("so few items cannot show a difference"), "{few}");
}

/// Where a loss is plain, nothing is said of items that it would take to see one.
#[test]
fn a_comparison_has_a_block_for_each_group() {
    let place = Workplace::new(false);
    let tasks = "pocket_kind,pocket_topic,pocket_sentiment,pocket_word,pocket_arith";
    let printed = place.run(&format!("eval pocket --drop 0 --compare --tasks {tasks} --limit 20"));
    let text = printed.out.split("\n\n").skip(1).collect::<Vec<_>>();
    let [classification, generative, mean, lines] = text.as_slice() else { panic!("{}", printed.out) };
    assert!(classification.contains("\nclassification\n  pocket_kind") && classification.contains("  mean"));
    assert!(generative.starts_with("generative\n  pocket_word") && generative.contains("  mean"), "{generative}");
    assert!(mean.starts_with("mean of the groups") && mean.contains(" to "), "{mean}");
    assert!(generative.contains("< 0.001") && !printed.out.contains("0.000"), "{}", printed.out);
    // Every loss is plain.
    assert!(lines.starts_with("p: exact paired tests") && !lines.contains("items would"), "{lines}");
    let printed = place.run("eval pocket --drop 7 --compare --tasks pocket_kind,pocket_topic --limit 20").out;
    assert!(printed.contains("\npocket_topic: n = 20 cannot tell 5 points apart"), "{printed}");
    assert!(!printed.contains("generative") && !printed.contains("mean of the groups"), "{printed}");
}

/// Three tasks of one group and one of the other: averaging over tasks would rank layers otherwise.
#[test]
fn ablate_search_and_study_rank_layers_by_the_same_figure() {
    let place = Workplace::new(false);
    let study = r#"
        items = { report = 2, select = 8, calibration = 2 }
        cuts = { strategies = ["reverse"], depths = [1], main = "reverse" }
        heal = { depths = [] }
        [tasks]
        classification = ["pocket_kind", "pocket_topic", "pocket_trend"]
        generative = ["pocket_arith"]
    "#;
    place.write("study.toml", study);
    // The order of the tasks changes no bit.
    let tasks = "pocket_arith,pocket_trend,pocket_kind,pocket_topic";
    let record = place.json("study study.toml --out out --json");
    let ablation = place.json(&format!("ablate pocket --tasks {tasks} --limit 8 --json"));
    let search = "search pocket --remove 1 --no-sentinels -o found";
    let search = place.json(&format!("{search} --tasks {tasks} --limit 8 --json"));
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
        let by_task = tasks.split(',').map(|task| ratio(removal, task)).sum::<f64>() / 4.0;
        (by_task - removal["group_mean_retention"].as_f64().unwrap()).abs() > 0.01
    };
    assert!(removals.iter().any(|removal| differs(&removal)), "the groups are of unequal size");
}

#[test]
fn a_search_is_recorded_resumed_and_cut() {
    let place = Workplace::new(false);
    let command = format!("search pocket -o found {TASKS} --limit 8");
    let run = |more: &str| place.run(&format!("{command} {more}"));
    let record = run("--remove 2 --json").json();
    let removed: Vec<u64> = record["removed"].as_array().unwrap().iter().map(|l| l.as_u64().unwrap()).collect();
    assert_eq!((removed.len(), record["state"]["rounds"].as_array().unwrap().len()), (2, 2));
    assert!(!removed.contains(&0), "the first layer stays");
    // Taking one round back and going on gives the same, without asking anything twice.
    let mut halted = record.clone();
    halted["state"]["rounds"].as_array_mut().unwrap().pop();
    place.write("found/search.json", &halted.to_string());
    assert_eq!(run("--remove 2 --json").json()["state"]["rounds"], record["state"]["rounds"]);
    // A search that found nothing left is over, until it is told not to mind.
    let mut over = record.clone();
    over["stopped"] = "all gone".into();
    over["state"]["rounds"].as_array_mut().unwrap().pop();
    place.write("found/search.json", &over.to_string());
    let ended = run("--remove 2 --json");
    let stopped = ended.json();
    assert_eq!((stopped["removed"].as_array().unwrap().len(), stopped["stopped"].as_str()), (1, Some("all gone")));
    assert!(ended.err.contains("ended after 1 of 2 layers"));
    let on = run("--remove 2 --no-sentinels --json").json();
    assert_eq!((&on["state"]["rounds"], &on["stopped"]), (&record["state"]["rounds"], &Value::Null));
    // Another search may not take its place unasked.
    assert!(place.fault(&format!("{command} --remove 3")).contains("another search"));
    run("--remove 1 --force --strategy racing --first-sample 4");
    run("--remove 2 --force --strategy block");
    run("--remove 2 --force --strategy evolution --population 3 --generations 2");
    run("--remove 2 --force --strategy one-shot");
    place.run("prune pocket --plan found/cut.json -o cut --no-verify");
    // Nor may a search take the place of a pruned model's plan.
    let plan = place.read_json("cut/cut.json");
    place.fault("search pocket --remove 1 --tasks pocket_kind --limit 4 -o cut");
    assert_eq!(place.read_json("cut/cut.json"), plan);
    assert_eq!((plan["criterion"].as_str(), plan["dropped"].as_array().unwrap().len()), (Some("search-one-shot"), 2));
}

/// At nine of twelve layers the pocket model still classifies and no longer reasons.
#[test]
fn a_search_by_both_groups_raises_the_gap_alarm() {
    let place = Workplace::new(false);
    let command = "search pocket --remove 9 --tasks pocket_kind,pocket_word --limit 24 --strategy block --json";
    let printed = place.run(command);
    let record = printed.json();
    assert!(record["gaps"]["1"]["classification"].as_f64() > record["gaps"]["1"]["generative"].as_f64());
    assert!(record["readings"]["1"]["perplexity"].as_f64() > record["uncut"]["perplexity"].as_f64());
    assert!(printed.err.contains("gap alarm"));
}

#[test]
fn streaming_and_half_precision_give_the_same_text_its_due() {
    let place = Workplace::new(false);
    place.write("ids.json", "[[5,9,2,7,30,4,4,8],[3,1]]");
    let nll = |more: &str| {
        let json = place.json(&format!("logprobs pocket --tokens ids.json --json {more}"));
        json["mean_nll"].as_f64().unwrap()
    };
    let held = nll("");
    for more in ["--stream", "--stream --memory 1KB"] {
        let difference = nll(more) - held;
        assert!(difference.abs() < 1e-4, "{difference}");
    }
    let difference = nll("--dtype bfloat16") - held;
    assert!(difference != 0.0 && difference.abs() < 0.05, "{difference}");
    assert!(place.fault("logprobs pocket --tokens x --memory much").contains("no size"));
}
