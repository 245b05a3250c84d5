//! `lopper heal --distill`: a cut learns from the model before it; and `lopper lop`, which cuts while it heals.

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
fn distributions_are_learned_of_prompts_and_of_answers_that_were_cut_off() {
    let place = workplace();
    // Most answers of random weights do not end within six tokens.
    place.run("generate model --prompts chats.jsonl --max-new-tokens 6 -o sgr.jsonl");
    place.write("mixed.jsonl", &(place.read("sgr.jsonl") + &place.read("chats.jsonl")));
    let heal = "heal model --drop 2 --data mixed.jsonl --epochs 1 --held-out none";
    let printed = place.run(&format!("{heal} --distill --train-on-inputs -o adapter"));
    assert!(printed.err.contains("learned as far as they go"), "{}", printed.err);
    let record = place.read_json("adapter/heal.json");
    assert_eq!(record["recipe"]["train_on_inputs"], true);
    let [used, cut_off] = ["used", "used_cut_off"].map(|key| record["examples"][key].as_u64().unwrap());
    assert!(used >= cut_off && cut_off > 0, "{record}");
    assert_eq!(record["stats"]["response_tokens"], record["stats"]["tokens"]);

    // Of tokens, such answers would teach never to end.
    place.run(&format!("{heal} --distill --distill-answers 0.5 -o tokens"));
    let record = place.read_json("tokens/heal.json");
    assert!(record["examples"].get("used_cut_off").is_none(), "{record}");
    assert_eq!(record["examples"]["used"].as_u64(), Some(used - cut_off));
}

#[test]
fn a_cut_learns_on_its_own_answers_and_in_a_part_of_its_layers() {
    let place = workplace();
    let heal = "heal model --drop 2 --data chats.jsonl --epochs 2 --schedule cosine";
    let own = "--distill reverse --on-policy 0.5 --on-policy-max-new-tokens 4 --on-policy-steps 2";
    place.run(&format!("{heal} {own} --train-layers from-cut -o adapter"));
    let record = place.read_json("adapter/heal.json");
    let recipe = &record["recipe"];
    let on_policy = json!({"part": 0.5, "every": 2, "max_new_tokens": 4, "temperature": 1.0});
    assert_eq!(recipe["distillation"]["on_policy"], on_policy);
    assert_eq!((&recipe["layers"], &recipe["decay_shape"]), (&json!("from-cut"), &json!("cosine")));
    assert!(record["stats"]["generated_tokens"].as_u64().unwrap() > 0, "{record}");
    let adapter = place.read_json("adapter/adapter_config.json");
    assert_eq!(adapter["layers_to_transform"], json!([1, 2, 3]));
    place
        .run("generate model --prompts chats.jsonl --limit 2 --max-new-tokens 4 --drop 2 --adapter adapter -o a.jsonl");
}

#[test]
fn layers_are_removed_while_the_rest_is_healed() {
    let place = workplace();
    let lop = "lop model --to 3 --step 1 --data chats.jsonl --epochs 2 --held-out 4";
    let printed = place.run(&format!("{lop} --distill -o adapter"));
    let record = place.read_json("adapter/heal.json");
    let removals = record["stats"]["removals"].as_array().unwrap();
    assert_eq!(removals.len(), 2, "{record}");
    assert_eq!(record["lop"], json!({"to": 3, "step": 1, "criterion": "bi"}));
    assert!(removals.iter().all(|removal| removal["held_out_loss"].as_array().unwrap().len() == 2));
    let kept: Vec<u64> = serde_json::from_value(record["kept"].clone()).unwrap();
    let gone: Vec<String> = (0..5).filter(|layer| !kept.contains(layer)).map(|layer| layer.to_string()).collect();
    assert_eq!((kept.len(), gone.len()), (3, 2));
    // The adapter fits the cut that is named.
    let drop = gone.join(",");
    assert!(printed.err.contains("held-out loss before"), "{}", printed.err);
    place.run(&format!("logprobs model --text chats.jsonl --drop {drop} --adapter adapter"));

    place.run(&format!("{lop} --criterion reverse --merge -o merged"));
    assert_eq!(place.read_json("merged/heal.json")["kept"], json!([0, 1, 2]));
    assert_eq!(place.read_json("merged/config.json")["num_hidden_layers"], 3);
    for (wrong, said) in [
        ("--to 5", "from 1 to 4"),
        ("--to 3 --step 3", "from 1 to 2"),
        ("--to 3 --criterion best", "unknown criterion"),
        ("--to 3 --eval-steps 1 --keep best", "different depths"),
        ("--to 3 --train-layers last:2", "all layers"),
    ] {
        let message = place.fault(&format!("lop model --data chats.jsonl --epochs 2 --held-out 4 -o out {wrong}"));
        assert!(message.contains(said), "{wrong}: {message}");
    }
}

#[test]
fn what_cannot_be_learned_from_is_refused() {
    let place = workplace();
    let both = place.fault("heal model --data chats.jsonl --schedule constant --decay 0.5 -o out");
    assert!(both.contains("--schedule constant does not"), "{both}");
    let seam = place.fault("heal model --data chats.jsonl --train-layers from-cut -o out");
    assert!(seam.contains("without --drop"), "{seam}");
    insta::assert_snapshot!("no_cut", place.fault("heal model --data chats.jsonl --distill -o out"));
    insta::assert_snapshot!(
        "no_temperature",
        place.fault("heal model --data chats.jsonl --drop 2 --distill --distill-temperature 0 -o out")
    );
    assert!(!place.path("out").exists());
}
