//! `lopper heal --export`: the examples and settings of a recipe, and TRL's training compared with Lopper's.
//!
//! How configurations for axolotl and torchtune were checked is in `design/healing.md`.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::Workplace;
use lopper_testkit::{Feature, skip_unless};
use serde_json::{Value, json};

/// Answers of the model itself to sums, with their tokens, and rows without.
fn workplace() -> Workplace {
    let place = Workplace::new(true);
    let prompts: Vec<String> =
        (0..40).map(|i| json!({"prompt": format!("What is {i} + {}?", i % 7)}).to_string()).collect();
    place.write("prompts.jsonl", &prompts.join("\n"));
    place.run("generate model --prompts prompts.jsonl --max-new-tokens 12 --temperature 1 -o own.jsonl");
    let row = |i: usize| {
        let (question, answer) = (format!("What is {i} + {i}?"), format!("{i} + {i} = {}", 2 * i));
        json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
    };
    let lines: Vec<String> = (0..20).map(|i| row(i).to_string()).collect();
    place.write("rows.jsonl", &lines.join("\n"));
    place
}

const QUICK: &str = "heal model --drop 1,3 --data rows.jsonl --batch 8 --held-out 4";

fn ids(row: &Value, key: &str) -> Vec<i64> {
    row[key].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
}

#[test]
fn examples_are_lopper_s_tokens_with_labels_on_the_answers() {
    let place = workplace();
    // Answers that were cut off at their length are left out, so a generated one is given an end here.
    let mut rows = place.read_lines("own.jsonl");
    rows.iter_mut().for_each(|row| row["finish"] = "stop".into());
    place.write("own.jsonl", &rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"));
    let printed = place.run("heal model --data own.jsonl --held-out none --seed 3 --export trl -o recipe");
    assert!(printed.err.contains("a recipe for trl: 40 examples"), "{}", printed.err);
    let exported = place.read_lines("recipe/train.jsonl");
    assert_eq!(exported.len(), rows.len());
    let mut order = Vec::new();
    for row in &exported {
        let (tokens, labels) = (ids(row, "input_ids"), ids(row, "labels"));
        assert_eq!(ids(row, "attention_mask"), vec![1; tokens.len()]);
        let found = rows.iter().position(|own| {
            let (prompt, response) = (ids(own, "prompt_token_ids"), ids(own, "response_token_ids"));
            let masked: Vec<i64> = prompt.iter().map(|_| -100).chain(response.iter().copied()).collect();
            [prompt, response].concat() == tokens && masked == labels
        });
        order.push(found.unwrap_or_else(|| panic!("{row} is none of the generated answers")));
    }
    assert_ne!(order, (0..rows.len()).collect::<Vec<_>>(), "in the order of the first epoch");
    assert_eq!(place.read_json("recipe/heal.json")["export"], "trl");

    // All tokens, where all are learned; `--force` replaces a recipe.
    assert!(place.fault("heal model --data own.jsonl --export trl -o recipe").contains("exists"));
    place.run("heal model --data own.jsonl --held-out none --train-on-inputs --export axolotl -o recipe --force");
    let row = &place.read_lines("recipe/train.jsonl")[0];
    assert_eq!(ids(row, "labels"), ids(row, "input_ids"));
    assert_eq!(place.names(), ["model", "own.jsonl", "prompts.jsonl", "recipe", "rows.jsonl"]);
    assert!(!place.path("recipe/train.py").exists());
}

#[test]
fn settings_are_spelled_as_each_program_does() {
    let place = workplace();
    let lora = "--r 6 --alpha 9 --dropout 0.25 --rslora --dora --lr 0.002 --schedule cosine --warmup 2 --epochs 3 \
                --seed 5 --train-layers last:2 --eval-steps 2 --patience 3";
    place.run(&format!("{QUICK} {lora} --export trl -o trl"));
    let script = place.read("trl/train.py");
    for part in [
        "MODEL = str(HERE / \"model\")",
        "WARMUP_STEPS = 2",
        "DECAY = 1.0",
        "COSINE = True",
        "SEED = 5",
        "r=6",
        "lora_alpha=9.0",
        "lora_dropout=0.25",
        "layers_to_transform=[1, 2]",
        "use_rslora=True",
        "use_dora=True",
        "num_train_epochs=3",
        "per_device_train_batch_size=4",
        "gradient_accumulation_steps=2",
        "adam_beta2=0.99",
        "eval_steps=2",
        "load_best_model_at_end=True",
        "EarlyStoppingCallback(early_stopping_patience=3)",
    ] {
        assert!(script.contains(part), "{part}: {script}");
    }
    assert!(!script.contains('@'), "every name is filled in");
    place.run(&format!("{QUICK} {lora} --export axolotl -o axolotl"));
    let config = place.read("axolotl/config.yaml");
    for part in [
        "lora_r: 6\nlora_alpha: 9\nlora_dropout: 0.25",
        "peft_layers_to_transform: [1,2]\npeft_use_rslora: true\npeft_use_dora: true",
        "adam_epsilon: 0.00000001",
        "lr_scheduler: cosine\nwarmup_steps: 2",
        "early_stopping_patience: 3",
        "- path: held_out.jsonl",
    ] {
        assert!(config.contains(part), "{part}: {config}");
    }
    place.run(&format!("{QUICK} --decay 0.5 --warmup 1 --epochs 2 --export axolotl -o falling"));
    let config = place.read("falling/config.yaml");
    assert!(config.contains("lr_scheduler_kwargs:\n  num_decay_steps: 2\n  decay_type: linear"), "{config}");
    let readme = place.read("falling/README.md");
    assert!(readme.contains("lopper prune ") && readme.contains("--drop 1,3 -o model"), "{readme}");
    assert!(readme.contains("axolotl train config.yaml") && readme.contains("first step has a learning rate of 0"));
}

/// A Llama of two layers.
fn write_llama(place: &Workplace) {
    let mut config = place.read_json("model/config.json");
    config["model_type"] = "llama".into();
    config["architectures"] = json!(["LlamaForCausalLM"]);
    config["head_dim"] = 6.into();
    let path = place.path("llama");
    std::fs::create_dir(&path).unwrap();
    let config = config.as_object().unwrap();
    let described = lopper_model::families::parse_config(config, Path::new("config.json")).unwrap();
    let model = lopper_model::Model::random(described, 0.3, 11).unwrap();
    model.save(&path, config, lopper_model::checkpoint::Dtype::F32).unwrap();
    lopper_pocket::model_files::write(&path).unwrap();
}

#[test]
fn torchtune_builds_what_it_has_a_builder_for() {
    let place = workplace();
    write_llama(&place);
    let quick = "heal llama --data rows.jsonl --drop 4 --rslora --r 4 --alpha 2 --batch 6";
    place.run(&format!("{quick} --export torchtune -o tune"));
    let config = place.read("tune/config.yaml");
    for part in [
        "lora_llama3_2\n",
        "num_layers: 4\n",
        "tie_word_embeddings: true",
        "model_type: LLAMA3_2",
        "lora_alpha: 4\n",
        "batch_size: 3\ngradient_accumulation_steps: 2",
        "checkpoint_files: [\"model.safetensors\"]",
        "_component_: lopper_recipe.schedule",
    ] {
        assert!(config.contains(part), "{part}: {config}");
    }
    let readme = place.read("tune/README.md");
    assert!(readme.contains("alpha times √r = 2.0000") && readme.contains("Steps are of whole batches"), "{readme}");
    for (arguments, message) in [
        ("--export torchtune --method full", "training of all weights"),
        ("--export torchtune --load-in-4bit", "weights in 4 bits"),
        ("--export torchtune --train-layers last:1", "adapter on some layers"),
        ("--export trl --distill", "distillation"),
        ("--export trl --method full --train-layers last:1", "some layers' own weights"),
        ("--export axolotl --alpha 2.5", "whole number"),
        ("--export trl --merge", "cannot be used with"),
        ("--export trl --log log.jsonl", "cannot be used with"),
    ] {
        let fault = place.fault(&format!("heal llama --data rows.jsonl --drop 4 {arguments} -o out"));
        assert!(fault.contains(message), "{arguments}: {fault}");
    }
    assert!(place.fault("heal model --data rows.jsonl --export torchtune -o out").contains("no builder"));
    assert!(place.fault("heal pocket --data rows.jsonl --export trl -o out").contains("embedded model"));
    let fault = place.fault("lop llama --to 3 --data rows.jsonl --export trl -o out");
    assert!(fault.contains("removed during the training"), "{fault}");
}

/// A Python with TRL; without one the test is skipped.
#[track_caller]
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("LOPPER_TRL_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let has = Command::new(&python).args(["-c", "import trl, peft"]).output().is_ok_and(|run| run.status.success());
    skip_unless(Feature::Trl, has.then_some(python))
}

fn run_python(python: &Path, place: &Workplace, arguments: &[&str]) -> String {
    let mut command = Command::new(python);
    command.current_dir(place.dir.path()).args(arguments).env("HF_HUB_OFFLINE", "1").env("CUDA_VISIBLE_DEVICES", "");
    command.env("HF_HOME", place.path("cache")).env("PYTHONDONTWRITEBYTECODE", "1");
    let run = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(run.status.success(), "{}", text(&run.stderr));
    text(&run.stdout)
}

/// The losses that TRL logged, by step.
fn trl_losses(place: &Workplace, recipe: &str, steps: usize) -> Vec<f64> {
    let state = place.read_json(&format!("{recipe}/checkpoints/checkpoint-{steps}/trainer_state.json"));
    let history = state["log_history"].as_array().unwrap().iter();
    history.filter_map(|entry| entry["loss"].as_f64()).collect()
}

fn lopper_losses(place: &Workplace, log: &str) -> Vec<f64> {
    place.read_lines(log).iter().filter_map(|entry| entry["loss"].as_f64()).collect()
}

/// What PEFT computes with an adapter: the log-probability of every predicted token.
const PEFT: &str = r#"
import json, sys, peft, torch, transformers
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
model = peft.PeftModel.from_pretrained(model, sys.argv[2]).eval()
with torch.no_grad():
    for tokens in json.load(open(sys.argv[3])):
        logprobs = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
        print(json.dumps([logprobs[i - 1, tokens[i]].item() for i in range(1, len(tokens))]))
"#;

/// Losses of equal steps agree to this part of them: sums in f32 in another order, over ten steps of AdamW.
const LOSS: f64 = 2e-4;

#[test]
fn trl_trains_the_same_and_its_adapter_is_read_back() {
    let Some(python) = &python() else { return };
    let place = &workplace();
    // All weights: nothing is drawn, so that every step must have the same loss. Micro-batches of 4, the last batch
    // smaller, warm-up, a rate that falls, and decay of every weight.
    let full = "heal model --drop 1,3 --data rows.jsonl --batch 8 --held-out none --method full --warmup 2 --lr 0.003 \
                --decay 0.5";
    place.run(&format!("{full} --export trl -o full"));
    place.run("prune model --drop 1,3 -o full/model");
    run_python(python, place, &["full/train.py"]);
    place.run(&format!("{full} --log full.jsonl -o healed"));
    let (theirs, ours) = (trl_losses(place, "full", 3), lopper_losses(place, "full.jsonl"));
    assert!(ours.len() == 3 && theirs.len() == 3, "{ours:?}, {theirs:?}");
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a / b - 1.0).abs() < LOSS, "{ours:?}, {theirs:?}");
    }
    let sequences: Vec<Vec<i64>> =
        place.read_lines("full/train.jsonl").iter().take(4).map(|row| ids(row, "input_ids")).collect();
    place.write("ids.json", &json!(sequences).to_string());
    let mean_nll = |arguments: &str| {
        place.json(&format!("logprobs {arguments} --tokens ids.json --json"))["mean_nll"].as_f64().unwrap()
    };
    let (theirs, ours) = (mean_nll("full/healed"), mean_nll("healed"));
    assert!((theirs / ours - 1.0).abs() < LOSS, "the trained models differ: {ours}, {theirs}");
    assert!((mean_nll("full/model") / ours - 1.0).abs() > 10.0 * LOSS, "training changed something");

    // An adapter begins with drawn values that change nothing, so the first loss is the same.
    let lora = "heal model --drop 1,3 --data rows.jsonl --batch 8 --held-out 4 --r 4 --lr 0.02 --epochs 2";
    place.run(&format!("{lora} --export trl -o lora"));
    place.run("prune model --drop 1,3 -o lora/model");
    run_python(python, place, &["lora/train.py"]);
    place.run(&format!("{lora} --log lora.jsonl -o adapter"));
    let (theirs, ours) = (trl_losses(place, "lora", 4), lopper_losses(place, "lora.jsonl"));
    assert!((ours[0] / theirs[0] - 1.0).abs() < LOSS, "{ours:?}, {theirs:?}");
    let printed = place.json("logprobs model --drop 1,3 --adapter lora/adapter --tokens ids.json --json");
    let expected = run_python(python, place, &["-c", PEFT, "lora/model", "lora/adapter", "ids.json"]);
    let expected: Vec<Vec<f64>> = expected.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (sequence, expected) in printed["sequences"].as_array().unwrap().iter().zip(&expected) {
        let ours = sequence["logprobs"].as_array().unwrap()[1..].iter().map(|x| x.as_f64().unwrap());
        assert!(ours.zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{sequence}, {expected:?}");
    }
    let change = mean_nll("model --drop 1,3 --adapter lora/adapter") - mean_nll("model --drop 1,3");
    assert!(change.abs() > 1e-3, "the adapter changes something: {change}");
    place.run("eval model --drop 1,3 --adapter lora/adapter --tasks pocket_kind --limit 4");
}
