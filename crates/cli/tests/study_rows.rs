//! `lopper study` over rows: benchmarks and tasks of one's own.

mod common;

use common::{Printed, Workplace};
use lopper_testkit::tasks::{COLOURS, SUMS, lines};
use serde_json::{Value, json};

const STUDY: &str = r#"
model = "model"
[items]
report = 4
select = 3
calibration = 4
[tasks]
classification = ["./colours.toml"]
generative = ["./sums.toml"]
[cuts]
strategies = ["reverse"]
depths = [1, 2]
[heal]
depths = []
"#;

fn workplace() -> Workplace {
    let place = Workplace::new(true);
    place.write("study.toml", STUDY);
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
    let place = workplace();
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
    place.write("study.toml", &STUDY.replace("[cuts]", rows));
    let again = place.json(&["study", "study.toml", "--out", "out", "--json"]);
    assert!(again["timings"].as_array().unwrap().iter().all(|timing| timing["cells"] == timing["cached"]), "{again}");
}

#[test]
fn the_study_that_comes_along_is_one() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../studies/benchmarks.toml");
    let place = workplace();
    let text = std::fs::read_to_string(file).unwrap().replace("Qwen/Qwen2.5-0.5B-Instruct", "model");
    let text =
        text.replace("depths = [1, 2, 3, 4, 6, 8]", "depths = [1, 2]").replace("depths = [2, 4, 6]", "depths = [2]");
    place.write("along.toml", &text);
    let printed = place.run("study along.toml --print-recipe").out;
    assert!(printed.contains("gsm8k") && printed.contains("max_new_tokens = 256"), "{printed}");
}
