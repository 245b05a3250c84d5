//! `lopper study`, over generated tasks and over rows, `lopper pocket` and the embedded model as a user meets them.

mod common;

use common::{Printed, SMALL_STUDY, Workplace};
use lopper_testkit::tasks::{COLOURS, SUMS, lines};
use serde_json::{Value, json};

fn workplace() -> Workplace {
    let place = Workplace::new(true);
    place.write("study.toml", SMALL_STUDY);
    place
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn a_study_ends_with_a_table_and_a_report_and_is_not_computed_twice() {
    let place = workplace();
    let Printed { out: table, err: messages } = place.run("study study.toml --out out/here");
    assert!(table.contains("reverse") && table.contains("classification"), "{table}");
    assert!(messages.contains("layer map: 5 cells") && messages.contains("report: out/here/report.html"), "{messages}");
    let report = place.read("out/here/report.html");
    assert!(report.contains("<svg") && report.contains("How many layers can"));

    let again = place.run("study study.toml --out out/here --json");
    let record = again.json();
    assert_eq!((&record["complete"], &record["model"]["num_layers"]), (&json!(true), &json!(5)));
    assert!(record["timings"].as_array().unwrap().iter().all(|timing| timing["cells"] == timing["cached"]));
    assert!(again.err.contains("layer map: 5 of 5 finished by an earlier run"));
    let cuts = record["points"].as_array().unwrap();
    assert_eq!(cuts[0]["dropped"], json!([4]));
    assert_eq!(cuts.len(), 4);

    // `eval` asks the same items and comes to the same scores.
    let evaluated = place.json("eval model --tasks pocket_kind --limit 4 --drop 4 --json");
    let score = &evaluated["tasks"]["pocket_kind"]["metrics"];
    let task = cuts[0]["tasks"].as_array().unwrap().iter().find(|task| task["task"] == "pocket_kind").unwrap();
    assert!(score.as_object().unwrap().values().any(|metric| metric["value"] == task["score"]["value"]), "{score}");

    // The report can be made again from the records alone.
    std::fs::remove_file(place.path("out/here/report.html")).unwrap();
    place.run("report out/here");
    assert_eq!(place.read("out/here/report.html").len(), report.len());

    // Its figures and data are files next to it.
    assert!(place.read("out/here/report/figures/kept-by-group.svg").contains("<title>Kept against layers removed."));
    let models = place.read("out/here/report/data/models.csv");
    assert_eq!(models.lines().count(), 1 + 1 + cuts.len(), "{models}");
}

#[test]
fn a_printed_study_file_is_the_study() {
    let place = workplace();
    let print = |file: &str| place.run(&format!("study {file} --print-recipe")).out;
    let printed = print("study.toml");
    assert!(printed.contains("report = 4") && printed.contains("learning_rate = "));
    place.write("printed.toml", &printed);
    assert_eq!(print("printed.toml"), printed);
    assert!(print("").contains("model = \"pocket\""));
    assert_eq!(place.names(), ["model", "printed.toml", "study.toml"], "printing writes nothing");
}

#[test]
fn study_files_that_are_wrong() {
    let place = workplace();
    let study = |text: &str| {
        place.write("bad.toml", text);
        place.fault(&["study", "bad.toml", "--out", "out/deeper"])
    };
    insta::assert_snapshot!("misspelt_key", study(&SMALL_STUDY.replace("report =", "reprot =")));
    insta::assert_snapshot!("not_toml", study("[items\n"));
    insta::assert_snapshot!("too_deep", study(&SMALL_STUDY.replace("depths = [1, 2]", "depths = [1, 5]")));
    insta::assert_snapshot!(
        "too_deep_for_a_strategy",
        study(&SMALL_STUDY.replace("depths = [1, 2]", "depths = [1, 4]").replace("reverse", "reverse-keep-2"))
    );
    insta::assert_snapshot!("unknown_study_task", study(&SMALL_STUDY.replace("pocket_brackets", "pocket_braces")));
    insta::assert_snapshot!("no_such_model", study(&SMALL_STUDY.replace("\"model\"", "\"nowhere\"")));
    insta::assert_snapshot!("missing_study", place.fault(&["study", "nowhere.toml"]));
}

#[test]
fn directories_that_are_no_place_for_a_study() {
    let place = workplace();
    std::fs::create_dir(place.path("full")).unwrap();
    place.write("full/precious", "x");
    insta::assert_snapshot!("something_else_there", place.fault(&["study", "study.toml", "--out", "full"]));
    assert_eq!(std::fs::read_dir(place.path("full")).unwrap().count(), 1);
    insta::assert_snapshot!("a_file_there", place.fault(&["study", "study.toml", "--out", "study.toml"]));
    // What only the first stage finds out leaves nothing either.
    std::fs::remove_file(place.path("model/chat_template.jinja")).unwrap();
    place.write("chat.toml", &SMALL_STUDY.replace("pocket_brackets", "pocket_word"));
    place.fault(&["study", "chat.toml", "--out", "out"]);
    std::fs::create_dir(place.path("empty")).unwrap();
    place.fault(&["study", "chat.toml", "--out", "empty"]);
    assert_eq!(std::fs::read_dir(place.path("empty")).unwrap().count(), 0);
}

#[test]
fn pocket_data_is_seeded_and_split() {
    let place = workplace();
    let lines = |arguments: &str| -> Vec<Value> {
        let text = place.run(&format!("pocket data {arguments}")).out;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let items = lines("pocket_word --split report -n 20");
    assert_eq!(items.len(), 20);
    assert!(items.iter().all(|item| item["split"] == "report" && item["messages"][0]["role"] == "user"));
    assert!(items.iter().all(|item| item["answer"].as_str().unwrap().contains("####")));
    assert_eq!(lines("pocket_word --split report -n 5"), items[..5]);
    assert_ne!(lines("pocket_word --split report -n 20 --seed 1"), items);
    let ids = |items: &[Value]| items.iter().map(|item| item["id"].clone()).collect::<Vec<_>>();
    let train = ids(&lines("pocket_word -n 500"));
    assert!(ids(&items).iter().all(|id| !train.contains(id)));

    assert!(lines("pocket_kind -n 3 -o data.jsonl").is_empty());
    assert_eq!(place.read_lines("data.jsonl").len(), 3);
    place.fault(&["pocket", "data", "pocket_kind", "-n", "3", "-o", "data.jsonl"]);
    insta::assert_snapshot!("unknown_pocket_task", place.fault(&["pocket", "data", "pocket_wrod"]));
    insta::assert_snapshot!("unknown_split", place.fault(&["pocket", "data", "pocket_word", "--split", "test"]));
    insta::assert_snapshot!("no_training_steps", place.fault(&["pocket", "train", "-o", "out", "--steps", "0"]));
    place.fault(&["pocket", "train", "-o", "out", "--eval-items", "0"]);
}

#[test]
fn the_pocket_model_cut_is_the_pocket_model_without_those_layers() {
    let place = Workplace::new(false);
    place.write("text.txt", "Tom has 12 apples.\nHe buys 3 more. How many apples does he have now?\n");
    assert_eq!(place.run("prune pocket --drop 5,6 -o cut").out, "cut\n");
    let logprobs = |model: &str| {
        let json = place.json(&format!("logprobs {model} --text text.txt --json"));
        assert_eq!(json["sequences"].as_array().unwrap().len(), 1);
        json
    };
    let (cut, without, whole) = (logprobs("cut"), logprobs("pocket --drop 5,6"), logprobs("pocket"));
    assert_eq!(cut["sequences"][0]["tokens"], without["sequences"][0]["tokens"]);
    let values = |json: &Value| json["sequences"][0]["logprobs"].as_array().unwrap().clone();
    let (a, b) = (values(&cut), values(&without));
    assert!(a.len() > 15 && a.len() == b.len() && a[0].is_null() && b[0].is_null());
    for (a, b) in a[1..].iter().zip(&b[1..]) {
        assert!((number(a) - number(b)).abs() < 1e-4, "{a} and {b}");
    }
    assert!((number(&cut["mean_nll"]) - number(&without["mean_nll"])).abs() < 1e-4);
    assert!((number(&whole["mean_nll"]) - number(&without["mean_nll"])).abs() > 1e-3, "the layers do matter");
    // The plan beside it says which layers are left, by the numbers of the uncut model.
    assert_eq!(place.read_json("cut/cut.json")["kept"], json!([0, 1, 2, 3, 4, 7, 8, 9, 10, 11]));
}

/// The small study on two tasks of one's own.
fn of_rows() -> String {
    SMALL_STUDY
        .replace("pocket_kind", "./colours.toml")
        .replace("pocket_brackets", "./sums.toml")
        .replace(", \"bi\"", "")
}

fn with_rows() -> Workplace {
    let place = Workplace::new(true);
    place.write("study.toml", &of_rows());
    place.write("colours.toml", COLOURS);
    place.write("sums.toml", &SUMS.replace("files = { test = \"sums.jsonl\" }\n", ""));
    let rows = |make: &dyn Fn(usize) -> Value| lines(&(0..40).map(make).collect::<Vec<_>>());
    for directory in ["data/own/colours/default", "data/own/sums/default"] {
        std::fs::create_dir_all(place.path(directory)).unwrap();
    }
    for split in ["train", "test"] {
        let colours =
            rows(&|n| json!({"question": format!("{split} thing {n} is"), "choices": ["red", "blue"], "label": n % 2}));
        place.write(&format!("data/own/colours/default/{split}.jsonl"), &colours);
    }
    let sums = rows(&|n| json!({"prompt": format!("Add {n}."), "tests": format!("assert add({n}) == {n} + 1")}));
    place.write("data/own/sums/default/test.jsonl", &sums);
    place
}

#[test]
fn a_study_asks_tasks_of_ones_own_and_runs_programs_only_when_told() {
    let place = with_rows();
    let fault = place.fault(&["study", "study.toml", "--out", "out"]);
    assert!(fault.contains("sums runs programs") || fault.contains("own/colours"), "{fault}");
    let fault = place.fault(&["study", "study.toml", "--out", "out", "--data-root", "data"]);
    assert!(fault.contains("sums runs programs") && fault.contains("--allow-code-execution"), "{fault}");

    let command = "study study.toml --out out --data-root data --allow-code-execution --json";
    let Some(printed) = place.run_programs(command) else { return };
    let (record, Printed { err, .. }) = (printed.json(), &printed);
    assert!(err.contains("not covered:") && err.contains("it has no training split"), "{err}");
    assert_eq!(record["complete"], true);
    assert_eq!((&record["tasks"][0]["name"], &record["tasks"][1]["name"]), (&json!("colours"), &json!("sums")));
    assert_eq!(record["tasks"].as_array().unwrap().len(), 2);
    assert!(record["command"].as_str().unwrap().contains("--data-root data --allow-code-execution"));
    // How the programs ended is in the record and in the report.
    let ended = |of: &Value| {
        let programs = of["diagnosis"]["programs"].as_object().unwrap();
        programs.values().filter_map(Value::as_u64).sum::<u64>()
    };
    assert_eq!(ended(&record["base"]), 4);
    assert!(record["points"].as_array().unwrap().iter().all(|point| ended(point) == 4));
    let report = place.read("out/report.html");
    assert!(report.contains("functions that add") && report.contains("colours"));

    // The same in the file.
    let rows = "[rows]\ndata_root = \"data\"\nallow_code_execution = true\n[cuts]";
    place.write("study.toml", &of_rows().replace("[cuts]", rows));
    let again = place.json(&["study", "study.toml", "--out", "out", "--json"]);
    assert!(again["timings"].as_array().unwrap().iter().all(|timing| timing["cells"] == timing["cached"]), "{again}");
}

#[test]
fn the_study_that_comes_along_is_one() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../studies/benchmarks.toml");
    let place = with_rows();
    let text = std::fs::read_to_string(file).unwrap().replace("Qwen/Qwen2.5-0.5B-Instruct", "model");
    let text =
        text.replace("depths = [1, 2, 3, 4, 6, 8]", "depths = [1, 2]").replace("depths = [2, 4, 6]", "depths = [2]");
    place.write("along.toml", &text);
    let printed = place.run("study along.toml --print-recipe").out;
    assert!(printed.contains("gsm8k") && printed.contains("max_new_tokens = 256"), "{printed}");
}

#[test]
fn a_model_is_healed_on_general_instructions_and_says_where_to_get_them() {
    let place = workplace();
    let file = SMALL_STUDY.replace("[heal]\ndepths = []", "[heal]\ndepths = [1]\nprompts = 40\ncontrol = true");
    place.write("study.toml", &file);
    let fault = place.fault(&["study", "study.toml", "--out", "out", "--data-root", "data"]);
    assert!(fault.contains("tatsu-lab/alpaca") && fault.contains("`heal.data` names a file"), "{fault}");

    std::fs::create_dir_all(place.path("data/tatsu-lab/alpaca/default")).unwrap();
    let rows: Vec<Value> =
        (0..40).map(|n| json!({"instruction": format!("Name {n} things."), "input": "", "output": "Many."})).collect();
    place.write("data/tatsu-lab/alpaca/default/train.jsonl", &lines(&rows));
    let printed = place.run("study study.toml --out out --data-root data --json");
    let record = printed.json();
    let infos: Vec<&Value> =
        record["points"].as_array().unwrap().iter().map(|point| &point["healed"]).filter(|of| !of.is_null()).collect();
    assert_eq!(infos.iter().map(|of| &of["role"]).collect::<Vec<_>>(), ["main", "control"]);
    for (of, whose) in infos.iter().zip(["self-generated", "reference"]) {
        let data = format!("{} {whose} answers to general instructions (tatsu-lab/alpaca)", of["examples"]);
        assert_eq!((&of["data"], &of["in_distribution"]), (&json!(data), &json!(false)));
    }
    assert!(printed.err.contains("too few to expect anything of"), "{}", printed.err);
    let table = place.run("study study.toml --out out --data-root data").out;
    for said in ["self-generated answers to general", "training loss", "KV per token"] {
        assert!(table.contains(said), "{said}: {table}");
    }

    place.write("split.toml", &file.replace("prompts = 40", "prompts = 40\nsplit = \"dev\""));
    let fault = place.fault(&["study", "split.toml", "--out", "other", "--data-root", "data"]);
    assert!(fault.contains("dev") && !fault.contains("--split"), "{fault}");
}
