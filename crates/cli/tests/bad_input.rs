//! Whatever is wrong with the input: exit status 2, a message that names the file, what was
//! expected, what was found and what to do, nothing on standard output, and nothing left behind.

mod common;

use common::Workplace;
use serde_json::json;

const TOKENS: &[&str] = &["--tokens", "ids.json"];

fn workplace() -> Workplace {
    let place = Workplace::new(true);
    place.write("ids.json", "[[1, 20, 300, 40], [7, 8]]");
    place.write("text.txt", "Tom has 12 apples.");
    place
}

fn logprobs<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [&["logprobs", "model"], rest].concat()
}

#[test]
fn a_missing_model() {
    let place = workplace();
    insta::assert_snapshot!("missing_model", place.fault(&["inspect", "nowhere"]));
    insta::assert_snapshot!("missing_model_of_the_hub", place.fault(&["inspect", "Qwen/Qwen3-0.6B"]));
    insta::assert_snapshot!("a_file_for_a_model", place.fault(&["inspect", "model/model.safetensors"]));
}

#[test]
fn a_missing_text() {
    let place = workplace();
    insta::assert_snapshot!("missing_text", place.fault(&logprobs(&["--text", "nowhere.txt"])));
    insta::assert_snapshot!("no_text_given", place.fault(&["score", "model"]));
}

#[test]
fn an_empty_text() {
    let place = workplace();
    place.write("empty.txt", "");
    place.write("blank.txt", " \n\n");
    insta::assert_snapshot!("empty_text", place.fault(&logprobs(&["--text", "empty.txt"])));
    insta::assert_snapshot!("blank_text", place.fault(&["score", "model", "--text", "blank.txt"]));
}

#[test]
fn a_text_that_is_not_text() {
    let place = workplace();
    std::fs::write(place.path("latin.txt"), b"caf\xe9").unwrap();
    insta::assert_snapshot!("not_utf8", place.fault(&logprobs(&["--text", "latin.txt"])));
}

#[test]
fn token_ids_that_are_none() {
    let place = workplace();
    for (name, ids) in [
        ("ids_flat", "[1, 2, 3]"),
        ("ids_negative", "[[1, -2]]"),
        ("ids_unknown", "[[1, 2], [70000]]"),
        ("ids_empty", "[]"),
        ("ids_empty_list", "[[1], []]"),
        ("ids_cut_short", "[[1, 2"),
    ] {
        place.write("bad.json", ids);
        insta::assert_snapshot!(name, place.fault(&logprobs(&["--tokens", "bad.json"])));
    }
}

#[test]
fn a_truncated_safetensors() {
    let place = workplace();
    let path = place.model().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    insta::assert_snapshot!("truncated", place.fault(&logprobs(TOKENS)));
    std::fs::write(&path, &bytes[..20]).unwrap();
    insta::assert_snapshot!("truncated_header", place.fault(&logprobs(TOKENS)));
    std::fs::remove_file(&path).unwrap();
    insta::assert_snapshot!("no_weights", place.fault(&logprobs(TOKENS)));
}

#[test]
fn a_config_that_contradicts_the_weights() {
    let place = workplace();
    place.set_config("intermediate_size", json!(48));
    insta::assert_snapshot!("contradiction_of_shape", place.fault(&logprobs(TOKENS)));
    place.set_config("intermediate_size", json!(40));
    place.set_config("num_hidden_layers", json!(6));
    insta::assert_snapshot!("contradiction_of_layers", place.fault(&logprobs(TOKENS)));
}

#[test]
fn an_unknown_family() {
    let place = workplace();
    place.set_config("model_type", json!("mamba"));
    insta::assert_snapshot!("unknown_family", place.fault(&["inspect", "model"]));
}

#[test]
fn a_config_that_is_not_json() {
    let place = workplace();
    std::fs::write(place.model().join("config.json"), "{\"model_type\":").unwrap();
    insta::assert_snapshot!("broken_config", place.fault(&["inspect", "model"]));
}

#[test]
fn layers_that_cannot_be_dropped() {
    let place = workplace();
    for (name, layers) in [
        ("layer_out_of_range", "5"),
        ("layer_range_beyond_the_end", "2-9"),
        ("all_layers", "0-4"),
        ("layer_twice", "1,1"),
        ("layers_backwards", "3-1"),
        ("no_layers", ""),
        ("not_a_layer", "x"),
    ] {
        let drop = ["--drop", layers];
        insta::assert_snapshot!(name, place.fault(&logprobs(&[TOKENS, &drop].concat())));
        // The same list is refused by the command that would write.
        place.fault(&[["prune", "model"], drop, ["-o", "out"]].concat());
    }
}

#[test]
fn an_existing_output() {
    let place = workplace();
    std::fs::create_dir(place.path("taken")).unwrap();
    place.write("taken/precious", "x");
    insta::assert_snapshot!("existing_directory", place.fault(&["prune", "model", "--drop", "1", "-o", "taken"]));
    assert!(place.path("taken/precious").exists());
    // Not even --force removes a directory that lopper did not write.
    insta::assert_snapshot!("foreign_directory", place.fault("prune model --drop 1 -o taken --force"));
    assert!(place.path("taken/precious").exists());
    place.write("prompts.jsonl", "{\"prompt\":\"hello\"}");
    place.write("answers.jsonl", "precious");
    let message = place.fault("generate model --prompts prompts.jsonl -o answers.jsonl");
    insta::assert_snapshot!("existing_file", message);
    assert_eq!(place.read("answers.jsonl"), "precious");
}

#[test]
fn plans_and_criteria_that_do_not_fit() {
    let place = workplace();
    let prune = |rest: &[&str]| place.fault(&[&["prune", "model", "-o", "out"], rest].concat());
    insta::assert_snapshot!("missing_plan", prune(&["--plan", "nowhere.json"]));
    place.write("plan.json", "{\"kept\": 3}");
    insta::assert_snapshot!("malformed_plan", prune(&["--plan", "plan.json"]));
    insta::assert_snapshot!("unknown_criterion", prune(&["--criterion", "magic", "--remove", "1"]));
    insta::assert_snapshot!("removes_too_many", prune(&["--criterion", "reverse", "--remove", "5"]));
    insta::assert_snapshot!("criterion_without_text", prune(&["--criterion", "bi", "--remove", "1"]));
}

#[test]
fn prompts_that_are_none() {
    let place = workplace();
    let generate = |rest: &[&str]| place.fault(&[&["generate", "model", "-o", "out.jsonl"], rest].concat());
    insta::assert_snapshot!("missing_prompts", generate(&["--prompts", "nowhere.jsonl"]));
    place.write("bad.jsonl", "{\"text\": \"a\"}\n{\"question\": 3}\n");
    insta::assert_snapshot!("malformed_prompts", generate(&["--prompts", "bad.jsonl"]));
    let message = generate(&["--prompts", "pocket", "--limit", "1", "--temperature=-1"]);
    insta::assert_snapshot!("temperature_below_zero", message);
}

#[test]
fn a_model_without_what_the_command_needs() {
    let place = Workplace::new(false);
    place.write("text.txt", "hello");
    insta::assert_snapshot!("no_tokenizer", place.fault(&logprobs(&["--text", "text.txt"])));
    let place = workplace();
    std::fs::remove_file(place.model().join("chat_template.jinja")).unwrap();
    let message = place.fault("generate model --prompts pocket --limit 1 -o out.jsonl");
    insta::assert_snapshot!("no_chat_template", message);
}

#[test]
fn a_directory_without_a_study() {
    let place = workplace();
    insta::assert_snapshot!("no_study", place.fault(&["report", "nowhere"]));
}

#[test]
fn arguments_that_do_not_exist() {
    let place = workplace();
    assert!(place.fault(&["inspekt", "model"]).contains("inspect"));
    assert!(place.fault(&["prune", "model", "-o", "out"]).contains("--drop"));
    assert!(place.fault(&logprobs(&["--text", "text.txt", "--tokens", "ids.json"])).contains("cannot be used with"));
    assert!(place.fault(&["inspect", "model", "--device", "tpu"]).contains("metal"));
    assert!(place.fault(&["inspect", "model", "--device", "cuda:9"]).contains("cuda"));
}
