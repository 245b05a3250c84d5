//! Checkpoints and plans as they come: dressed otherwise, damaged, made for another model, with settings that change
//! what a model answers.

use std::collections::BTreeMap;

use lopper_model::Checkpoint;
use lopper_model::checkpoint::{Dtype, SafetensorsWriter, TensorInfo};

use super::case;
use super::common::Workplace;

/// Rewrites every tensor of the model in a directory: name, dtype and bytes.
fn rewrite(place: &Workplace, model: &str, change: impl Fn(&mut TensorInfo, &mut Vec<u8>)) {
    let directory = place.path(model);
    let checkpoint = Checkpoint::open(&directory).unwrap();
    let mut tensors = Vec::new();
    for name in checkpoint.stored_order() {
        let (mut info, mut bytes) =
            (checkpoint.tensor_info(name).unwrap(), checkpoint.tensor(name).unwrap().data.to_vec());
        change(&mut info, &mut bytes);
        tensors.push((info, bytes));
    }
    drop(checkpoint);
    let infos: Vec<_> = tensors.iter().map(|(info, _)| info.clone()).collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut writer = SafetensorsWriter::create(&directory.join("model.safetensors"), &infos, &metadata).unwrap();
    tensors.iter().for_each(|(_, bytes)| writer.write(bytes).unwrap());
    writer.finish().unwrap();
}

fn widen(info: &mut TensorInfo, bytes: &mut Vec<u8>) {
    let values = bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
    *bytes = values.flat_map(f64::to_le_bytes).collect();
    info.dtype = Dtype::F64;
}

fn weights(place: &Workplace, model: &str) -> Vec<u8> {
    std::fs::read(place.path(model).join("model.safetensors")).unwrap()
}

/// Under its name in transformers 5 or in transformers 4.
fn dtype(config: &serde_json::Value) -> Option<&str> {
    config["dtype"].as_str().or(config["torch_dtype"].as_str())
}

#[test]
fn a_plan_with_an_adapter_on_its_base_is_refused_by_name() {
    let place = Workplace::new(false);
    std::fs::copy(case("plans/adapter_on_base.yml"), place.path("plan.yml")).unwrap();
    for command in
        ["prune model --plan plan.yml -o out", "prune model --plan plan.yml -o out --force", "plan show plan.yml"]
    {
        let message = place.fault(command);
        assert!(message.contains("the adapter `ADAPTER` on `BASE`"), "{message}");
    }
}

#[test]
fn a_plan_for_another_model_needs_force() {
    let place = Workplace::new(false);
    std::fs::copy(case("plans/another_model.yml"), place.path("plan.yml")).unwrap();
    let message = place.fault("prune model --plan plan.yml -o out");
    assert!(message.contains("`some/else`") && message.contains("--force"), "{message}");
    let told = place.run("prune model --plan plan.yml -o out --force").err;
    assert!(told.contains("the plan is for `some/else`, and the model is `model`"), "{told}");
    // The same model by its id on the hub.
    let text = place.read("plan.yml").replace("some/else", "organisation/model");
    place.write("same.yml", &text);
    place.run("prune model --plan same.yml -o same");
    assert_eq!(weights(&place, "same"), weights(&place, "out"));
}

#[test]
fn a_mergekit_file_is_shown_as_a_plan() {
    let place = Workplace::new(false);
    std::fs::copy(case("plans/another_model.yml"), place.path("plan.yml")).unwrap();
    let shown = place.run("plan show plan.yml").out;
    assert!(shown.contains("source      some/else") && shown.contains("kept        0,1,3"), "{shown}");
    assert_eq!(place.json("plan show plan.yml --json")["kept"], serde_json::json!([0, 1, 3]));
    assert!(place.fault("plan show plan.yml --as layers").contains("how many layers"));
    // The model itself says how many layers there are.
    let text = place.read("plan.yml").replace("some/else", "model");
    place.write("here.yml", &text);
    assert!(place.run("plan show here.yml").out.contains("removed     2,4"));
    assert_eq!(place.run("plan show here.yml --as nemo").out, "3 5\n");
    let plan = place.json("plan show here.yml --json");
    assert_eq!(plan["source"]["hash"].as_str().unwrap().len(), 64);
}

#[test]
fn llama_cpp_is_warned_of_layers_that_differ() {
    let place = Workplace::new(false);
    place.run("prune model --drop 1 -o plain");
    let shown = place.run("plan show plain/cut.json --as llama.cpp");
    assert_eq!((shown.out.as_str(), shown.err.as_str()), ("1\n", ""));
    let types = ["sliding_attention", "full_attention", "sliding_attention", "full_attention", "full_attention"];
    place.set_config("layer_types", serde_json::json!(types));
    place.set_config("use_sliding_window", true.into());
    place.set_config("sliding_window", 16.into());
    place.run("prune model --drop 1 -o mixed");
    let shown = place.run("plan show mixed/cut.json --as llama.cpp");
    assert_eq!(shown.out, "1\n");
    assert!(shown.err.contains("warning: llama-quantize") && shown.err.contains("layer_types"), "{}", shown.err);
}

#[test]
fn a_checkpoint_dressed_otherwise_is_written_as_transformers_reads_it() {
    let place = Workplace::new(true);
    place.run("prune model --drop 1 -o plain");
    let plain = weights(&place, "plain");
    type Change = fn(&mut TensorInfo, &mut Vec<u8>);
    let cases: [(&str, &str, Change); 4] = [
        ("module", "with `module.`", |info, _| info.name = format!("module.{}", info.name)),
        ("compiled", "with `_orig_mod.`", |info, _| info.name = format!("_orig_mod.{}", info.name)),
        ("bare", "without `model.`", |info, _| info.name = info.name.trim_start_matches("model.").to_owned()),
        ("wide", "stored in F64 and converted to F32", widen),
    ];
    for (name, said, change) in cases {
        std::fs::create_dir(place.path(name)).unwrap();
        for entry in std::fs::read_dir(place.model()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), place.path(name).join(entry.file_name())).unwrap();
        }
        rewrite(&place, name, change);
        let config = place.read(&format!("{name}/config.json")).replace("float32", "float64");
        if name == "wide" {
            place.write("wide/config.json", &config);
        }
        let told = place.run(&format!("prune {name} --drop 1 -o {name}-cut")).err;
        assert!(told.contains(said), "{name}: {told}");
        assert!(weights(&place, &format!("{name}-cut")) == plain, "{name}: other tensors than in the plain cut");
        assert_eq!(dtype(&place.read_json(&format!("{name}-cut/config.json"))), Some("float32"), "{name}");
    }
    // What is trained is written so, too.
    std::fs::copy(case("rows/forms.jsonl"), place.path("data.jsonl")).unwrap();
    place.run("heal wide --data data.jsonl --batch 2 --warmup 1 --merge -o healed");
    let healed = Checkpoint::open(&place.path("healed")).unwrap();
    assert!(!healed.is_converted() && healed.dtype() == Dtype::F32 && healed.contains("model.norm.weight"));
    assert_eq!(dtype(&place.read_json("healed/config.json")), Some("float32"));
}

#[test]
fn a_weight_that_is_no_number_is_named_before_the_work() {
    let place = Workplace::new(true);
    let damaged = "model.layers.2.mlp.up_proj.weight";
    rewrite(&place, "model", |info, bytes| {
        if info.name == damaged {
            bytes[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
        }
    });
    place.write("prompts.jsonl", "{\"prompt\":\"Tom has 3 apples.\"}\n");
    place.write("text.txt", &"Tom has 3 apples and eats one. ".repeat(40));
    std::fs::copy(case("rows/forms.jsonl"), place.path("data.jsonl")).unwrap();
    for command in [
        "eval model --tasks pocket_kind --limit 2",
        "eval model --tasks pocket_kind --limit 2 --drop 1 --compare",
        "generate model --prompts prompts.jsonl -o answers.jsonl",
        "heal model --data data.jsonl --batch 2 --warmup 1 -o adapter",
        "score model --text text.txt",
        "search model --remove 1 --tasks pocket_kind --limit 2 -o found",
        "logprobs model --text text.txt",
        "prune model --drop 1 -o cut",
        "prune model --criterion taylor --remove 1 --text text.txt -o cut",
    ] {
        let message = place.fault(command);
        assert!(message.contains(&format!("`{damaged}` is NaN in row 0, column 2")), "{command}: {message}");
    }
    place.run("prune model --drop 2 -o mended");
    place.run("logprobs mended --text text.txt");
}

#[test]
fn settings_of_generation_that_are_not_applied_are_named_once() {
    let place = Workplace::new(true);
    place.write("prompts.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n");
    let run = || place.run("generate model --prompts prompts.jsonl --max-new-tokens 2 --force -o answers.jsonl").err;
    assert!(!run().contains("generation_config.json"));
    let settings =
        r#"{"repetition_penalty": 1.1, "bad_words_ids": [[5]], "forced_eos_token_id": 2, "temperature": 0.7}"#;
    place.write("model/generation_config.json", settings);
    let told = run();
    let named = "sets `repetition_penalty` 1.1, `bad_words_ids` [[5]], `forced_eos_token_id` 2, which is not applied";
    assert_eq!(told.matches(named).count(), 1, "{told}");
    assert!(place.run("eval model --tasks pocket_word --limit 1").err.contains(named));
    // Choices are scored and not generated.
    assert!(!place.run("eval model --tasks pocket_kind --limit 1").err.contains(named));
}

#[test]
fn a_changed_search_names_what_changed() {
    let place = Workplace::new(true);
    let search = "search pocket --tasks pocket_kind --limit 4 --no-sentinels -o found";
    place.run(&format!("{search} --remove 1"));
    let message = place.fault(&format!("{search} --remove 2"));
    assert!(message.contains("`problem.remove` was 1 and is 2"), "{message}");
}
