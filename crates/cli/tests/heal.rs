//! `lopper heal`: adapters and whole models, and everything that can be wrong with what it is given.

mod common;

use common::Workplace;
use lopper_heal::load_adapter;
use lopper_model::{Checkpoint, Model};
use lopper_testkit::max_difference;
use serde_json::{Value, json};

fn workplace() -> Workplace {
    let place = Workplace::new(true);
    let row = |i: usize| {
        let (question, answer) = (format!("What is {i} + {i}?"), format!("{i} + {i} = {}", 2 * i));
        json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
            "finish": if i == 3 { "length" } else { "stop" }})
    };
    let lines: Vec<String> = (0..30).map(|i| row(i).to_string()).collect();
    place.write("sgr.jsonl", &(lines.join("\n") + "\nnonsense\n"));
    place
}

/// Few and small steps, so that the test is about the command.
const QUICK: &[&str] = &["--data", "sgr.jsonl", "--batch", "8", "--warmup", "1", "--epochs", "2"];

fn heal(place: &Workplace, arguments: &[&str]) -> String {
    place.run(&[&["heal", "model"], QUICK, arguments].concat()).err
}

fn model(place: &Workplace, name: &str) -> Model {
    Model::from_checkpoint(&Checkpoint::open(&place.path(name)).unwrap()).unwrap()
}

fn logits(model: &Model) -> Vec<f32> {
    lopper_testkit::logits(model, &[1, 20, 300, 40, 41], &model.all_layers())
}

#[test]
fn an_adapter_on_a_cut_model_and_the_same_merged() {
    let place = workplace();
    let message = heal(&place, &["--drop", "1,3", "-o", "adapter/", "--r", "4"]);
    assert!(
        message.contains("29 of 31 examples") && message.contains("1 cut off at the length limit, 1 not usable"),
        "{message}"
    );
    assert!(message.contains("row 31") && message.contains("--drop 1,3 --adapter"), "{message}");
    heal(&place, &["--drop", "1,3", "-o", "merged", "--r", "4", "--merge"]);
    assert_eq!(place.names(), ["adapter", "merged", "model", "sgr.jsonl"], "nothing stays beside the outputs");

    let uncut = model(&place, "model");
    let mut adapted = uncut.keep(&[0, 2, 4].into());
    let before = logits(&adapted);
    let config = load_adapter(&place.path("adapter"), &mut adapted, &[0, 1, 2].into()).unwrap();
    assert_eq!((config.r, config.alpha), (4, 32.0));
    let merged = model(&place, "merged");
    assert!(max_difference(&logits(&adapted), &before) > 1e-2, "healing changed something");
    assert!(max_difference(&logits(&adapted), &logits(&merged)) < 1e-4);

    // The uncut model is not what the adapter goes on, so PEFT is not told to load it.
    assert_eq!(place.read_json("adapter/adapter_config.json")["base_model_name_or_path"], Value::Null);
    let record = place.read_json("merged/heal.json");
    assert_eq!((&record["kept"], &record["stats"]["steps"]), (&json!([0, 2, 4]), &json!(8)));
    assert_eq!(record["stats"]["loss_curve"].as_array().unwrap().len(), 8);

    // A complete model: it keeps the original numbering, and can be asked and cut again.
    for file in ["tokenizer.json", "chat_template.jinja", "cut.json", "README.md"] {
        assert!(place.path("merged").join(file).is_file(), "{file}");
    }
    assert_eq!(merged.num_layers(), 3);
    place.run("prune merged --drop 4 -o again");
    assert_eq!(model(&place, "again").num_layers(), 2);
}

#[test]
fn other_kinds_of_adapters_and_a_base_in_4_bits() {
    let place = workplace();
    for (options, kind) in [
        ("--rslora", "rsLoRA r = 4, alpha = 32, dropout 0.05"),
        ("--dora --dropout 0", "DoRA r = 4, alpha = 32, dropout 0"),
        ("--load-in-4bit", "LoRA r = 4, alpha = 32, dropout 0.05 on a base in 4 bits (NF4)"),
        (
            "--dora --rslora --load-in-4bit",
            "DoRA with rsLoRA's scale r = 4, alpha = 32, dropout 0.05 on a base in 4 bits",
        ),
    ] {
        let adapter = format!("adapter {options}").replace(' ', "_");
        let options: Vec<&str> = ["--drop", "1,3", "--r", "4"].into_iter().chain(options.split(' ')).collect();
        heal(&place, &[&options[..], &["-o", &adapter]].concat());
        heal(&place, &[&options[..], &["-o", "merged", "--merge", "--out-dtype", "float32", "--force"]].concat());
        let (record, settings) = (
            place.read_json(&format!("{adapter}/heal.json")),
            place.read_json(&format!("{adapter}/adapter_config.json")),
        );
        let has = |option: &str| options.contains(&option);
        assert_eq!(settings["use_dora"], has("--dora"));
        assert_eq!(settings["use_rslora"], has("--rslora"));
        // What is not on is not in the recipe, so that records of before stay as they were.
        assert_eq!(record["recipe"]["lora"].get("dora").is_some(), has("--dora"));
        assert_eq!(record["recipe"].get("load_in_4bit").is_some(), has("--load-in-4bit"));
        let card = place.read("merged/README.md");
        assert!(card.contains(kind), "{kind}: {card}");

        // Merged is the adapter on the weights that were given, whatever it was trained on.
        let mut adapted = model(&place, "model").keep(&[0, 2, 4].into());
        let before = logits(&adapted);
        let config = load_adapter(&place.path(&adapter), &mut adapted, &[0, 1, 2].into()).unwrap();
        assert_eq!((config.dora, config.rslora), (has("--dora"), has("--rslora")));
        assert!(max_difference(&logits(&adapted), &before) > 1e-2, "healing changed something");
        assert!(max_difference(&logits(&adapted), &logits(&model(&place, "merged"))) < 1e-4);
        let written = &place.read_json("merged/heal.json")["written"];
        assert!(written["trained"].as_f64().unwrap() < written["start"].as_f64().unwrap(), "{written}");
        place.run(&format!("eval model --drop 1,3 --adapter {adapter} --tasks pocket_kind --limit 3"));
    }
}

#[test]
fn all_weights() {
    let place = workplace();
    heal(&place, &["--method", "full", "-o", "full", "--lr", "1e-3"]);
    let (before, after) = (model(&place, "model"), model(&place, "full"));
    assert_eq!(after.config, before.config);
    assert_eq!(after.parameters().len(), before.parameters().len());
    for ((name, a), (_, b)) in before.parameters().into_iter().zip(after.parameters()) {
        assert_ne!(a.data, b.data, "{name}");
    }
    assert!(!place.path("full").join("cut.json").exists());
    let stats = &place.read_json("full/heal.json")["stats"];
    assert!(stats["loss_last"].as_f64().unwrap() < stats["loss_first"].as_f64().unwrap());

    // The same command gives the same weights; --force replaces its output.
    let first = std::fs::read(place.path("full/model.safetensors")).unwrap();
    heal(&place, &["--method", "full", "-o", "full", "--lr", "1e-3", "--force"]);
    assert_eq!(std::fs::read(place.path("full/model.safetensors")).unwrap(), first);
    heal(&place, &["--method", "full", "-o", "full", "--lr", "1e-3", "--force", "--seed", "1"]);
    assert_ne!(std::fs::read(place.path("full/model.safetensors")).unwrap(), first);
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_written() {
    let place = workplace();
    place.write("empty.jsonl", "\n{}\n");
    place.write("taken", "");
    std::fs::create_dir(place.path("full_of_things")).unwrap();
    place.write("full_of_things/thesis.tex", "");
    let fault =
        |arguments: &[&str]| place.fault(&[&["heal", "model", "--data", "sgr.jsonl", "-o", "out"], arguments].concat());
    for (arguments, said) in [
        (&["--r", "0"][..], "rank is out of range"),
        (&["--lr=-1"], "learning rate is out of range"),
        (&["--lr=nan"], "learning rate is out of range"),
        (&["--dropout", "1"], "dropout is out of range"),
        (&["--epochs", "0"], "out of range"),
        (&["--max-length", "100000"], "beyond the model's context"),
        (&["--max-length", "3"], "no usable examples"),
        (&["--method", "full", "--r", "8"], "setting of adapters"),
        (&["--method", "full", "--dora"], "--dora is a setting of adapters"),
        (&["--method", "full", "--rslora"], "--rslora is a setting of adapters"),
        (&["--method", "full", "--load-in-4bit"], "--load-in-4bit is a setting of adapters"),
        (&["--method", "qlora"], "invalid value 'qlora'"),
        (&["--drop", "0-4"], "every layer would be dropped"),
        (&["--drop", "9"], "layer 9"),
    ] {
        let message = fault(arguments);
        assert!(message.contains(said), "{arguments:?}: {message}");
    }
    let heal = |data: &str, out: &str, more: &[&str]| {
        place.fault(&[&["heal", "model", "--data", data, "-o", out], more].concat())
    };
    assert!(heal("nowhere.jsonl", "out", &[]).contains("cannot be read"));
    assert!(heal("empty.jsonl", "out", &[]).contains("no usable examples"));
    assert!(heal("sgr.jsonl", "taken", &[]).contains("already exists"));
    for taken in ["taken", "full_of_things", "model", "."] {
        let message = heal("sgr.jsonl", taken, &["--force"]);
        assert!(message.contains("is not one of") || message.contains("would replace"), "{message}");
    }
    let lock = lopper_record::OutputLock::take(&place.path("out")).unwrap();
    assert!(heal("sgr.jsonl", "out", &[]).contains("another process is writing this output"));
    drop(lock);
    place.write("out.partial", "not a state");
    assert!(heal("sgr.jsonl", "out", &[]).contains("training state is unusable"));
}

#[test]
fn healing_says_what_was_learned_from_and_whether_it_can_have_done_anything() {
    let place = workplace();
    let row = |i: usize| {
        let finish = ["stop", "stop", "stop", "length", "loop"][i % 5];
        json!({"instruction": format!("What is {i} + {i}?"), "output": format!("{}", 2 * i), "finish": finish})
    };
    let lines: Vec<String> = (0..100).map(|i| row(i).to_string()).collect();
    place.write("many.jsonl", &lines.join("\n"));
    let printed = place.run("heal model --data many.jsonl --batch 8 -o out --json");
    let (record, said) = (printed.json(), &printed.err);
    assert!(said.contains("60 of 100 examples"), "{said}");
    assert!(said.contains("20 cut off at the length limit, 20 repetitive"), "{said}");
    assert!(said.contains("6 examples are held out"), "{said}");
    assert!(said.contains("7 steps on 54 answers are too few"), "{said}");
    // Less than one step in ten: no warm-up.
    let stats = &record["stats"];
    assert_eq!((&stats["steps"], &stats["warmup"], &stats["examples"]), (&json!(7), &json!(0), &json!(54)));
    assert_eq!((&stats["held_out"]["documents"], &record["recipe"]["warmup"]), (&json!(6), &json!("auto")));
    let (first, last) = (&stats["held_out"]["first"], &stats["held_out"]["last"]);
    assert!(first.as_f64().unwrap() > 0.0 && last.as_f64().unwrap() > 0.0);
    assert!(said.contains("on 6 held-out answers"), "{said}");

    let printed = place.run("heal model --data many.jsonl --batch 8 --held-out 0 --warmup 50 -o all --json");
    let stats = &printed.json()["stats"];
    assert_eq!((&stats["examples"], &stats["warmup"], &stats["held_out"]), (&json!(60), &json!(50), &Value::Null));
    assert!(
        printed.err.contains("all of the training, 8 steps, was within the warm-up of 50 steps"),
        "{}",
        printed.err
    );
}
