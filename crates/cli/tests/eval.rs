//! `lopper eval` on a tiny random model that speaks the pocket tokenizer.

mod common;

use std::sync::Arc;

use common::Workplace;
use lopper_heal::{LoraConfig, attach_lora, merge, save_adapter};
use lopper_model::checkpoint::Dtype;
use lopper_model::families::config_json;
use lopper_model::{Checkpoint, Model};
use serde_json::Value;

const ALL: [&str; 6] = ["eval", "model", "--tasks", "pocket", "--limit", "4"];

fn arguments<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [&ALL[..], rest].concat()
}

#[test]
fn scores_and_samples_follow_the_contract() {
    let place = Workplace::new(true);
    let json = place.json(&arguments(&["--samples-out", "samples.jsonl", "--json"]));
    let tasks = json["tasks"].as_object().unwrap();
    assert_eq!(tasks.len(), 9);
    assert_eq!(json["seeds"]["items"], 0);
    assert_eq!(json["model"]["layers"], serde_json::json!([0, 1, 2, 3, 4]));
    assert_eq!(json["model"]["hash"].as_str().unwrap().len(), 64);

    let lines = place.read_lines("samples.jsonl");
    assert_eq!(lines.len(), 9 * 4);
    for (name, task) in tasks {
        assert_eq!((task["n"].as_u64(), task["shots"].as_u64()), (Some(4), Some(0)));
        let own: Vec<&Value> = lines.iter().filter(|line| line["task"] == name.as_str()).collect();
        let places: Vec<_> = own.iter().map(|line| line["doc_id"].as_u64().unwrap()).collect();
        assert_eq!(places, [0, 1, 2, 3]);
        for (metric, score) in task["metrics"].as_object().unwrap() {
            let sum: f64 = own.iter().map(|line| line["metrics"][metric].as_f64().unwrap()).sum();
            assert!((score["value"].as_f64().unwrap() - sum / 4.0).abs() < 1e-12, "{name} {metric}");
            assert!(score["stderr"].is_number() && score["ci95"].as_array().unwrap().len() == 2);
        }
        for line in own {
            assert!(line["target"].is_string() && line.get("extracted").is_some());
            assert!(line["response"].is_string() || line["logprobs"].as_array().unwrap().len() >= 2);
            let right = line["metrics"][task["primary"].as_str().unwrap()].as_f64().unwrap();
            match line["correct"].as_bool() {
                Some(correct) => assert_eq!(right, if correct { 1.0 } else { 0.0 }),
                None => assert_eq!(name, "pocket_summary"),
            }
        }
    }
    // Again gives the same, threads or not.
    let again = place.json(&arguments(&["--json", "--threads", "1"]));
    assert_eq!(again["tasks"], json["tasks"]);
}

#[test]
fn dropping_layers_is_evaluating_the_pruned_model() {
    let place = Workplace::new(true);
    let dropped = place.json(&arguments(&["--drop", "1,3", "--samples-out", "dropped.jsonl", "--json"]));
    assert_eq!(dropped["model"]["layers"], serde_json::json!([0, 2, 4]));
    place.run("prune model --drop 1,3 -o cut");
    let mut of_cut = arguments(&["--samples-out", "cut.jsonl", "--json"]);
    of_cut[1] = "cut";
    let cut = place.json(&of_cut);
    assert_eq!(cut["tasks"], dropped["tasks"]);
    assert_eq!(cut["model"]["layers"], dropped["model"]["layers"]);
    // Times are never the same twice.
    let read = |name: &str| {
        let mut lines = place.read_lines(name);
        lines.iter_mut().for_each(|line| assert!(line.as_object_mut().unwrap().remove("timing").is_some()));
        lines
    };
    assert_eq!(read("cut.jsonl"), read("dropped.jsonl"));
}

#[test]
fn an_adapter_is_evaluated_as_the_model_it_is_merged_into() {
    let place = Workplace::new(true);
    let kept = [0, 2, 3, 4];
    let mut model = Model::from_checkpoint(&Checkpoint::open(&place.model()).unwrap()).unwrap();
    let config = LoraConfig::default();
    attach_lora(&mut model, &config, 1, &kept.into()).unwrap();
    model.visit_mut(|name, parameter| {
        // B begins at zero, where an adapter does nothing.
        if name.ends_with("lora_B.weight") {
            Arc::make_mut(&mut parameter.data).iter_mut().zip(0..).for_each(|(b, i)| *b = ((i % 7) as f32 - 3.0) / 8.0);
        }
    });
    std::fs::create_dir(place.path("adapter")).unwrap();
    save_adapter(&place.path("adapter"), &model, &kept.into(), &config, None).unwrap();
    let arguments = arguments(&["--drop", "1", "--json"]);
    let adapted = place.json(&[&arguments[..], &["--adapter", "adapter"]].concat());
    assert_eq!(adapted["model"]["adapter"], "adapter");
    for option in [&["--stream"][..], &["--dtype", "bfloat16"], &["--memory", "1M"]] {
        let same = place.json(&[&arguments[..], &["--adapter", "adapter"], option].concat());
        // Alone and together with the uncut model.
        let compared = place.json(&[&arguments[..], &["--adapter", "adapter", "--compare"], option].concat());
        assert_eq!(same["tasks"], compared["tasks"], "{option:?}");
        if option[0] != "--dtype" {
            assert_eq!(same["tasks"], adapted["tasks"], "{option:?}");
        }
    }
    assert_ne!(adapted["tasks"], place.json(&arguments)["tasks"]);
    // Other commands that run the model take it as well.
    place.write("text", "Tom has 3 apples and 4 pears.");
    let logprobs = |more: &str| place.run(&format!("logprobs model --text text --drop 1 --json{more}")).json();
    let answers = |more: &str, out: &str| {
        let options = "--prompts pocket --limit 3 --max-new-tokens 8 --temperature 0 --drop 1";
        place.run(&format!("generate model {options}{more} -o {out}"));
        place.read_lines(out)
    };
    let (own, drawn) = (logprobs(" --adapter adapter"), answers(" --adapter adapter", "adapted.jsonl"));
    assert_ne!(own["mean_nll"], logprobs("")["mean_nll"]);
    assert_ne!(drawn, answers("", "cut.jsonl"));
    let missing = "generate model --prompts pocket --drop 1 --adapter nowhere -o x.jsonl";
    assert!(place.fault(missing).contains("there is no such adapter"));
    merge(&mut model);
    model.save(&place.model(), &config_json(&model.config, Dtype::F32).unwrap(), Dtype::F32).unwrap();
    assert_eq!(adapted["tasks"], place.json(&arguments)["tasks"]);
    let (alone, together) = (logprobs("")["mean_nll"].as_f64().unwrap(), own["mean_nll"].as_f64().unwrap());
    assert!((alone - together).abs() < 1e-4, "{alone} {together}");
    assert_eq!(drawn, answers("", "merged.jsonl"));
    // It was trained for four layers.
    place.fault(&[&arguments[..2], &["--tasks", "pocket_kind", "--adapter", "adapter"]].concat());
}

#[test]
fn a_person_reads_a_table() {
    let place = Workplace::new(true);
    let printed = place.run("eval model --tasks pocket_classification,pocket_arith --limit 3 --split select");
    let table = &printed.out;
    let first: Vec<&str> = table.lines().map(|line| line.split_whitespace().next().unwrap_or("")).collect();
    assert_eq!(first[..3], ["task", "pocket_kind", "acc_norm"], "{table}");
    assert!(first.contains(&"first_digit") && first.contains(&"classification") && !first.contains(&"generative"));
    assert!(printed.err.contains("select split"));
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    let place = Workplace::new(true);
    place.write("taken.jsonl", "");
    insta::assert_snapshot!("unknown_task", place.fault(&["eval", "model", "--tasks", "pocket_wrod"]));
    insta::assert_snapshot!("rows_that_are_not_there", place.fault(&["eval", "model", "--tasks", "arc_easy"]));
    insta::assert_snapshot!("shots_of_a_pocket_task", place.fault(&arguments(&["--shots", "5"])));
    insta::assert_snapshot!("samples_exist", place.fault(&arguments(&["--samples-out", "taken.jsonl"])));
    insta::assert_snapshot!("no_adapter", place.fault(&arguments(&["--adapter", "nowhere"])));
    for wrong in [
        &["--limit", "0"][..],
        &["--split", "train"],
        &["--temperature", "-1"],
        &["--top-p", "0.5"],
        &["--temperature", "1", "--top-p", "2"],
        &["--drop", "9"],
        &["--drop", "0-4"],
    ] {
        place.fault(&arguments(wrong));
    }
    // A model without a tokenizer, and one without a chat template.
    std::fs::remove_file(place.path("model/chat_template.jinja")).unwrap();
    insta::assert_snapshot!("no_chat_template_to_evaluate", place.fault(&ALL));
    std::fs::remove_file(place.path("model/tokenizer.json")).unwrap();
    place.fault(&ALL);
}
