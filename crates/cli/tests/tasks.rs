//! Tasks over rows: a file of one's own, bad rows, divisions, worked examples, given responses, programs,
//! the harness's layout. On a tiny random model that speaks the pocket tokenizer.

mod common;

use std::path::{Path, PathBuf};

use common::Workplace;
use lopper_testkit::tasks::{STAMPS, SUMS, lines};
use serde_json::{Value, json};

fn row(n: usize) -> Value {
    let names = ["Ann", "Ben", "Eva", "Kim"];
    let key = ["A", "B", "C", "D"][n % 4];
    json!({"question": format!("Who has {n} stamps?"), "choices": {"text": names, "label": ["A", "B", "C", "D"]},
           "key": key, "number": n})
}

/// A place with the task's file and a data root.
fn place(rows: &[Value]) -> Workplace {
    let place = Workplace::new(true);
    place.write("stamps.toml", STAMPS);
    std::fs::create_dir_all(place.path("data/own/stamps/default")).unwrap();
    place.write("data/own/stamps/default/test.jsonl", &lines(rows));
    place
}

const EVAL: [&str; 6] = ["eval", "model", "--tasks", "./stamps.toml", "--data-root", "data"];

fn with<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [&EVAL[..], rest].concat()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tasks").join(name)
}

#[test]
fn bad_rows_are_named_and_the_others_asked() {
    let rows = [
        row(0),
        json!({"question": "Who?", "key": "A", "number": 1}),
        json!({"question": 7, "choices": row(0)["choices"], "key": "A", "number": 1}),
        json!({"question": "Who?", "choices": row(0)["choices"], "key": "E", "number": 1}),
        json!({"question": "Who? ".repeat(400), "choices": row(0)["choices"], "key": "A", "number": 1}),
        json!({"question": "Who?", "choices": {"text": ["Ann", " "], "label": ["A", "B"]}, "key": "A", "number": 1}),
        json!([1]),
        row(7),
    ];
    let place = place(&rows);
    let json = place.json(&with(&["--json", "--samples-out", "s.jsonl"]));
    let task = &json["tasks"]["stamps"];
    assert_eq!((task["n"].as_u64(), task["skipped"].as_u64(), task["version"].as_u64()), (Some(2), Some(6), Some(3)));
    let words = ["`choices` is missing", "`question` should hold text", "not in", "does not fit", "empty", "object"];
    let bad = task["bad_rows"].as_array().unwrap();
    assert_eq!(bad.len(), words.len());
    for (at, (bad, word)) in bad.iter().zip(words).enumerate() {
        assert!(bad["row"] == at + 1 && bad["reason"].as_str().unwrap().contains(word), "{bad}");
    }
    let asked: Vec<Value> = place.read_lines("s.jsonl").iter().map(|line| line["doc_id"].clone()).collect();
    assert_eq!(asked, [0, 7]);
    // The first N rows, bad ones among them.
    assert_eq!(place.json(&with(&["--json", "--limit", "2"]))["tasks"]["stamps"]["n"], 1);
    // A person is told, too.
    let told = place.run(&EVAL).err;
    assert!(told.contains("6 rows left out") && told.contains("row 3:") && told.contains("test.jsonl"), "{told}");
    // Nothing left to ask is a fault.
    place.write("data/own/stamps/default/test.jsonl", &lines(&[json!({"question": 1}), json!(2)]));
    assert!(place.fault(&with(&[])).contains("2 bad rows"));
}

#[test]
fn every_kind_of_file_gives_the_same() {
    let rows: Vec<Value> = (0..8).map(row).collect();
    let place = place(&rows);
    let of_lines = place.json(&with(&["--json"]))["tasks"]["stamps"]["metrics"].clone();
    let split = place.path("data/own/stamps/default");
    std::fs::remove_file(split.join("test.jsonl")).unwrap();
    for name in ["rows.parquet", "rows_zstd.parquet"] {
        std::fs::copy(fixture(name), split.join("test.parquet")).unwrap();
        assert_eq!(place.json(&with(&["--json"]))["tasks"]["stamps"]["metrics"], of_lines, "{name}");
    }
    std::fs::remove_file(split.join("test.parquet")).unwrap();
    // Values in a table are text; columns say what they hold. The other split stands in.
    let mut table = String::from("question,choices,key,number\n");
    for row in &rows {
        let choices = row["choices"].to_string().replace('"', "\"\"");
        table.push_str(&format!("{},\"{choices}\",{},{}\n", row["question"], row["key"], row["number"]));
    }
    std::fs::write(split.join("validation.csv"), table).unwrap();
    let json = place.json(&with(&["--json"]));
    assert_eq!(json["tasks"]["stamps"]["metrics"], of_lines);
    assert_eq!(json["tasks"]["stamps"]["source"]["split"], "validation");
}

#[test]
fn worked_examples_and_conversations() {
    let place = place(&(0..6).map(row).collect::<Vec<_>>());
    place.write("data/own/stamps/default/train.jsonl", &lines(&(100..140).map(row).collect::<Vec<_>>()));
    let prompt = |rest: &[&str]| {
        place.json(&with(&[&["--json", "--force", "--samples-out", "s.jsonl"], rest].concat()));
        place.read_lines("s.jsonl")
    };
    let two = prompt(&["--shots", "2"]);
    // Drawn by Python: fixtures/tasks/make_random.py.
    let expected = |a: usize, b: usize, n: usize| {
        let name = |n: usize| ["Ann", "Ben", "Eva", "Kim"][n % 4];
        format!(
            "Question: Who has {a} stamps?\nAnswer: {}\n\nQuestion: Who has {b} stamps?\nAnswer: {}\n\nQuestion: Who has {n} stamps?\nAnswer:",
            name(a),
            name(b)
        )
    };
    let drawn: Vec<(usize, usize)> = serde_json::from_str(include_str!("../../../fixtures/tasks/shots.json")).unwrap();
    for (n, (a, b)) in drawn.iter().enumerate() {
        assert_eq!(two[n]["prompt"], expected(100 + a, 100 + b, n), "{n}");
    }
    // Rows asked alone get the same examples.
    let limited = prompt(&["--shots", "2", "--limit", "3"]);
    assert_eq!(limited[2]["prompt"], two[2]["prompt"]);
    let chat = prompt(&["--shots", "1", "--apply-chat-template", "--system", "Be brief."]);
    let text = chat[0]["prompt"].as_str().unwrap();
    assert!(text.contains("Be brief.") && text.matches("Question:").count() == 2 && !text.contains("\n\n"), "{text}");
    assert!(place.fault(&with(&["--shots", "41"])).contains("too few rows"));
}

#[test]
fn a_task_sets_variables_of_the_chat_template() {
    let place = place(&[row(1)]);
    let template = place.read("model/chat_template.jinja");
    place.write("model/chat_template.jinja", &format!("{{{{ mood | default('no') }}}} mood {template}"));
    let task = |variables: &str| {
        place.write("stamps.toml", &STAMPS.replace("[choices]", &format!("variables = {variables}\n\n[choices]")));
    };
    let begins = |rest: &[&str], expected: &str| {
        place.json(&with(&[&["--json", "--force", "--samples-out", "s.jsonl"], rest].concat()));
        let lines = place.read_lines("s.jsonl");
        let prompt = lines[0]["prompt"].as_str().unwrap();
        assert!(prompt.starts_with(expected), "{prompt}");
    };
    task("{ mood = \"task\" }");
    begins(&["--apply-chat-template"], "task mood<|bos|>");
    begins(&["--apply-chat-template", "--template-var", "mood=\"run\""], "run mood<|bos|>");
    begins(&["--apply-chat-template", "--template-var", "other=1"], "task mood<|bos|>");
    begins(&[], "Question: ");
    task("{ messages = [] }");
    assert!(place.fault(&with(&["--apply-chat-template"])).contains("`messages` is set by the renderer"));
}

#[test]
fn divisions_share_nothing_and_sharing_is_refused() {
    let place = place(&(0..60).map(row).collect::<Vec<_>>());
    let ids = |split: &str| {
        place.json(&with(&["--json", "--split", split, "--samples-out", &format!("{split}.jsonl")]));
        place.read_lines(&format!("{split}.jsonl"))
    };
    let (select, report) = (ids("select"), ids("report"));
    assert_eq!(select.len() + report.len(), 60);
    assert!(select.len() > 5 && report.len() > 30, "{} and {}", select.len(), report.len());
    assert!(select.iter().all(|line| report.iter().all(|other| other["id"] != line["id"])));
    place.json(&with(&["--json", "--split", "report", "--disjoint-from", "select.jsonl"]));
    // Of all rows it is said how many are for choosing layers; of the first N rows, too.
    for (limit, rest) in [(60, &[][..]), (25, &["--limit", "25"][..])] {
        let among = place.json(&with(&[&["--json"], rest].concat()))["tasks"]["stamps"].clone();
        let expected = select.iter().filter(|line| line["doc_id"].as_u64().unwrap() < limit).count();
        assert_eq!((among["n"].as_u64(), among["selection_items"].as_u64()), (Some(limit), Some(expected as u64)));
        let said = place.run(&with(rest)).err;
        assert!(said.contains(&format!("{expected} of {limit} items are selection items")), "{said}");
    }
    for (split, n) in [("report", 0), ("select", select.len())] {
        let of_split = with(&["--split", split]);
        assert_eq!(place.json(&[&of_split[..], &["--json"]].concat())["tasks"]["stamps"]["selection_items"], n);
        assert!(!place.run(&of_split).err.contains("selection items"));
    }
    let refused = place.fault(&with(&["--disjoint-from", "select.jsonl"]));
    assert!(refused.contains(&format!("{} of 60 items of stamps", select.len())), "{refused}");
    // What a model was healed by counts, too.
    let healed = json!({"messages": [{"role": "user", "content": " Who has 7  stamps? "}, {"role": "assistant", "content": "Kim"}]});
    place.write("healed.jsonl", &lines(&[healed, json!({"instruction": "Who is it?"})]));
    assert!(place.fault(&with(&["--disjoint-from", "healed.jsonl"])).contains("1 of 60 items of stamps"));
}

#[test]
fn a_cut_model_is_compared_with_the_whole_one() {
    let place = place(&(0..40).map(row).collect::<Vec<_>>());
    let json = place.json(&with(&["--json", "--drop", "1,3", "--compare"]));
    let compared = &json["comparison"]["tasks"][0];
    let whole = place.json(&with(&["--json"]));
    assert_eq!(compared["base"], whole["tasks"]["stamps"]["metrics"]["acc"]["value"]);
    assert_eq!(compared["cut"], json["tasks"]["stamps"]["metrics"]["acc"]["value"]);
    assert!(compared["p_value"].as_f64().unwrap() <= 1.0 && compared["difference_ci95"].is_array());
    assert_eq!((compared["n"].as_u64(), compared["power"]["enough"].as_bool()), (Some(40), Some(false)));
    let group = &json["comparison"]["groups"][0];
    assert_eq!((group["group"].as_str(), &group["tasks"]), (Some("classification"), &json!(["stamps"])));
    assert_eq!((&group["p_value"], &group["base"]["value"]), (&compared["p_value"], &compared["base"]));
    let text = place.run(&with(&["--drop", "1", "--compare"])).out;
    assert!(text.contains("\nclassification\n  stamps  "), "{text}");
    assert!(text.contains("retention") && text.contains("n = 40 cannot tell 5 points apart"), "{text}");
    place.fault(&with(&["--compare"]));
}

#[test]
fn results_have_the_layout_of_lm_evaluation_harness() {
    let place = place(&(0..3).map(row).collect::<Vec<_>>());
    place.json(&with(&["--json", "--lm-eval-out", "out"]));
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(place.path("out/model")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let [results, lines] = &names[..] else { panic!("{names:?}") };
    let results = place.read_json(results.to_str().unwrap());
    for key in "results group_subtasks configs versions n-shot higher_is_better n-samples config".split(' ') {
        assert!(results[key].is_object(), "{key}");
    }
    let scores = &results["results"]["stamps"];
    assert!(scores["acc,none"].is_number() && scores["acc_norm_stderr,none"].is_number());
    assert!(lines.file_name().unwrap().to_str().unwrap().starts_with("samples_stamps_"));
    let line = &place.read_lines(lines.to_str().unwrap())[0];
    let keys =
        "doc_id doc target arguments resps filtered_resps filter metrics doc_hash prompt_hash target_hash acc acc_norm";
    for key in keys.split(' ') {
        assert!(!line[key].is_null(), "{key}");
    }
    assert_eq!(line["arguments"]["gen_args_3"]["arg_1"], " Kim");
    assert_eq!(line["resps"].as_array().unwrap().len(), 4);
    assert_eq!(line["doc"]["question"], "Who has 0 stamps?");
}

#[test]
fn programs_run_only_when_allowed() {
    let place = Workplace::new(true);
    place.write("sums.toml", SUMS);
    let tests = |n: usize| format!("assert add({n}) == {n} + 1");
    let rows: Vec<Value> = (0..4).map(|n| json!({"prompt": format!("Add one, {n}."), "tests": tests(n)})).collect();
    place.write("sums.jsonl", &lines(&rows));
    let refused = place.fault(&["eval", "model", "--tasks", "sums.toml"]);
    assert!(refused.contains("--allow-code-execution"), "{refused}");
    let responses = [
        "```python\ndef add(n):\n    return n + 1\n```",
        "def add(n):\n    return n",
        "def add(n:\n    return n + 1",
        "def plus(n):\n    return n + 1",
    ];
    let given: Vec<Value> = responses
        .iter()
        .enumerate()
        .map(|(at, text)| json!({"task": "sums", "doc_id": at, "response": text}))
        .collect();
    place.write("given.jsonl", &lines(&given));
    let command = "eval model --tasks ./sums.toml --responses-from given.jsonl --allow-code-execution";
    let Some(printed) = place.run_programs(&format!("{command} --json --samples-out s.jsonl")) else { return };
    assert!(printed.err.contains("not covered:"), "{}", printed.err);
    assert_eq!(printed.json()["tasks"]["sums"]["metrics"]["pass@1"]["value"], 0.25);
    let outcomes: Vec<Value> = place.read_lines("s.jsonl").iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes, ["passed", "assertion", "bracket_or_literal", "name_not_defined"]);
    // A row without a response is named.
    place.write("given.jsonl", &given[0].to_string());
    assert!(place.fault(command).contains("row 1 of sums"));
}

#[test]
fn several_responses_give_pass_at_k() {
    let place = Workplace::new(true);
    place.write("sums.toml", &SUMS.replace("check = \"program\"", "check = \"math\""));
    place.write(
        "sums.jsonl",
        &lines(&[json!({"prompt": "1 + 1 =", "tests": "2"}), json!({"prompt": "2 =", "tests": "2"})]),
    );
    let command = "eval model --tasks ./sums.toml --temperature 0.9 --top-k 50 --responses 4 --json \
        --samples-out s.jsonl --force";
    let json = place.json(command);
    let metrics = json["tasks"]["sums"]["metrics"].as_object().unwrap();
    assert!(
        ["exact_match", "flexible_match", "pass@1", "pass@2", "pass@4"].iter().all(|name| metrics.contains_key(*name))
    );
    let first = place.read_lines("s.jsonl");
    assert_eq!(first[0]["responses"].as_array().unwrap().len(), 4);
    let texts = |lines: &[Value]| {
        lines[0]["responses"].as_array().unwrap().iter().map(|r| r["response"].clone()).collect::<Vec<_>>()
    };
    place.json(command);
    assert_eq!(texts(&first), texts(&place.read_lines("s.jsonl")));
    assert!(texts(&first).iter().any(|text| *text != first[0]["responses"][0]["response"]));
}

#[test]
fn tasks_are_listed_and_shown() {
    let place = Workplace::new(false);
    place.write("own.toml", STAMPS);
    let all = place.json(&["tasks", "--json"]);
    let names: Vec<&str> = all.as_array().unwrap().iter().map(|task| task["name"].as_str().unwrap()).collect();
    assert!(["pocket_word", "mmlu_anatomy", "gsm8k", "xsum"].iter().all(|name| names.contains(name)));
    let shown = |name: &str| place.run(&format!("tasks show {name}")).out;
    assert!(shown("winogrande").contains("contexts = true") && shown("mmlu").contains("[members]"));
    assert!(shown("own.toml").contains("who has the stamps") && shown("ai2_arc").contains("arc_challenge"));
    // What is shown can be saved and used.
    place.write("again.toml", &shown("boolq"));
    assert_eq!(shown("again.toml"), shown("boolq"));
    insta::assert_snapshot!("no_such_task", place.fault(&["tasks", "show", "gsm8"]));
    place.write("wrong.toml", &STAMPS.replace("version = 3", "version = 3\ncolour = 1"));
    assert!(place.fault(&["tasks", "show", "./wrong.toml"]).contains("colour"));
}
