//! What a study cuts by, as a user meets it: searches, plans, several random cuts, and presets.

mod common;

use common::Workplace;
use serde_json::{Value, json};

const SEARCH: &str = "search pocket --tasks pocket_arith,pocket_brackets --limit 8 --no-sentinels";

/// Layers are chosen by two generative tasks; a third task, of classification, is measured and has no say.
const STUDY: &str = r#"
items = { report = 4, select = 8, calibration = 4 }
heal = { depths = [] }
[tasks]
classification = ["pocket_kind"]
generative = ["pocket_arith", "pocket_brackets"]
[cuts]
strategies = ["greedy", { plan = "found" }, "random"]
depths = [1, 2, 3]
objective = "generative"
random = 2
main = "greedy"
"#;

#[test]
fn a_study_searches_as_search_does_and_takes_its_plan() {
    let place = Workplace::new(false);
    place.write("study.toml", STUDY);
    let search = place.json(&format!("{SEARCH} --remove 3 -o found --json"));
    let rounds = search["state"]["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 3);
    // The plan holds the order in which the layers went.
    let plan = place.read_json("found/cut.json");
    let order: Vec<&Value> = rounds.iter().map(|round| &round["removed"][0]).collect();
    assert_eq!(plan["order"].as_array().unwrap().iter().collect::<Vec<_>>(), order);
    assert!(place.run("plan show found/cut.json").out.contains("order       "));

    let printed = place.run("study study.toml --out out --json");
    let record = printed.json();
    assert_eq!(record["objective"], json!({"chosen": "generative", "tasks": ["pocket_arith", "pocket_brackets"]}));
    assert!(printed.err.contains("greedy search: 3 cells"), "{}", printed.err);
    let cuts = record["searches"][0]["cuts"].as_array().unwrap();
    let mut gone: Vec<u64> = Vec::new();
    for (cut, round) in cuts.iter().zip(rounds) {
        // The same objective to the last bit, the same layers, the same ties.
        assert_eq!(cut["score"], round["score"]);
        gone.push(round["removed"][0].as_u64().unwrap());
        gone.sort_unstable();
        assert_eq!(cut["dropped"], json!(gone));
        let none = json!([]);
        assert_eq!(cut.get("ties").unwrap_or(&none), &round["ties"]);
    }
    let points = record["points"].as_array().unwrap();
    let of = |strategy: &str| -> Vec<&Value> {
        points.iter().filter(|point| point["strategy"] == strategy).map(|point| &point["dropped"]).collect()
    };
    assert_eq!(of("greedy"), cuts.iter().map(|cut| &cut["dropped"]).collect::<Vec<_>>());
    assert_eq!(of("found"), of("greedy"), "the plan gives every depth on its way");
    assert_eq!((of("random").len(), of("random-2").len()), (3, 3));
    assert_ne!(of("random"), of("random-2"));
    assert!(points.iter().all(|point| point["tasks"].as_array().unwrap().len() == 3));
    // The map's figure is that of the tasks that choose.
    let ablation = place.json("ablate pocket --tasks pocket_brackets,pocket_arith --limit 8 --json");
    for (in_study, removal) in
        record["ablation"].as_array().unwrap().iter().zip(ablation["removals"].as_array().unwrap())
    {
        assert_eq!(in_study["group_mean_retention"], removal["group_mean_retention"]);
    }
    let again = place.json("study study.toml --out out --json");
    assert!(again["timings"].as_array().unwrap().iter().all(|timing| timing["cells"] == timing["cached"]));
}

#[test]
fn plans_that_give_no_cut_of_the_study_are_refused() {
    let place = Workplace::new(true);
    place.run("prune model --drop 2,3 -o cut --no-verify");
    let study = |text: &str| {
        place.write("study.toml", &text.replace("items", "model = \"model\"\nitems"));
        place.fault("study study.toml --out out")
    };
    let one = STUDY.replace("\"found\"", "\"cut\"").replace("\"greedy\", ", "").replace("main = \"greedy\"", "");
    insta::assert_snapshot!("a_plan_of_another_depth", study(&one.replace("[1, 2, 3]", "[1, 3]")));
    insta::assert_snapshot!("a_plan_without_a_depth_to_heal", {
        let healed = one.replace("heal = { depths = [] }", "heal = { depths = [1, 2] }");
        study(&healed.replace("random = 2", "random = 2\nmain = \"cut\""))
    });
    insta::assert_snapshot!("a_plan_of_another_model", {
        place.write("study.toml", &one);
        place.fault("study study.toml --out out")
    });
    insta::assert_snapshot!("no_plan_there", study(&STUDY.replace("\"found\"", "\"nowhere.json\"")));
    insta::assert_snapshot!("no_such_strategy", study(&STUDY.replace("\"greedy\", ", "\"greddy\", ")));
    insta::assert_snapshot!("no_task_of_the_study", study(&STUDY.replace("\"generative\"", "\"gsm8k\"")));
}

#[test]
fn presets_are_printed_for_a_model_and_without_one() {
    let place = Workplace::new(true);
    let print = |arguments: &str| place.run(&format!("study {arguments} --print-recipe")).out;
    let paper = print("--preset paper");
    for line in ["preset = \"paper\"", "depths = [1, 2, 3, 4, 5, 6, 7, 8]", "temperature = 0.9", "r = 64"] {
        assert!(paper.contains(line), "{line} is not in\n{paper}");
    }
    // The tiny model has five layers and the size of the pocket model.
    let quick = print("--preset quick model");
    assert!(
        quick.contains("model = \"model\"") && quick.contains("depths = [1]") && quick.contains("r = 16"),
        "{quick}"
    );
    place.write("printed.toml", &quick);
    assert_eq!(print("printed.toml"), quick);
    // Keys of a file go before the preset's, and a file may name its preset.
    place.write("own.toml", "model = \"model\"\n[items]\nreport = 7\n");
    place.write("named.toml", "preset = \"classification\"\nmodel = \"model\"\n[items]\nreport = 7\n");
    let own = print("--preset classification own.toml");
    assert_eq!(own, print("named.toml"));
    assert!(own.contains("report = 7") && own.contains("select = 60"), "{own}");
    let both = print("--preset quick model own.toml");
    assert_eq!(both.matches("preset = \"quick\"").count(), 2);

    insta::assert_snapshot!("no_such_preset", place.fault("study --preset slow"));
    insta::assert_snapshot!("two_study_files", place.fault("study own.toml named.toml"));
    insta::assert_snapshot!("one_directory_for_two", place.fault("study --preset quick model ./model"));
    assert_eq!(place.names(), ["model", "named.toml", "own.toml", "printed.toml"], "nothing is written");
}

#[test]
fn a_preset_studies_each_model_in_a_directory_of_its_own() {
    let place = Workplace::new(true);
    let study = r#"
        model = "model"
        items = { report = 2, select = 2, calibration = 2 }
        tasks = { classification = ["pocket_kind"], generative = [] }
        cuts = { strategies = ["reverse"], main = "reverse" }
    "#;
    place.write("one.toml", study);
    place.write("two.toml", &study.replace("report = 2", "report = 3"));
    let records = place.json("study --preset quick one.toml two.toml --out out --json");
    let records = records.as_array().unwrap();
    let items = |at: usize| records[at]["tasks"][0]["n_report"].as_u64().unwrap();
    assert_eq!((records.len(), items(0), items(1)), (2, 2, 3));
    assert!(place.path("out/one/report.html").exists() && place.path("out/two/report.html").exists());
    let command = records[1]["command"].as_str().unwrap();
    assert_eq!(command, "lopper study --preset quick two.toml --out out/two");
    // The command in the record goes on with that study.
    let again = place.json(&format!("{} --json", command.strip_prefix("lopper ").unwrap()));
    assert!(again["timings"].as_array().unwrap().iter().all(|timing| timing["cells"] == timing["cached"]));
}
