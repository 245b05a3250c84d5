//! What the commands print and write, on a tiny random model.

mod common;

use common::{Printed, Workplace};
use serde_json::{Value, json};

const IDS: &str = "[[1, 20, 300, 40, 41, 42], [7, 8, 9], [500]]";

fn numbers(value: &Value) -> Vec<Option<f64>> {
    value.as_array().unwrap().iter().map(Value::as_f64).collect()
}

/// Asserts that two lists of numbers differ by rounding only, and have the same gaps.
fn assert_close(a: &Value, b: &Value) {
    let (a, b) = (numbers(a), numbers(b));
    assert_eq!(a.len(), b.len());
    for (a, b) in a.into_iter().zip(b) {
        assert!(a.is_some() == b.is_some() && (a.unwrap_or(0.0) - b.unwrap_or(0.0)).abs() < 1e-5, "{a:?} and {b:?}");
    }
}

#[test]
fn inspect_tells_sizes_and_savings() {
    let place = Workplace::new(true);
    insta::assert_snapshot!("inspect", place.run("inspect model").out);
    let json = place.json(&["inspect", "model", "--hash", "--json"]);
    // Query and output 2·24·32, keys and values 2·24·16, MLP 3·24·40, norms 2·24 + 2·8.
    assert_eq!(json["parameters"]["per_layer"]["total"], 2 * 24 * 32 + 2 * 24 * 16 + 3 * 24 * 40 + 2 * 24 + 2 * 8);
    assert_eq!(json["bytes"]["kv_per_token"], 5 * 2 * 16 * 4);
    assert_eq!(json["bytes"]["kv_at_context"], 256 * 5 * 2 * 16 * 4);
    assert_eq!(json["layer_kinds"], json!([{"layers": [0, 1, 2, 3, 4], "rope_theta": 10000.0}]));
    assert_eq!(json["memory"].as_array().unwrap().len(), 7);
    assert_eq!(json["cuts"].as_array().unwrap().len(), 4);
    assert_eq!(json["cuts"][0]["speed_up_long_text"], 1.25);
    let total = json["parameters"]["total"].as_u64().unwrap();
    assert_eq!(json["bytes"]["checkpoint"].as_u64().unwrap(), 4 * total);
    assert_eq!(json["hash"].as_str().unwrap().len(), 64);
}

#[test]
fn logprobs_follow_the_contract() {
    let place = Workplace::new(false);
    place.write("ids.json", IDS);
    let json = place.json(&["logprobs", "model", "--tokens", "ids.json", "--json"]);
    let sequences = json["sequences"].as_array().unwrap();
    assert_eq!(sequences.len(), 3);
    let mut sum = 0.0;
    let mut predicted = 0.0;
    for sequence in sequences {
        let logprobs = numbers(&sequence["logprobs"]);
        assert_eq!(logprobs.len(), sequence["tokens"].as_array().unwrap().len());
        assert_eq!(logprobs[0], None);
        for value in &logprobs[1..] {
            let value = value.unwrap();
            assert!(value < 0.0);
            sum -= value;
            predicted += 1.0;
        }
    }
    assert!((json["mean_nll"].as_f64().unwrap() - sum / predicted).abs() < 1e-6);
    // The interval is about sequences: none of a single one.
    let perplexity = json["perplexity"].as_f64().unwrap();
    assert!((perplexity - json["mean_nll"].as_f64().unwrap().exp()).abs() < 1e-9 * perplexity);
    assert!(json["perplexity_ci95"][0].as_f64().unwrap() < perplexity);
    assert!(json["perplexity_ci95"][1].as_f64().unwrap() > perplexity);
    place.write("long.json", "[[5,9,2,7,30,4,4,8]]");
    let long = place.run(&["logprobs", "model", "--tokens", "long.json"]).out;
    assert!(long.contains("none of a single sequence"), "{long}");
    let dropped = place.json(&["logprobs", "model", "--tokens", "ids.json", "--drop", "1,3", "--json"]);
    assert!((dropped["mean_nll"].as_f64().unwrap() - sum / predicted).abs() > 1e-3);

    place.write("one.json", "[[5]]");
    let one = place.json(&["logprobs", "model", "--tokens", "one.json", "--json"]);
    assert!(one["mean_nll"].is_null() && one["perplexity"].is_null() && one["perplexity_ci95"].is_null());
}

#[test]
fn a_text_is_one_sequence_with_its_special_tokens() {
    let place = Workplace::new(true);
    let text = place.write("text.txt", "Tom has 12 apples.\nHe buys 3 more.\n");
    let json = place.json(&["logprobs", "model", "--text", "text.txt", "--json"]);
    let sequences = json["sequences"].as_array().unwrap();
    assert_eq!(sequences.len(), 1);
    assert_eq!(sequences[0]["tokens"][0], 1);
    let stdin = place.command("logprobs model --text - --json").pipe_stdin(text).unwrap().assert().success();
    assert_eq!(Printed::of(&stdin).json(), json);
    let windows = place.json(&["logprobs", "model", "--text", "text.txt", "--window", "5", "--json"]);
    assert!(windows["sequences"].as_array().unwrap().len() > 2);
}

#[test]
fn score_follows_the_contract() {
    let place = Workplace::new(false);
    place.write("ids.json", IDS);
    let json = place.json(&["score", "model", "--tokens", "ids.json", "--json"]);
    assert_eq!(numbers(&json["block_influence"]).len(), 5);
    let angular = json["angular"].as_object().unwrap();
    assert_eq!(angular.keys().collect::<Vec<_>>(), ["1", "2", "3", "4", "5"]);
    for (size, distances) in angular {
        let distances = numbers(distances);
        assert_eq!(distances.len(), 6 - size.parse::<usize>().unwrap());
        assert!(distances.iter().all(|d| (0.0..=1.0).contains(&d.unwrap())));
    }
    let table = place.run("score model --tokens ids.json").out;
    // Layers, blocks, the agreement of every two of five criteria, and six criteria's plans.
    assert_eq!(table.lines().count(), (1 + 5) + 1 + (1 + 4) + 1 + (1 + 10) + 1 + (1 + 6), "{table}");
    assert_eq!(numbers(&json["perplexity"]["without"]).len(), 5);
    assert!(table.contains("perplexity, 95 %") && table.contains(" to "), "{table}");
    let perplexity = &json["perplexity"];
    for (layer, interval) in perplexity["rises_ci95"].as_array().unwrap().iter().enumerate() {
        let rise = perplexity["without"][layer].as_f64().unwrap() - perplexity["mean_nll"].as_f64().unwrap();
        let [low, high] = [0, 1].map(|end| interval[end].as_f64().unwrap());
        assert!(low < rise && rise < high, "{layer}: {interval} has no {rise}");
    }
    assert!(perplexity["ci95"][1].as_f64().unwrap() > perplexity["mean_nll"].as_f64().unwrap().exp());
    assert_eq!(json["plans"]["perplexity"]["2"].as_array().unwrap().len(), 2);
    assert_eq!(json["agreement"].as_array().unwrap().len(), 10);
    let gradients = place.json(&["score", "model", "--tokens", "ids.json", "--taylor", "--no-perplexity", "--json"]);
    assert!(gradients["perplexity"].is_null() && numbers(&gradients["taylor"]).iter().all(|sum| sum.unwrap() > 0.0));
    let streamed = place.json(&["score", "model", "--tokens", "ids.json", "--stream", "--memory", "1KB", "--json"]);
    assert_close(&streamed["block_influence"], &json["block_influence"]);
}

#[test]
fn a_pruned_model_is_the_model_without_those_layers() {
    let place = Workplace::new(true);
    place.write("ids.json", IDS);
    for drop in ["1", "0,3-4"] {
        place.run(&format!("prune model --drop {drop} -o out --force"));
        let pruned = place.json("logprobs out --tokens ids.json --json");
        let skipped = place.json(&format!("logprobs model --tokens ids.json --drop {drop} --json"));
        let (pruned, skipped) = (pruned["sequences"].as_array().unwrap(), skipped["sequences"].as_array().unwrap());
        assert_eq!((pruned.len(), skipped.len()), (3, 3));
        for (a, b) in pruned.iter().zip(skipped) {
            assert_eq!(a["tokens"], b["tokens"]);
            assert_close(&a["logprobs"], &b["logprobs"]);
        }
        // What the model needs besides its weights came along.
        assert!(place.path("out/tokenizer.json").exists() && place.path("out/chat_template.jinja").exists());
    }
}

#[test]
fn a_plan_repeats_a_cut_and_criteria_choose_one() {
    let place = Workplace::new(false);
    place.write("ids.json", IDS);
    let cut = |out: &str| place.read_json(&format!("{out}/cut.json"));
    place.run("prune model --criterion bi --remove 2 --tokens ids.json -o a");
    place.run("prune model --plan a/cut.json -o b");
    assert_eq!(cut("a")["kept"], cut("b")["kept"]);
    assert_eq!(cut("a")["criterion"], "bi");
    assert_eq!(
        std::fs::read(place.path("a/model.safetensors")).unwrap(),
        std::fs::read(place.path("b/model.safetensors")).unwrap()
    );
    place.run("prune model --criterion reverse-keep-1 --remove 2 -o c");
    assert_eq!(cut("c")["kept"], json!([0, 1, 4]));
    for out in ["d", "e"] {
        place.run(&format!("prune model --criterion random --remove 2 --seed 5 -o {out}"));
    }
    assert_eq!(cut("d")["kept"], cut("e")["kept"]);
}

#[test]
fn a_cut_of_a_cut_keeps_the_original_numbers() {
    let place = Workplace::new(false);
    place.write("ids.json", IDS);
    place.run("prune model --drop 1 -o a");
    place.run("prune a --drop 3 -o b");
    let nll =
        |model: &str| place.json(&format!("logprobs --tokens ids.json --json {model}"))["mean_nll"].as_f64().unwrap();
    let expected = nll("model --drop 1,3");
    assert!((nll("b") - expected).abs() < 1e-6);
    assert!((nll("a --drop 3") - expected).abs() < 1e-6);
    assert_eq!(place.json(&["inspect", "b", "--json"])["original_layers"], json!([0, 2, 4]));
    // Layer 1 is gone already; what is left would be every layer.
    place.fault(&["logprobs", "a", "--tokens", "ids.json", "--drop", "1"]);
    place.fault(&["logprobs", "b", "--tokens", "ids.json", "--drop", "0,2,4"]);
}

#[test]
fn generate_writes_conversations_that_can_be_repeated() {
    let place = Workplace::new(true);
    place.write("prompts.jsonl", "{\"prompt\":\"Write f(x): double x.\"}\n{\"prompt\":\"Tom has 3 apples.\"}\n");
    let run = |rest: &[&str]| {
        let base = ["generate", "model", "--prompts", "prompts.jsonl", "--max-new-tokens", "12"];
        place.run(&[&base, rest].concat());
    };
    let system = "You are a helpful assistant.";
    run(&["--seed", "3", "-o", "a.jsonl", "--system", system]);
    run(&["--seed", "3", "-o", "b.jsonl", "--system", system]);
    // The tokenizer is the pocket model's, which was taught no system prompt.
    run(&["--seed", "4", "-o", "c.jsonl"]);
    assert_eq!(place.read("a.jsonl"), place.read("b.jsonl"));
    assert_ne!(place.read("a.jsonl"), place.read("c.jsonl"));
    let rows = place.read_lines("a.jsonl");
    assert_eq!(rows.len(), 2);
    let roles: Vec<_> = rows[1]["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!(rows[1]["messages"][1]["content"], "Tom has 3 apples.");
    assert_eq!(place.read_lines("c.jsonl")[0]["messages"].as_array().unwrap().len(), 2);
    assert!(!place.path("a.jsonl.partial").exists());
}

#[test]
fn a_model_answers_prompts_of_its_own() {
    let place = Workplace::new(true);
    let own = "generate model --prompts own --limit 3 --max-new-tokens 6 --seed 5";
    let run = |rest: &str| place.run(&format!("{own} {rest}"));
    let printed = run("-o a.jsonl");
    assert!(printed.err.contains("the model wrote"), "{}", printed.err);
    run("-o b.jsonl --dtype float32");
    assert_eq!(place.read("a.jsonl"), place.read("b.jsonl"));
    let rows = place.read_lines("a.jsonl");
    assert!((1..=3).contains(&rows.len()), "{}", rows.len());
    let first = &rows[0]["messages"][0];
    assert!(first["role"] == "user" && !first["content"].as_str().unwrap().trim().is_empty(), "{first}");
    let refused = place.fault(&format!("{own} -o c.jsonl --column text"));
    assert!(refused.contains("`own`, whose prompts are generated"), "{refused}");
}

#[test]
fn an_unfinished_output_of_another_run_is_in_the_way() {
    let place = Workplace::new(true);
    place.write("x.jsonl.partial", "{\"run\":\"another\"}\n");
    let base = ["generate", "model", "--prompts", "pocket", "--limit", "2", "--max-new-tokens", "8", "-o", "x.jsonl"];
    assert!(place.fault(&base).contains("--force"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_generation_keeps_each_answer_and_continues() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};
    let place = Workplace::new(true);
    let base = "generate model --prompts pocket --max-new-tokens 24 -o".split(' ').collect::<Vec<_>>();
    let limited = |limit, out| [&base[..], &[out, "--limit", limit]].concat();
    // The run that goes on has more prompts.
    let to = |out| limited("4010", out);
    let child = Command::new(assert_cmd::cargo::cargo_bin!("lopper"))
        .current_dir(place.dir.path())
        .args(limited("4000", "x.jsonl"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let lines = || std::fs::read_to_string(place.path("x.jsonl.partial")).map_or(0, |text| text.lines().count());
    while lines() < 3 && begun.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("finished answers are kept in x.jsonl.partial"), "{message}");
    assert!(output.stdout.is_empty() && !place.path("x.jsonl").exists());

    // A finished row is taken as it is: a changed one shows that it was not made again. What was cut short is.
    let mut partial: Vec<Value> = place.read_lines("x.jsonl.partial");
    let finished = partial.len() - 1;
    assert!((2..4000).contains(&finished), "{finished}");
    let fewer = place.fault(&limited("1", "x.jsonl"));
    assert!(fewer.contains("other prompts") && fewer.contains("1 prompts, and a finished answer to number"), "{fewer}");
    let marked = partial[1]["index"].as_u64().unwrap() as usize;
    let last = |row: &Value| row["messages"].as_array().unwrap().len() - 1;
    let answer = last(&partial[1]["row"]);
    partial[1]["row"]["messages"][answer]["content"] = "from before".into();
    let text: String = partial.iter().map(|line| format!("{line}\n")).collect();
    place.write("x.jsonl.partial", &format!("{text}{{\"index\":2,\"row\":{{\"ind"));
    assert!(place.run(&to("x.jsonl")).err.contains(&format!("continuing after {finished} ")));
    assert!(!place.path("x.jsonl.partial").exists());
    place.run(&to("whole.jsonl"));
    let mut whole = place.read_lines("whole.jsonl");
    whole[marked]["messages"][answer]["content"] = "from before".into();
    assert!(place.read_lines("x.jsonl") == whole, "an interrupted run differs from a whole one");
}

#[test]
fn report_rebuilds_the_page() {
    let place = Workplace::new(false);
    std::fs::create_dir(place.path("study")).unwrap();
    place.write("study/study.json", "{\"schema\":1}");
    assert_eq!(place.run("report study").out, "study/report.html\n");
    assert!(place.read("study/report.html").starts_with("<!DOCTYPE html>"));
    let message = place.fault("report study -o x.html");
    assert!(message.contains("one study was given"), "{message}");
    std::fs::write(place.path("study/report/files.json"), "{}").unwrap();
    std::fs::write(place.path("study/report/data"), "").unwrap();
    assert_eq!(place.run("report study").out, "study/report.html\n", "an empty record has no data");
}

#[test]
fn report_compares_studies_in_one_page() {
    let place = Workplace::new(false);
    for (name, seed) in [("a", 0), ("b", 1)] {
        std::fs::create_dir(place.path(name)).unwrap();
        let seeds = serde_json::json!([{"name": "items and bootstrap", "value": seed}]);
        let record = serde_json::json!({"schema": 1, "complete": true, "seeds": seeds});
        place.write(&format!("{name}/study.json"), &record.to_string());
    }
    assert_eq!(place.run("report a b").out, "compare.html\n");
    let page = place.read("compare.html");
    assert!(page.contains("2 studies compared") && page.contains("seed 0 in a; seed 1 in b"), "{page}");
    assert!(place.fault("report a b").contains("--force"), "nothing is overwritten");
    place.run("report a b --force");
    assert_eq!(place.run("report a b a -o three.html").out, "three.html\n");
    assert!(place.read("three.html").contains("3 studies compared"));
    assert!(place.fault("report a nowhere -o x.html").contains("nowhere/study.json"));
    assert!(!place.path("a/report.html").exists(), "the studies are left as they are");
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    use std::process::{Command, Stdio};
    let place = Workplace::new(false);
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("lopper"))
        .arg("inspect")
        .arg(place.model())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
}

#[test]
fn quiet_says_nothing_but_the_result() {
    let place = Workplace::new(false);
    place.write("ids.json", IDS);
    let printed = place.run("-q score model --tokens ids.json");
    assert!(printed.err.is_empty() && !printed.out.is_empty());
}
