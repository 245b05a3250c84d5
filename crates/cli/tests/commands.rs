//! What the commands print and write, on a tiny random model.

mod common;

use common::{Workplace, lopper};
use serde_json::Value;

const IDS: &str = "[[1, 20, 300, 40, 41, 42], [7, 8, 9], [500]]";

fn numbers(value: &Value) -> Vec<Option<f64>> {
    value.as_array().unwrap().iter().map(Value::as_f64).collect()
}

#[test]
fn inspect_tells_sizes_and_savings() {
    let place = Workplace::new(true);
    let output = lopper().current_dir(place.dir.path()).args(["inspect", "model"]).assert().success();
    insta::assert_snapshot!("inspect", String::from_utf8(output.get_output().stdout.clone()).unwrap());
    let json = place.json(&["inspect", "model", "--hash", "--json"]);
    // Query and output 2·24·32, keys and values 2·24·16, MLP 3·24·40, norms 2·24 + 2·8.
    assert_eq!(json["parameters"]["per_layer"]["total"], 2 * 24 * 32 + 2 * 24 * 16 + 3 * 24 * 40 + 2 * 24 + 2 * 8);
    assert_eq!(json["bytes"]["kv_per_token"], 5 * 2 * 16 * 4);
    assert_eq!(json["bytes"]["kv_at_context"], 256 * 5 * 2 * 16 * 4);
    assert_eq!(json["layer_kinds"], serde_json::json!([{"layers": [0, 1, 2, 3, 4], "rope_theta": 10000.0}]));
    assert_eq!(json["memory"].as_array().unwrap().len(), 6);
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
    let dropped = place.json(&["logprobs", "model", "--tokens", "ids.json", "--drop", "1,3", "--json"]);
    assert!((dropped["mean_nll"].as_f64().unwrap() - sum / predicted).abs() > 1e-3);

    place.write("one.json", "[[5]]");
    let one = place.json(&["logprobs", "model", "--tokens", "one.json", "--json"]);
    assert_eq!(one["mean_nll"], Value::Null);
}

#[test]
fn a_text_is_one_sequence_with_its_special_tokens() {
    let place = Workplace::new(true);
    let text = place.write("text.txt", "Tom has 12 apples.\nHe buys 3 more.\n");
    let json = place.json(&["logprobs", "model", "--text", "text.txt", "--json"]);
    let sequences = json["sequences"].as_array().unwrap();
    assert_eq!(sequences.len(), 1);
    assert_eq!(sequences[0]["tokens"][0], 1);
    let stdin = lopper()
        .args(["logprobs", place.model().to_str().unwrap(), "--text", "-", "--json"])
        .pipe_stdin(text)
        .unwrap()
        .assert()
        .success();
    assert_eq!(serde_json::from_slice::<Value>(&stdin.get_output().stdout).unwrap(), json);
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
    let output = lopper().current_dir(place.dir.path()).args(["score", "model", "--tokens", "ids.json"]).assert();
    let table = String::from_utf8(output.success().get_output().stdout.clone()).unwrap();
    // Layers, blocks, the agreement of every two of five criteria, and six criteria's plans.
    assert_eq!(table.lines().count(), (1 + 5) + 1 + (1 + 4) + 1 + (1 + 10) + 1 + (1 + 6), "{table}");
    assert_eq!(numbers(&json["perplexity"]["without"]).len(), 5);
    assert_eq!(json["plans"]["perplexity"]["2"].as_array().unwrap().len(), 2);
    assert_eq!(json["agreement"].as_array().unwrap().len(), 10);
    let gradients = place.json(&["score", "model", "--tokens", "ids.json", "--taylor", "--no-perplexity", "--json"]);
    assert!(gradients["perplexity"].is_null() && numbers(&gradients["taylor"]).iter().all(|sum| sum.unwrap() > 0.0));
    let streamed = place.json(&["score", "model", "--tokens", "ids.json", "--stream", "--memory", "1KB", "--json"]);
    for (streamed, held) in numbers(&streamed["block_influence"]).iter().zip(numbers(&json["block_influence"])) {
        assert!((streamed.unwrap() - held.unwrap()).abs() < 1e-5);
    }
}

#[test]
fn a_pruned_model_is_the_model_without_those_layers() {
    let place = Workplace::new(true);
    place.write("ids.json", IDS);
    for drop in ["1", "0,3-4"] {
        lopper()
            .current_dir(place.dir.path())
            .args(["prune", "model", "--drop", drop, "-o", "out", "--force"])
            .assert()
            .success();
        let pruned = place.json(&["logprobs", "out", "--tokens", "ids.json", "--json"]);
        let skipped = place.json(&["logprobs", "model", "--tokens", "ids.json", "--drop", drop, "--json"]);
        for (a, b) in pruned["sequences"].as_array().unwrap().iter().zip(skipped["sequences"].as_array().unwrap()) {
            assert_eq!(a["tokens"], b["tokens"]);
            for (a, b) in numbers(&a["logprobs"]).iter().zip(numbers(&b["logprobs"])) {
                assert!((a.unwrap_or(0.0) - b.unwrap_or(0.0)).abs() < 1e-5);
            }
        }
        // What the model needs besides its weights came along.
        assert!(place.path("out/tokenizer.json").exists() && place.path("out/chat_template.jinja").exists());
    }
}

#[test]
fn a_plan_repeats_a_cut_and_criteria_choose_one() {
    let place = Workplace::new(false);
    place.write("ids.json", IDS);
    let run = |rest: &[&str]| {
        lopper().current_dir(place.dir.path()).args(["prune", "model"]).args(rest).assert().success();
    };
    let cut = |out: &str| -> Value {
        serde_json::from_slice(&std::fs::read(place.path(out).join("cut.json")).unwrap()).unwrap()
    };
    run(&["--criterion", "bi", "--remove", "2", "--tokens", "ids.json", "-o", "a"]);
    run(&["--plan", "a/cut.json", "-o", "b"]);
    assert_eq!(cut("a")["kept"], cut("b")["kept"]);
    assert_eq!(cut("a")["criterion"], "bi");
    assert_eq!(
        std::fs::read(place.path("a/model.safetensors")).unwrap(),
        std::fs::read(place.path("b/model.safetensors")).unwrap()
    );
    run(&["--criterion", "reverse-keep-1", "--remove", "2", "-o", "c"]);
    assert_eq!(cut("c")["kept"], serde_json::json!([0, 1, 4]));
    run(&["--criterion", "random", "--remove", "2", "--seed", "5", "-o", "d"]);
    run(&["--criterion", "random", "--remove", "2", "--seed", "5", "-o", "e"]);
    assert_eq!(cut("d")["kept"], cut("e")["kept"]);
}

#[test]
fn a_cut_of_a_cut_keeps_the_original_numbers() {
    let place = Workplace::new(false);
    place.write("ids.json", IDS);
    let prune = |arguments: &[&str]| {
        lopper().current_dir(place.dir.path()).arg("prune").args(arguments).assert().success();
    };
    prune(&["model", "--drop", "1", "-o", "a"]);
    prune(&["a", "--drop", "3", "-o", "b"]);
    let nll = |arguments: &[&str]| {
        place.json(&[&["logprobs", "--tokens", "ids.json", "--json"], arguments].concat())["mean_nll"].as_f64().unwrap()
    };
    let expected = nll(&["model", "--drop", "1,3"]);
    assert!((nll(&["b"]) - expected).abs() < 1e-6);
    assert!((nll(&["a", "--drop", "3"]) - expected).abs() < 1e-6);
    assert_eq!(place.json(&["inspect", "b", "--json"])["original_layers"], serde_json::json!([0, 2, 4]));
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
        lopper().current_dir(place.dir.path()).args(base).args(rest).assert().success();
    };
    let system = "You are a helpful assistant.";
    run(&["--seed", "3", "-o", "a.jsonl", "--system", system]);
    run(&["--seed", "3", "-o", "b.jsonl", "--system", system]);
    // The tokenizer is the pocket model's, which was taught no system prompt.
    run(&["--seed", "4", "-o", "c.jsonl"]);
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    assert_eq!(read("a.jsonl"), read("b.jsonl"));
    assert_ne!(read("a.jsonl"), read("c.jsonl"));
    let rows: Vec<Value> = read("a.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    let roles: Vec<_> = rows[1]["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!(rows[1]["messages"][1]["content"], "Tom has 3 apples.");
    let row: Value = serde_json::from_str(read("c.jsonl").lines().next().unwrap()).unwrap();
    assert_eq!(row["messages"].as_array().unwrap().len(), 2);
    assert!(!place.path("a.jsonl.partial").exists());
}

#[test]
fn an_interrupted_generation_continues() {
    let place = Workplace::new(true);
    let base =
        ["generate", "model", "--prompts", "pocket", "--limit", "4", "--max-new-tokens", "8", "--system", "Be brief."];
    let run = |rest: &[&str]| lopper().current_dir(place.dir.path()).args(base).args(rest).assert();
    run(&["-o", "whole.jsonl"]).success();
    let whole = std::fs::read_to_string(place.path("whole.jsonl")).unwrap();
    // What an interrupt leaves: the run's name, and the rows it had.
    let key = {
        std::fs::write(place.path("x.jsonl.partial"), "{\"run\":\"another\"}\n").unwrap();
        let error = run(&["-o", "x.jsonl"]).code(2).get_output().stderr.clone();
        assert!(String::from_utf8(error).unwrap().contains("--force"));
        std::fs::remove_file(place.path("x.jsonl.partial")).unwrap();
        partial_of(&place, &base)
    };
    // A finished row is taken as it is; this one shows that it was not made again.
    let mut rows: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    rows[2]["messages"][2]["content"] = "from before".into();
    std::fs::write(place.path("y.jsonl.partial"), format!("{key}\n{{\"index\":2,\"row\":{}}}\n{{\"ind", rows[2]))
        .unwrap();
    let output = run(&["-o", "y.jsonl"]).success().get_output().stderr.clone();
    assert!(String::from_utf8(output).unwrap().contains("continuing after 1 "));
    let continued = std::fs::read_to_string(place.path("y.jsonl")).unwrap();
    let continued: Vec<Value> = continued.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(continued, rows);
    assert!(!place.path("y.jsonl.partial").exists());
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_finished() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};
    let place = Workplace::new(true);
    let child = Command::new(assert_cmd::cargo::cargo_bin!("lopper"))
        .current_dir(place.dir.path())
        .args([
            "generate",
            "model",
            "--prompts",
            "pocket",
            "--limit",
            "20000",
            "--max-new-tokens",
            "60",
            "-o",
            "x.jsonl",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !place.path("x.jsonl.partial").exists() && begun.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("finished answers are kept in x.jsonl.partial"), "{message}");
    assert!(output.stdout.is_empty() && !place.path("x.jsonl").exists());
    let lines = std::fs::read_to_string(place.path("x.jsonl.partial")).unwrap().lines().count();
    assert!(lines > 512 && lines < 20_001, "{lines}");
}

/// The first line of the partial file of a run, caught by making its output impossible to replace.
fn partial_of(place: &Workplace, base: &[&str]) -> String {
    std::fs::create_dir_all(place.path("z.jsonl/full")).unwrap();
    let force = ["-o", "z.jsonl", "--force"];
    lopper().current_dir(place.dir.path()).args(base).args(force).assert().code(1);
    let text = std::fs::read_to_string(place.path("z.jsonl.partial")).unwrap();
    text.lines().next().unwrap().to_owned()
}

#[test]
fn report_rebuilds_the_page() {
    let place = Workplace::new(false);
    std::fs::create_dir(place.path("study")).unwrap();
    place.write("study/study.json", "{\"schema\":1}");
    let output = lopper().current_dir(place.dir.path()).args(["report", "study"]).assert().success();
    assert_eq!(String::from_utf8(output.get_output().stdout.clone()).unwrap(), "study/report.html\n");
    assert!(std::fs::read_to_string(place.path("study/report.html")).unwrap().starts_with("<!DOCTYPE html>"));
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
    let arguments = ["-q", "score", "model", "--tokens", "ids.json"];
    let output = lopper().current_dir(place.dir.path()).args(arguments).assert().success();
    assert!(output.get_output().stderr.is_empty());
    assert!(!output.get_output().stdout.is_empty());
}

#[test]
fn help_names_every_command() {
    let output = lopper().arg("--help").assert().success();
    let help = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    for command in ["inspect", "score", "prune", "generate", "logprobs", "report"] {
        assert!(help.contains(command), "{command}");
    }
}
