//! `--adapter` wherever a model is taken: what PEFT computes, and the same as on the model that it is folded into.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::Workplace;
use lopper_heal::{Base, LoraConfig, attach_lora, save_adapter};
use lopper_model::{Checkpoint, Model};
use lopper_record::{LayerPosition, LayerSet};
use lopper_testkit::fixture;
use serde_json::Value;

/// Writes an adapter on the layers `on` whose B is drawn, strong enough that results differ. It is of the cut that
/// these are without a base, and of the whole model with one.
fn write_adapter(place: &Workplace, name: &str, on: &LayerSet<LayerPosition>, base: Option<&str>) -> PathBuf {
    let checkpoint = Arc::new(Checkpoint::open(&place.model()).unwrap());
    let mut model = Model::from_checkpoint(&checkpoint).unwrap();
    let config = LoraConfig { r: 3, alpha: 5.0, dropout: 0.0, ..LoraConfig::default() };
    attach_lora(&mut model, &config, 7, on).unwrap();
    let mut value = 0.3f32;
    model.visit_mut(|name, param| {
        if name.ends_with("lora_B.weight") {
            Arc::make_mut(&mut param.data).iter_mut().for_each(|x| {
                value = (value * 3.7 + 0.11) % 1.0;
                *x = 0.4 * (value - 0.5);
            });
        }
    });
    let directory = place.path(name);
    std::fs::create_dir(&directory).unwrap();
    let all = LayerSet::all(model.num_layers());
    let (kept, base) = (base.map_or(on, |_| &all), base.map(|name| Base { name, revision: None }));
    save_adapter(&directory, &model, kept, &config, base).unwrap();
    directory
}

/// Log-probabilities of every predicted token.
fn logprobs(place: &Workplace, arguments: &str) -> Vec<f64> {
    let printed = place.json(&format!("logprobs {arguments} --tokens ids.json --json"));
    let sequences = printed["sequences"].as_array().unwrap().iter();
    sequences.flat_map(|one| one["logprobs"].as_array().unwrap().iter().filter_map(Value::as_f64)).collect()
}

fn near(ours: &[f64], theirs: &[f64], within: f64) -> bool {
    ours.len() == theirs.len() && !ours.is_empty() && ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= within)
}

/// The log-probabilities that PEFT's logits give.
fn expected(cut: &Value, sequences: &Value) -> Vec<f64> {
    let mut all = Vec::new();
    for (tokens, logits) in sequences.as_array().unwrap().iter().zip(cut["logits"].as_array().unwrap()) {
        for (row, token) in logits.as_array().unwrap().iter().zip(&tokens.as_array().unwrap()[1..]) {
            let row: Vec<f64> = row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            let sum: f64 = row.iter().map(|x| x.exp()).sum();
            all.push(row[token.as_u64().unwrap() as usize] - sum.ln());
        }
    }
    all
}

#[test]
fn pruned_with_an_adapter_folded_in_is_what_peft_computes() {
    let place = Workplace::new(false);
    let base = fixture("llama/untied").display().to_string();
    for name in ["every_layer", "two_layers", "first_layer"] {
        let source = fixture(&format!("peft/cut/{name}"));
        let stored: Value = serde_json::from_slice(&std::fs::read(source.join("expected.json")).unwrap()).unwrap();
        place.write("ids.json", &stored["sequences"].to_string());
        // As it would say if it had been trained on the model under this name.
        let adapter = place.path(name);
        std::fs::create_dir(&adapter).unwrap();
        std::fs::copy(source.join("adapter_model.safetensors"), adapter.join("adapter_model.safetensors")).unwrap();
        let config = std::fs::read_to_string(source.join("adapter_config.json")).unwrap();
        std::fs::write(adapter.join("adapter_config.json"), config.replace("the/uncut", &base)).unwrap();
        for (index, cut) in stored["cuts"].as_array().unwrap().iter().enumerate() {
            let dropped = cut["dropped"].as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>().join(",");
            let drop = if dropped.is_empty() { String::new() } else { format!("--drop {dropped}") };
            let wanted = expected(cut, &stored["sequences"]);
            let apart = logprobs(&place, &format!("{base} {drop} --adapter {name}"));
            assert!(near(&apart, &wanted, 1e-4), "{name} without {dropped}: {apart:?} {wanted:?}");
            let out = format!("{name}-{index}");
            let printed = place.run(&format!("prune {base} {drop} --adapter {name} --tokens ids.json -o {out}"));
            assert!(printed.err.contains("as written in float32"), "{}", printed.err);
            let written = logprobs(&place, &out);
            assert!(near(&written, &wanted, 1e-4), "{name} without {dropped}: {written:?} {wanted:?}");
            if !dropped.is_empty() {
                let plan = place.read_json(&format!("{out}/cut.json"));
                let merged = &plan["merged_adapter"];
                assert_eq!((&merged["id"], &merged["stored_as"]), (&name.into(), &"float32".into()));
                let [apart, written] = ["apart", "written"].map(|key| merged["loss"][key].as_f64().unwrap());
                assert!((apart - written).abs() < 1e-5, "{merged}");
            }
        }
    }
}

#[test]
fn an_adapter_of_the_cut_is_folded_in_and_what_rounding_loses_is_said() {
    let place = Workplace::new(true);
    place.write("ids.json", "[[5,17,33,9,41,22,8,30,12,44],[29,6,40,13,25]]");
    // In the numbering of the cut, as `lopper heal --drop` writes it: layers 0, 2 and 4 are 0, 1 and 2 there.
    let place = &place;
    write_adapter(place, "of-cut", &[0, 2, 4].into(), None);
    let apart = logprobs(place, "model --drop 1,3 --adapter of-cut");
    assert!(!near(&apart, &logprobs(place, "model --drop 1,3"), 0.05), "the adapter changes something");
    place.run("prune model --drop 1,3 --adapter of-cut --tokens ids.json -o folded");
    assert!(near(&logprobs(place, "folded"), &apart, 1e-4));
    let printed = place.run("prune model --drop 1,3 --adapter of-cut --tokens ids.json --out-dtype bfloat16 -o half");
    let stored = |name: &str| place.read_json(&format!("{name}/config.json"))["torch_dtype"].clone();
    assert_eq!((stored("folded"), stored("half")), ("float32".into(), "bfloat16".into()));
    assert!(printed.err.contains("as written in bfloat16"), "{}", printed.err);
    let plan = place.read_json("half/cut.json");
    assert_eq!(plan["merged_adapter"]["stored_as"], "bfloat16");
    let card = place.read("half/README.md");
    assert!(card.contains("The adapter `of-cut`") && card.contains("as written"), "{card}");
    // And on the cut by itself, which has a numbering of its own.
    place.run("prune model --drop 1,3 -o cut");
    place.run("prune cut --adapter of-cut --no-verify -o merged");
    assert!(near(&logprobs(place, "merged"), &apart, 1e-4));
    assert_eq!(place.read_json("merged/cut.json"), place.read_json("cut/cut.json"));
}

#[test]
fn a_head_of_its_own_is_written_as_one() {
    let place = Workplace::new(false);
    let base = fixture("qwen3/tied").display().to_string();
    let adapter = fixture("peft/kinds/saved_tied").display().to_string();
    place.write("ids.json", "[[1,17,5,33,9,41],[1,29,6,40]]");
    let printed = place.run(&format!("prune {base} --drop 1 --adapter {adapter} --tokens ids.json -o out")).err;
    assert!(printed.contains("tie_word_embeddings"), "{printed}");
    assert_eq!(place.read_json("out/config.json")["tie_word_embeddings"], false);
    let apart = logprobs(&place, &format!("{base} --drop 1 --adapter {adapter}"));
    assert!(near(&logprobs(&place, "out"), &apart, 1e-4));
}

/// All numbers of a document, with where they are.
fn numbers(value: &Value, path: &str, out: &mut Vec<(String, f64)>) {
    match value {
        Value::Number(number) => out.push((path.to_owned(), number.as_f64().unwrap())),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| numbers(v, &format!("{path}/{i}"), out)),
        Value::Object(map) => map.iter().for_each(|(key, v)| numbers(v, &format!("{path}/{key}"), out)),
        _ => {}
    }
}

fn assert_same(ours: &Value, theirs: &Value, within: f64) {
    let (mut a, mut b) = (vec![], vec![]);
    numbers(ours, "", &mut a);
    numbers(theirs, "", &mut b);
    assert!(!a.is_empty() && a.len() == b.len());
    for ((path, x), (other, y)) in a.iter().zip(&b) {
        assert!(path == other && (x - y).abs() <= within * (1.0 + y.abs()), "{path}: {x}, {y}");
    }
}

#[test]
fn layers_are_scored_and_removed_with_the_adapter_on_them() {
    let place = &Workplace::new(true);
    place.write("ids.json", "[[5,17,33,9,41,22,8,30,12,44],[29,6,40,13,25]]");
    write_adapter(place, "adapter", &LayerSet::all(5), Some("model"));
    place.run("prune model --adapter adapter --no-verify -o merged");

    let score = |of: &str| place.json(&format!("score {of} --tokens ids.json --taylor --json"));
    let (apart, merged, plain) = (score("model --adapter adapter"), score("merged"), score("model"));
    for key in ["block_influence", "angular", "taylor", "perplexity"] {
        assert_same(&apart[key], &merged[key], 1e-3);
    }
    assert_ne!(apart["block_influence"], plain["block_influence"]);

    let tasks = "--tasks pocket_kind,pocket_brackets --limit 6 --json";
    let ablate = |of: &str| place.json(&format!("ablate {of} {tasks}"));
    let (apart, merged) = (ablate("model --adapter adapter"), ablate("merged"));
    assert_eq!(apart["adapter"], "adapter");
    for key in ["base", "removals"] {
        assert_same(&apart[key], &merged[key], 1e-3);
    }

    let search = |of: &str, out: &str| place.json(&format!("search {of} --remove 2 {tasks} --no-sentinels -o {out}"));
    let (apart, merged) = (search("model --adapter adapter", "one"), search("merged", "two"));
    assert_eq!(apart["removed"], merged["removed"]);
    assert!(apart["spec"]["adapter"].is_string() && merged["spec"]["adapter"].is_null());
    let plan = place.read_json("one/cut.json");
    assert_eq!(plan["chosen_with_adapter"]["id"], "adapter");
    // The search of the model without it is another one.
    let fault = place.command(&format!("search model --remove 2 {tasks} --no-sentinels -o one")).assert().code(2);
    assert!(common::Printed::of(&fault).err.contains("adapter"));
    let warned = place.run("prune model --plan one/cut.json -o unfolded").err;
    assert!(warned.contains("chosen with the adapter"), "{warned}");
    place.run("prune model --plan one/cut.json --adapter adapter --no-verify -o folded");
    let removed = apart["removed"].as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>().join(",");
    let wanted = logprobs(place, &format!("model --drop {removed} --adapter adapter"));
    assert!(near(&logprobs(place, "folded"), &wanted, 1e-4));
    // A criterion measures with it, too.
    place.run("prune model --criterion bi --remove 1 --adapter adapter --tokens ids.json -o bi");
    assert_eq!(place.read_json("bi/cut.json")["chosen_with_adapter"]["id"], "adapter");
}

#[test]
fn a_diagnosis_takes_adapters_of_either_model() {
    let place = &Workplace::new(true);
    write_adapter(place, "adapter", &LayerSet::all(5), Some("model"));
    let healed = |arguments: &str| {
        let printed = place.json(&format!("diagnose model {arguments} --adapter adapter --limit 4 --json"));
        printed["healed"]["perplexity"].as_f64().unwrap()
    };
    place.run("prune model --adapter adapter --no-verify -o merged");
    let uncut = place.json("diagnose merged --drop 1 --limit 4 --json");
    let near = |a: f64, b: &Value| (a / b.as_f64().unwrap() - 1.0).abs() < 1e-3;
    assert!(near(healed(""), &uncut["uncut"]["perplexity"]));
    assert!(near(healed("--drop 1"), &uncut["cut"]["perplexity"]));
}

#[test]
fn inspect_says_what_an_adapter_is() {
    let place = &Workplace::new(true);
    write_adapter(place, "adapter", &[1, 3].into(), Some("model"));
    let printed = place.run("inspect model --adapter adapter").out;
    for part in
        ["kind         LoRA", "layers       1,3", "self_attn.q_proj", "trained on   model", "fits         this model"]
    {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let json = place.json("inspect model --adapter adapter --json");
    let adapter = &json["adapter"];
    assert_eq!((adapter["fits"].as_bool(), adapter["settings"]["r"].as_u64()), (Some(true), Some(3)));
    let other = fixture("peft/cut/every_layer").display().to_string();
    let json = place.json(&format!("inspect model --adapter {other} --json"));
    assert!(json["adapter"]["why_not"].is_string(), "{}", json["adapter"]);
}

#[test]
fn adapters_that_do_not_fit_are_refused_before_anything_is_written() {
    let place = &Workplace::new(true);
    write_adapter(place, "of-cut", &[0, 2, 4].into(), None);
    write_adapter(place, "some", &[1, 2].into(), Some("another/model"));
    let fault = |arguments: &str| place.fault(arguments);
    assert!(fault("prune model --drop 1 --adapter of-cut -o out").contains("lacks"));
    assert!(fault("prune model --drop 0-2 --adapter of-cut -o out").contains("another depth"));
    assert!(fault("prune model --drop 1 --adapter some -o out").contains("cannot be known"));
    assert!(fault("score model --text missing.txt --adapter of-cut").contains("cannot be read"));
    assert!(fault("ablate model --tasks pocket_kind --adapter of-cut").contains("lacks"));
    assert!(fault("prune model -o out").contains("no layers to remove were named"));
    assert!(fault("prune model --drop 1 --out-dtype float32 -o out").contains("--adapter"));
    assert!(fault("prune model --drop 1 --adapter missing -o out").contains("no such adapter"));
    assert!(fault("inspect model --adapter missing").contains("no such adapter"));
    assert!(!Path::new(&place.path("out")).exists());
}
