//! `lopper heal --distill`: a cut learns from the model before it.

mod common;

use common::Workplace;
use serde_json::json;

fn workplace() -> Workplace {
    let place = Workplace::new(true);
    let row = |i: usize| json!({"instruction": format!("What is {i} + {i}?"), "output": format!("{}", 2 * i)});
    place.write("chats.jsonl", &(0..20).map(|i| row(i).to_string() + "\n").collect::<String>());
    place
}

#[test]
fn a_cut_learns_from_the_model_before_it() {
    let place = workplace();
    let heal = "heal model --drop 2 --data chats.jsonl --epochs 2";
    place.run(&format!("{heal} --distill mixed --distill-temperature 2 --distill-answers 0.1 -o adapter"));
    let record = place.read_json("adapter/heal.json");
    let expected = json!({"temperature": 2.0, "reverse": 0.5, "answers": 0.1, "hidden_states": 0.0});
    assert_eq!(record["recipe"]["distillation"], expected);
    let curve = record["stats"]["objective_curve"].as_array().unwrap();
    assert_eq!(curve.len(), record["stats"]["steps"].as_u64().unwrap() as usize);
    assert!(place.path("adapter/adapter_model.safetensors").is_file());

    place.run(&format!("{heal} --distill --merge -o merged"));
    let card = place.read("merged/README.md");
    assert!(card.contains("learns from the uncut model, forward KL at temperature 1"), "{card}");
    place.run("logprobs merged --text chats.jsonl --json");

    // Without it nothing of it is recorded.
    place.run(&format!("{heal} -o plain"));
    let record = place.read_json("plain/heal.json");
    assert!(record["recipe"].get("distillation").is_none() && record["stats"].get("objective_curve").is_none());
}

#[test]
fn what_cannot_be_learned_from_is_refused() {
    let place = workplace();
    insta::assert_snapshot!("no_cut", place.fault("heal model --data chats.jsonl --distill -o out"));
    insta::assert_snapshot!(
        "no_temperature",
        place.fault("heal model --data chats.jsonl --drop 2 --distill --distill-temperature 0 -o out")
    );
    assert!(!place.path("out").exists());
}
