//! `lopper prune --compensate`: what is written is the compensated model, and says what was done.

mod common;

use common::{Printed, Workplace};
use lopper_testkit::{fixture, token_sequences};
use serde_json::{Value, json};

/// Writes a list of lists of token ids, and returns every tenth of them: those that are held out.
fn ids(place: &Workplace, name: &str, lengths: &[usize], vocab: usize) -> Vec<Vec<u32>> {
    let sequences = token_sequences(lengths, vocab, 5);
    place.write(name, &json!(sequences).to_string());
    sequences.into_iter().skip(9).step_by(10).collect()
}

fn mean_nll(place: &Workplace, arguments: &str) -> f64 {
    place.json(format!("logprobs {arguments} --json").as_str())["mean_nll"].as_f64().unwrap()
}

#[test]
fn the_written_model_is_the_compensated_one() {
    let place = Workplace::new(true);
    let held_out = ids(&place, "ids.json", &[30; 40], 1024);
    place.write("held.json", &json!(held_out).to_string());
    for (method, factors) in [("linear", false), ("magnitude", true)] {
        let command = format!("prune model --drop 1,3 --compensate {method} --tokens ids.json -o {method}");
        let said = place.run(command.as_str()).err;
        assert!(said.contains("same logits as the compensated model before it was written"), "{said}");
        assert!(said.contains("loss on 120 held-out tokens"), "{said}");
        let plan = place.read_json(&format!("{method}/cut.json"));
        let done = &plan["compensation"];
        assert_eq!((&done["method"], &done["fitted_to"]["tokens"]), (&json!(method), &json!(1080)));
        assert_eq!(plan["verification"]["compared_with"], "the compensated model before it was written");
        // What the record says are the losses of the models that others would run.
        for (key, arguments) in [
            ("uncut", "model --tokens held.json".to_owned()),
            ("cut", "model --drop 1,3 --tokens held.json".to_owned()),
            ("compensated", format!("{method} --tokens held.json")),
        ] {
            let (recorded, measured) = (done["loss"][key].as_f64().unwrap(), mean_nll(&place, &arguments));
            assert!((recorded - measured).abs() < 1e-5, "{method} {key}: {recorded}, not {measured}");
        }
        let gaps = done["gaps"].as_array().unwrap();
        let removed: Vec<&Value> = gaps.iter().map(|gap| &gap["removed"]).collect();
        assert_eq!(removed, [&json!([1]), &json!([3])]);
        assert!(gaps.iter().all(|gap| gap["factor"].is_number() == factors), "{done}");
        let card = place.read(&format!("{method}/README.md"));
        assert!(card.contains("Compensated without training") && card.contains("1080 tokens"), "{card}");
        assert!(card.contains("All other remaining weights are those of the source"), "{card}");
        for changed in done["changed"].as_array().unwrap() {
            assert!(card.contains(changed.as_str().unwrap()), "{card}");
        }
        let shown = place.run(&["plan", "show", &format!("{method}/cut.json")]).out;
        assert!(shown.contains(&format!("compensated {method}, fitted to 1080 tokens")), "{shown}");
        let other = place.run(&["plan", "show", &format!("{method}/cut.json"), "--as", "mergekit"]).err;
        assert!(other.contains("without the changed weights"), "{other}");
    }
    // The last gap's layer is the last layer kept: its down projection, and no other.
    let changed = &place.read_json("linear/cut.json")["compensation"]["changed"];
    assert_eq!(*changed, json!(["model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.weight"]));
}

#[test]
fn the_plan_of_a_compensated_cut_is_that_of_a_cut() {
    let place = Workplace::new(false);
    ids(&place, "ids.json", &[30; 40], 1024);
    place.run("prune model --drop 2 --compensate linear --tokens ids.json -o a");
    place.run("prune model --drop 2 -o plain");
    let Printed { err, .. } = place.run("prune model --plan a/cut.json -o b");
    assert!(err.contains("add --compensate linear"), "{err}");
    let weights = |model: &str| std::fs::read(place.path(model).join("model.safetensors")).unwrap();
    assert_eq!(weights("b"), weights("plain"));
    assert!(place.read_json("b/cut.json").get("compensation").is_none());
    place.run("prune model --plan a/cut.json --compensate linear --tokens ids.json -o c");
    assert_eq!(weights("c"), weights("a"));
    assert_ne!(weights("c"), weights("plain"));
    // A cut of a compensated cut is counted as any other.
    place.run("prune a --drop 3 --compensate magnitude --tokens ids.json -o d");
    let gaps = &place.read_json("d/cut.json")["compensation"]["gaps"];
    assert_eq!(gaps[0]["removed"], json!([3]));
}

#[test]
fn a_criterion_and_the_pocket_models_own_text() {
    let place = Workplace::new(false);
    let said = place.run("prune pocket --criterion bi --remove 2 --compensate linear -o cut").err;
    assert!(said.contains("held-out tokens"), "{said}");
    let plan = place.read_json("cut/cut.json");
    let loss = |key: &str| plan["compensation"]["loss"][key].as_f64().unwrap();
    assert!(loss("uncut") < loss("cut"), "{plan}");
    // The pocket model was trained with stochastic depth and takes a plain cut better than a compensated one: it is
    // said where that is so.
    assert_eq!(said.contains("does not lower the loss"), loss("compensated") >= loss("cut"), "{said}");
}

#[test]
fn every_dtype_is_written_as_it_was_measured() {
    let place = Workplace::new(false);
    // bf16 is rounded before it is measured; a norm after the MLP takes the factor.
    for (name, method) in [("llama/bf16", "linear"), ("llama/bf16", "magnitude"), ("gemma2/alternating", "magnitude")] {
        let model = fixture(name);
        if !model.is_dir() {
            panic!("{name}");
        }
        let config: Value = serde_json::from_slice(&std::fs::read(model.join("config.json")).unwrap()).unwrap();
        ids(&place, "ids.json", &[12; 60], config["vocab_size"].as_u64().unwrap() as usize);
        let out = format!("{}-{method}", name.replace('/', "-"));
        let model = model.display().to_string();
        let run = ["prune", &model, "--drop", "1", "--compensate", method, "--tokens", "ids.json", "-o", &out];
        assert!(place.run(&run).err.contains("same logits as the compensated model"));
        let verified = &place.read_json(&format!("{out}/cut.json"))["verification"];
        assert!(verified["max_logit_difference"].as_f64().unwrap() <= 1e-5, "{verified}");
    }
}

#[test]
fn bad_input_is_refused_before_the_work() {
    let place = Workplace::new(false);
    ids(&place, "ids.json", &[30; 40], 1024);
    ids(&place, "few.json", &[10, 10, 10], 1024);
    ids(&place, "one.json", &[10], 1024);
    let gemma = fixture("gemma2/alternating").display().to_string();
    for (arguments, part) in [
        ("model --drop 0 --compensate linear --tokens ids.json", "begins at the first layer"),
        ("model --drop 4 --compensate magnitude --tokens ids.json", "last layers"),
        ("model --drop 2 --compensate linear --tokens few.json", "at least 24 tokens"),
        ("model --drop 2 --compensate magnitude --tokens one.json", "can be held out"),
        ("model --drop 2 --compensate linear", "there is no text"),
        ("model --drop 2 --compensate linear --tokens none.json", "none.json"),
        ("model --drop 2 --compensate patch --tokens ids.json", "invalid value"),
        (&format!("{gemma} --drop 1 --compensate linear --tokens ids.json"), "a norm after the down projection"),
        ("model --criterion bi --remove 2 --compensate linear --tokens few.json", "at least 24 tokens"),
    ] {
        let message = place.fault(format!("prune {arguments} -o out").as_str());
        assert!(message.contains(part), "{arguments}: {message}");
    }
    place.run("prune model --drop 0 --compensate magnitude --tokens ids.json -o first");
    place.run("prune model --drop 4 --compensate linear --tokens ids.json -o last");
}
