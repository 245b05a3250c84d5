//! `lopper diagnose` on tasks over rows: files of one's own, with rows made up here, and programs that are really run.

mod common;

use common::Workplace;
use lopper_testkit::tasks::{SUMS, lines};
use serde_json::{Value, json};

/// Word problems in the form of GSM8K.
const SHOP: &str = r#"
name = "shop"
version = 1
group = "generative"
description = "what it costs"
chance = 0.0

[rows]
data_set = "own/shop"
splits = ["test"]
files = { test = "shop.jsonl" }
columns = { question = "text", answer = "text" }
identity = ["question"]

[prompt]
question = "Question: {{question}}\nAnswer:"

[generate]
max_new_tokens = 12
until = ["Question:"]

[answer]
check = "text"
target = "{{answer}}"

[[answer.readings]]
metric = "exact_match"
pattern = '#### (\-?[0-9\.\,]+)'

[answer.ignore]
regexes_to_ignore = ['(?s).*#### ']
"#;

/// A program of each class of arXiv 2602.01997 for a function `add`, the class as samples name it, and the ledger's
/// cause.
const PROGRAMS: [(&str, &str, &str); 11] = [
    ("def add(n):\n    return n + 1", "passed", ""),
    ("def add(n):\n    return n", "assertion", "other"),
    ("def add(n:\n    return n + 1", "bracket_or_literal", "bracket_or_syntax"),
    ("def add(n):\n    return (n + 1]", "bracket_or_literal", "bracket_or_syntax"),
    ("def add(n):\n    return n + len('a)", "bracket_or_literal", "bracket_or_syntax"),
    ("def add(n)\n    return n + 1", "other_syntax", "bracket_or_syntax"),
    ("def add(n):\nreturn n + 1", "other_syntax", "bracket_or_syntax"),
    ("def add(n):\n    return m + 1", "name_not_defined", "other"),
    ("def plus(n):\n    return n + 1", "name_not_defined", "other"),
    ("def add(n):\n    return add(n) + 1", "timeout", "other"),
    ("def add(n):\n    return n + '1'", "other", "other"),
];

/// A place with both tasks and `rows` rows of each.
fn place(rows: usize) -> Workplace {
    let place = Workplace::new(true);
    place.write("sums.toml", &SUMS.replace("version = 1", "version = 4"));
    place.write("shop.toml", SHOP);
    let sum = |n| json!({"prompt": format!("Add one to {n}."), "tests": format!("assert add({n}) == {n} + 1")});
    let bill = |n| {
        let worked = format!("{n} * 2 = {}. {} + 1 = {}.\n#### {}", 2 * n, 2 * n, 2 * n + 1, 2 * n + 1);
        json!({"question": format!("{n} pens at 2 and a bag at 1?"), "answer": worked})
    };
    place.write("sums.jsonl", &lines(&(1..=rows).map(sum).collect::<Vec<_>>()));
    place.write("shop.jsonl", &lines(&(1..=rows).map(bill).collect::<Vec<_>>()));
    place
}

/// Grades responses to a task's rows into `out`; false, with a word about it, where this machine runs no programs.
fn grade(place: &Workplace, task: &str, responses: &[String], out: &str) -> bool {
    let given: Vec<Value> =
        responses.iter().enumerate().map(|(at, text)| json!({"task": task, "doc_id": at, "response": text})).collect();
    place.write("given.jsonl", &lines(&given));
    let allowed = if task == "sums" { "--allow-code-execution" } else { "" };
    let command =
        format!("eval model --tasks ./{task}.toml --responses-from given.jsonl --samples-out {out} {allowed}");
    place.run_programs(&command).is_some()
}

#[test]
fn every_class_of_a_programs_end_is_counted_and_told_in_the_ledger() {
    let place = place(PROGRAMS.len());
    let right = vec![PROGRAMS[0].0.to_owned(); PROGRAMS.len()];
    let given: Vec<String> = PROGRAMS.iter().map(|(program, ..)| format!("```python\n{program}\n```")).collect();
    if !grade(&place, "sums", &right, "uncut.jsonl") || !grade(&place, "sums", &given, "cut.jsonl") {
        return;
    }
    let classes: Vec<Value> = place.read_lines("cut.jsonl").iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(classes, PROGRAMS.map(|(_, class, _)| json!(class)));
    let found = place.json("diagnose cut.jsonl --base uncut.jsonl --ledger-out ledger.jsonl --json");
    let programs = json!({"passed": 1, "assertion_error": 1, "bracket_syntax": 3, "other_syntax": 2,
        "name_not_defined": 2, "timeout_or_recursion": 1, "other": 1});
    assert_eq!(found["diagnosis"]["programs"], programs);
    // The file alone tells as much.
    assert_eq!(place.json(&["diagnose", "cut.jsonl", "--json"])["programs"], programs);
    let ledger = &found["diagnosis"]["ledger"];
    assert_eq!((&ledger["compared"], &ledger["lost"]), (&json!(11), &json!(10)));
    assert_eq!(ledger["causes"], json!({"bracket_or_syntax": 5, "other": 5}));
    let entries = place.read_lines("ledger.jsonl");
    assert_eq!(entries.len(), 10);
    for entry in entries {
        let (_, class, cause) = PROGRAMS[entry["doc_id"].as_u64().unwrap() as usize];
        assert_eq!(
            (entry["cause"].as_str().unwrap(), entry["detail"].as_str().unwrap()),
            (cause, class.replace('_', " ").as_str())
        );
    }
    // The first three lines of the cut model's file, beside the whole of the other.
    let three = place.json(&["diagnose", "cut.jsonl", "--base", "uncut.jsonl", "--limit", "3", "--json"]);
    assert_eq!(
        (&three["degeneration"]["responses"], &three["diagnosis"]["ledger"]["compared"]),
        (&json!(3), &json!(3))
    );
}

#[test]
fn worked_answers_over_rows_have_causes() {
    let place = place(6);
    let right = |n: usize| format!(" {n} * 2 = {}. {} + 1 = {}.\n#### {}", 2 * n, 2 * n, 2 * n + 1, 2 * n + 1);
    assert!(grade(&place, "shop", &(1..=6).map(right).collect::<Vec<_>>(), "uncut.jsonl"));
    let cut = [
        right(1),
        " 2 * 2 = 5. 5 + 1 = 7.\n#### 7".into(),
        " 3 * 2 = 6.\n#### 6".into(),
        " I do not know.".into(),
        " and a pen and a bag".repeat(12),
        " 6 + 2 = 8. 8 + 1 = 9.\n#### 9 Question: 1 + 1 = 3".into(),
    ];
    assert!(grade(&place, "shop", &cut, "cut.jsonl"));
    let found = place.json(&["diagnose", "cut.jsonl", "--base", "uncut.jsonl", "--json"]);
    let ledger = &found["diagnosis"]["ledger"];
    assert_eq!(
        ledger["causes"],
        json!({"arithmetic_slip": 1, "dropped_step": 1, "no_answer": 1, "loop": 1, "other": 1}),
        "{ledger}"
    );
    // Of two false equations the first is shown.
    let slip = found["ledger"].as_array().unwrap().iter().find(|entry| entry["cause"] == "arithmetic_slip").unwrap();
    assert_eq!((&slip["detail"], &slip["doc_id"]), (&json!("2 * 2 = 5 (is 4)"), &json!(1)));
    assert!(found["diagnosis"].get("programs").is_none());
    // The other direction.
    let gained = place.json(&["diagnose", "uncut.jsonl", "--base", "cut.jsonl", "--json"]);
    assert_eq!(
        (&gained["diagnosis"]["ledger"]["lost"], &gained["diagnosis"]["ledger"]["gained"]),
        (&json!(0), &json!(5))
    );
}

#[test]
fn a_sweep_runs_the_programs_of_every_removal() {
    let place = place(40);
    let tasks = "./sums.toml,pocket_code,./shop.toml,pocket_kind";
    let command = format!("diagnose model --tasks {tasks} --sweep --drop 1 --limit 4 --out out");
    assert!(place.fault(&command).contains("--allow-code-execution"));
    let command = format!("{command} --allow-code-execution --max-new-tokens 6 --json");
    let Some(printed) = place.run_programs(&command) else { return };
    let found = printed.json();
    let rows: Vec<&Value> = found["sweep"].as_array().unwrap().iter().collect();
    assert_eq!(rows.len(), 5);
    let total = |programs: &Value| programs.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
    for row in rows.into_iter().chain([&found["uncut"], &found["cut"]]) {
        let diagnosis = &row["diagnosis"];
        assert_eq!(total(&diagnosis["programs"]), 8, "{diagnosis}");
        for task in ["sums", "pocket_code"] {
            assert_eq!(total(&diagnosis["programs_by_task"][task]), 4, "{diagnosis}");
        }
        assert_eq!(diagnosis["degeneration"]["responses"], 12);
        assert_eq!(row["tasks"].as_array().unwrap().len(), 4);
    }
    // Tasks of one's own have their place in the record as those that come with lopper.
    let record = place.read_json("out/study.json");
    let metas = record["tasks"].as_array().unwrap();
    let names: Vec<&str> = metas.iter().map(|task| task["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["sums", "pocket_code", "shop", "pocket_kind"]);
    let expected = json!({"name": "sums", "group": "generative", "description": "functions that add",
        "metric": "pass@1", "version": "4", "n_report": 4, "n_select": 0, "chance": null});
    assert_eq!(metas[0], expected);
    assert_eq!(metas[2]["metric"], "exact_match");
    assert_eq!(record["splits"].as_array().unwrap().len(), 2, "of generated items, and of rows");
    let command = record["command"].as_str().unwrap();
    assert!(command.contains("--max-new-tokens 6") && command.contains(tasks), "{command}");
    let report = place.read("out/report.html");
    for task in ["sums", "pocket_code"] {
        assert!(report.contains(&format!("How programs of {task} ended, by removed layer")), "{task}");
    }

    // A person reads the shares of each task.
    let run = |command: &str| place.run(&format!("{command} --allow-code-execution --max-new-tokens 6"));
    let table = run("diagnose model --tasks ./sums.toml,pocket_code --sweep --limit 2").out;
    assert!(table.contains("how programs of sums ended, %\nwithout  passed  assertion error"), "{table}");

    // `ablate` tells them as well.
    let ablated = run("ablate model --tasks ./sums.toml,./shop.toml --limit 3 --json").json();
    for candidate in ablated["removals"].as_array().unwrap().iter().chain([&ablated["base"]]) {
        assert_eq!(total(&candidate["tasks"]["sums"]["programs"]), 3);
        assert!(candidate["tasks"]["shop"].get("programs").is_none());
    }
}

/// fixtures/diagnostics/make_lm_eval.py: the harness's own tasks and writer, rows and responses made up.
#[test]
fn samples_as_lm_evaluation_harness_writes_them() {
    let place = Workplace::new(false);
    let of = |name: &str| format!("{}/../../fixtures/diagnostics/lm_eval_{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let found = place.json(&["diagnose", &of("gsm8k_cut"), "--base", &of("gsm8k_uncut"), "--json"]);
    // Each response is there once for each of two filters.
    assert_eq!((&found["degeneration"]["responses"], &found["without_text"]), (&json!(4), &json!(4)));
    let ledger = &found["diagnosis"]["ledger"];
    assert_eq!((&ledger["compared"], &ledger["lost"], &ledger["gained"]), (&json!(4), &json!(3), &json!(0)));
    assert_eq!(ledger["causes"], json!({"arithmetic_slip": 1, "no_answer": 1, "dropped_step": 1}));
    let entries = found["ledger"].as_array().unwrap();
    let slip = entries.iter().find(|entry| entry["cause"] == "arithmetic_slip").unwrap();
    assert_eq!((&slip["detail"], &slip["doc_id"]), (&json!("2 * 3 = 7 (is 6)"), &json!(0)));
    assert!(slip["prompt"].as_str().unwrap().starts_with("Question: Ann buys 2 pens"), "{slip}");
    assert_eq!(found["steps"]["slips"][0]["equation"], "2 * 3 = 7");

    // Programs have a verdict and no class.
    let found = place.json(&["diagnose", &of("mbpp_cut"), "--base", &of("mbpp_uncut"), "--json"]);
    assert_eq!(found["diagnosis"]["ledger"]["causes"], json!({"other": 1}));
    assert!(place.fault(&["diagnose", &of("arc_easy_uncut")]).contains("multiple-choice"));
    let line = "{\"task\":\"other\",\"doc_id\":0,\"response\":\"x\",\"correct\":true}\n";
    place.write("other.jsonl", line);
    let message = place.fault(&["diagnose", "other.jsonl", "--base", &of("gsm8k_uncut")]);
    assert!(message.contains("no item in common"), "{message}");
}

#[test]
fn how_tasks_are_asked_says_nothing_of_a_file() {
    let place = Workplace::new(false);
    place.write("r.jsonl", "{\"text\":\"one two\"}\n");
    for arguments in [&["--shots", "2"][..], &["--data-root", "."], &["--system", "x"], &["--allow-code-execution"]] {
        let message = place.fault(&[&["diagnose", "r.jsonl"], arguments].concat());
        assert!(message.contains(arguments[0]) && message.contains("a MODEL"), "{message}");
    }
}
