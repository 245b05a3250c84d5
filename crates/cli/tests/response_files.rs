//! Files of rows as other programs write them: response files of several harnesses and servers, byte order marks, line
//! ends of Windows, Python's `NaN`, arrays, CSV and Parquet, for every command that reads rows.

mod common;

use std::path::{Path, PathBuf};

use common::{Printed, Workplace, lopper};
use lopper_testkit::tasks::{STAMPS, lines};
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// The figures of one of the files of `fixtures/responses`.
fn figures(place: &Workplace, name: &str) -> Value {
    let file = fixture("responses").join(name);
    place.json(&["diagnose", file.to_str().unwrap(), "--json"])
}

#[test]
fn the_same_responses_in_the_files_of_every_program() {
    let place = Workplace::new(false);
    let reference = figures(&place, "lopper.jsonl");
    let degeneration = &reference["degeneration"];
    assert_eq!((&degeneration["responses"], &degeneration["loops"]), (&json!(4), &json!(1)), "{reference}");
    assert_eq!(reference["steps"]["slips"][0]["equation"], "2 * 4 = 9");
    // Most layouts say why a response ended, some how many tokens it has; all have the text.
    for (name, finish, tokens) in [
        ("evalplus_solution.jsonl", false, false),
        ("evalplus_completion.jsonl", false, false),
        ("evalplus_eval_results.json", false, false),
        ("vllm_outputs.json", true, true),
        ("vllm_server.jsonl", true, true),
        ("vllm_bench.json", false, true),
        ("openai_chat.json", true, true),
        ("openai_batch.jsonl", true, true),
        ("lighteval_details.parquet", false, true),
        ("lighteval_0_8_details.parquet", false, false),
        ("lighteval_0_7_details.parquet", false, false),
        ("lm_eval_samples.jsonl", false, false),
        ("table.csv", true, false),
    ] {
        let found = figures(&place, name);
        let mut expected = degeneration.clone();
        if !finish {
            expected["finish"] = json!({});
        }
        if !tokens {
            expected.as_object_mut().unwrap().retain(|key, _| !key.contains("token"));
        }
        assert_eq!(found["degeneration"], expected, "{name}");
        let equations = |found: &Value| ["equations", "wrong"].map(|name| found["steps"][name].clone());
        assert_eq!(equations(&found), equations(&reference), "{name}");
        // The failed request of the batch.
        assert_eq!(found["broken"], usize::from(name == "openai_batch.jsonl"), "{name}");
    }
    let printed = place.run(&["diagnose", fixture("responses/openai_batch.jsonl").to_str().unwrap()]);
    assert!(printed.err.contains("line 5: the request failed: This request could not"), "{}", printed.err);
}

#[test]
fn a_pipe_is_read_like_a_file() {
    let bytes = std::fs::read(fixture("responses/vllm_outputs.json")).unwrap();
    let piped = Printed::of(&lopper().args(["diagnose", "-", "--json"]).write_stdin(bytes).assert().success()).json();
    assert_eq!(piped["degeneration"], figures(&Workplace::new(false), "vllm_outputs.json")["degeneration"]);
    let parquet = std::fs::read(fixture("responses/lighteval_details.parquet")).unwrap();
    let message = Printed::of(&lopper().args(["diagnose", "-"]).write_stdin(parquet).assert().code(2)).err;
    assert!(message.contains("a pipe"), "{message}");
}

/// Rows as JSON Lines behind a byte order mark, with line ends of Windows, blank lines and `NaN`; and as an array.
fn dressed(place: &Workplace, name: &str, rows: &[Value]) -> [String; 2] {
    let rows: Vec<String> = rows.iter().map(|row| row.to_string().replacen('{', "{\"weight\": NaN, ", 1)).collect();
    let names = [format!("{name}.jsonl"), format!("{name}.json")];
    place.write(&names[0], &format!("\u{feff}{}\r\n\r\n", rows.join("\r\n")));
    place.write(&names[1], &format!("\u{feff}[\r\n  {}\r\n]\r\n", rows.join(",\r\n  ")));
    names
}

#[test]
fn every_command_reads_rows_as_python_and_windows_write_them() {
    let place = Workplace::new(true);
    let turns =
        |n: usize| json!([{"role": "user", "content": format!("Say {n}.")}, {"role": "assistant", "content": "ok"}]);
    let chats: Vec<Value> = (0..4).map(|n| json!({"messages": turns(n)})).collect();
    for data in dressed(&place, "chats", &chats) {
        place.run(&format!("generate model --prompts {data} --max-new-tokens 2 -o answers-{data}l"));
        assert_eq!(place.read_lines(&format!("answers-{data}l")).len(), 4, "{data}");
        let report = place.json(&format!("heal model --data {data} --batch 2 --warmup 1 -o healed-{data} --json"));
        assert_eq!(report["examples"]["used"], 4, "{data}");
        assert_eq!(place.json(&format!("diagnose {data} --json"))["degeneration"]["responses"], 4, "{data}");
        let asked = place.json(&format!("diagnose model --prompts {data} --max-new-tokens 2 --json"));
        assert_eq!(asked["uncut"]["diagnosis"]["degeneration"]["responses"], 4, "{data}");
    }
    let sums: Vec<Value> = (1..8)
        .map(|n| json!({"context": format!("Q: {n} plus 1?\nA:"), "completion": format!(" {}", n + 1)}))
        .collect();
    for rows in dressed(&place, "sums", &sums) {
        let found = place.json(&format!("diagnose model --arithmetic {rows} --max-new-tokens 2 --limit 4 --json"));
        assert_eq!(found["uncut"]["diagnosis"]["arithmetic"]["accuracy"]["n"], 4, "{rows}");
    }
    let graded: Vec<Value> =
        (0..3).map(|n| json!({"task": "t", "id": n.to_string(), "response": "4", "correct": n > 0})).collect();
    for samples in dressed(&place, "graded", &graded) {
        let found = place.json(&format!("diagnose {samples} --base {samples} --json"));
        assert_eq!(found["diagnosis"]["ledger"]["compared"], 3, "{samples}");
    }
}

/// Rows of the task `stamps`.
fn stamps() -> Vec<Value> {
    let labels = ["A", "B", "C", "D"];
    let row = |n: usize| {
        let choices = json!({"text": ["Ann", "Ben", "Eva", "Kim"], "label": labels});
        json!({"question": format!("Who has {n} stamps?"), "choices": choices, "key": (labels[n % 4]), "number": n})
    };
    (0..8).map(row).collect()
}

#[test]
fn tasks_and_what_goes_with_them_read_the_same_files() {
    let place = Workplace::new(true);
    let [rows, array] = dressed(&place, "rows", &stamps());
    let task = |file: &str| {
        let files = format!("files = {{ test = \"{file}\" }}\n");
        STAMPS.replace("data_set = \"own/stamps\"\n", &files)
    };
    let parquet = fixture("tasks/rows.parquet");
    let mut scores = vec![];
    for file in [rows.as_str(), array.as_str(), parquet.to_str().unwrap()] {
        place.write("stamps.toml", &task(file));
        scores.push(place.json("eval model --tasks ./stamps.toml --samples-out samples.jsonl --force --json"));
    }
    let metrics: Vec<&Value> = scores.iter().map(|score| &score["tasks"]["stamps"]["metrics"]).collect();
    assert!(metrics.iter().all(|one| *one == metrics[0]), "{metrics:?}");
    assert_eq!(scores[0]["tasks"]["stamps"]["n"], 8);

    let message = |file: &str| place.fault(&format!("eval model --tasks ./stamps.toml --disjoint-from {file}"));
    for samples in dressed(&place, "samples", &place.read_lines("samples.jsonl")) {
        assert!(message(&samples).contains("8 of 8 items of stamps"), "{samples}");
    }
    let asked = |n: usize| format!("Who has {n} stamps?");
    for data in dressed(
        &place,
        "healed",
        &[
            json!({"conversations": [{"from": "human", "value": asked(1)}, {"from": "gpt", "value": "Ben"}]}),
            json!({"question": asked(2), "answer": "Eva"}),
            json!({"prompt": [{"role": "user", "content": asked(3)}], "completion": "Kim"}),
        ],
    ) {
        assert!(message(&data).contains("3 of 8 items of stamps"), "{data}");
    }
    place.write("csv.csv", "\u{feff}prompt,completion\r\nWho has 4 stamps?,Ann\r\n");
    assert!(message("csv.csv").contains("1 of 8 items of stamps"));
    assert!(message(parquet.to_str().unwrap()).contains("8 of 8 items of stamps"));
    // Files whose rows are no items share none.
    for case in ["python_nan.jsonl", "bom_crlf.jsonl"] {
        let file = fixture("cases/rows").join(case);
        place.run(&["eval", "model", "--tasks", "./stamps.toml", "--disjoint-from", file.to_str().unwrap()]);
    }
    place.write("broken.jsonl", "{\"id\": \"x\"}\n{\"id\":\n");
    assert!(message("broken.jsonl").contains("row 2: the line is not JSON"));
}

#[test]
fn a_task_of_files_alone_names_no_data_set() {
    let place = Workplace::new(true);
    place.write("rows.jsonl", &lines(&stamps()));
    let of_files = |files: &str| STAMPS.replace("data_set = \"own/stamps\"\n", files);
    place.write("stamps.toml", &of_files("files = { test = \"rows.jsonl\", train = \"rows.jsonl\" }\n"));
    let found = place.json("eval model --tasks ./stamps.toml --shots 1 --lm-eval-out out --json");
    assert_eq!(found["tasks"]["stamps"]["n"], 8);
    for files in ["", "files = { other = \"rows.jsonl\" }\n"] {
        place.write("stamps.toml", &of_files(files));
        let message = place.fault("eval model --tasks ./stamps.toml");
        assert!(message.contains("rows come from `rows.data_set`, or from `rows.files`"), "{message}");
    }
}

#[test]
fn given_responses_are_graded_from_every_kind_of_file() {
    let place = Workplace::new(true);
    place.write("rows.jsonl", &lines(&stamps()));
    let task = STAMPS.replace("data_set = \"own/stamps\"\n", "files = { test = \"rows.jsonl\" }\n");
    let head = task.split("[choices]").next().unwrap().replace("classification", "generative");
    let answer = "[generate]\nmax_new_tokens = 4\n[answer]\ncheck = \"text\"\ntarget = \"{{ key }}\"\n\
                  [[answer.readings]]\nmetric = \"exact_match\"\npattern = \"[A-D]\"\n";
    place.write("stamps.toml", &(head + answer));
    let given: Vec<Value> =
        (0..8).map(|n| json!({"task": "stamps", "doc_id": n, "response": (["A", "B"][n % 2])})).collect();
    let mut files = dressed(&place, "given", &given).to_vec();
    let csv: String = (0..8).map(|n| format!("stamps,{n},{}\r\n", ["A", "B"][n % 2])).collect();
    place.write("given.csv", &format!("\u{feff}task,doc_id,response\r\n{csv}"));
    files.push("given.csv".to_owned());
    for file in &files {
        let found = place.json(&format!("eval model --tasks ./stamps.toml --responses-from {file} --json"));
        assert_eq!(found["tasks"]["stamps"]["metrics"]["exact_match"]["value"], 0.5, "{file}: {found}");
    }
    let wrong = place.fault("eval model --tasks ./stamps.toml --responses-from rows.jsonl");
    assert!(wrong.contains("row 1: no number in `doc_id`"), "{wrong}");
}
