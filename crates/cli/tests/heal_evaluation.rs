//! `lopper heal`: the loss of what was written, evaluations on held-out examples, logs, and divergence.

mod common;

use common::Workplace;
use lopper_heal::TensorBoardLog;
use lopper_model::checkpoint::Dtype;
use lopper_model::families::config_json;
use lopper_model::{Checkpoint, Model};
use serde_json::{Value, json};

/// With sixty examples in `chats.jsonl`, and the model as a bf16 checkpoint in `small`.
fn workplace() -> Workplace {
    let place = Workplace::new(true);
    let row = |i: usize| json!({"instruction": format!("What is {i} + {i}?"), "output": format!("{}", 2 * i)});
    place.write("chats.jsonl", &(0..60).map(|i| row(i).to_string() + "\n").collect::<String>());
    let model = Model::from_checkpoint(&Checkpoint::open(&place.model()).unwrap()).unwrap();
    std::fs::create_dir(place.path("small")).unwrap();
    let config = config_json(&model.config, Dtype::BF16).unwrap();
    model.save(&place.path("small"), &config, Dtype::BF16).unwrap();
    lopper_pocket::model_files::write(&place.path("small")).unwrap();
    place
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn dtype(place: &Workplace, name: &str) -> Dtype {
    Checkpoint::open(&place.path(name)).unwrap().dtype()
}

#[test]
fn the_loss_of_what_was_written_is_reported_and_a_lost_gain_is_warned_of() {
    let place = workplace();
    let heal = |more: &str| {
        let command = format!("heal small --data chats.jsonl --method full --lr 2e-6 --warmup 0 --epochs 3 {more}");
        place.run(&command)
    };
    let printed = heal("-o rounded");
    assert!(printed.err.contains("of what was gained is lost") && printed.err.contains("--stochastic-rounding"));
    let lines: Vec<&str> = printed.out.lines().collect();
    assert!(lines[0] == "rounded" && lines[1].contains("6 held-out answers"), "{lines:?}");
    assert!(lines[1].contains("as written in bfloat16") && lines[1].ends_with("of the gain lost"), "{lines:?}");
    let record = place.read_json("rounded/heal.json");
    let written = &record["written"];
    let [start, trained, loss] = ["start", "trained", "written"].map(|name| number(&written[name]));
    assert_eq!((start, trained), {
        let held_out = &record["stats"]["held_out"];
        (number(&held_out["first"]), number(&held_out["last"]))
    });
    assert!(trained < start && trained < loss, "{written}");
    let lost = number(&written["gain_lost"]);
    assert!((lost - (loss - trained) / (start - trained)).abs() < 1e-12 && lost > 0.1, "{written}");
    assert!(place.read("rounded/README.md").contains(lines[1]), "the card says it as well");

    let printed = heal("--out-dtype float32 -o exact --json");
    let record = printed.json();
    assert_eq!((&record["written"]["written"], number(&record["written"]["trained"])), (&json!(trained), trained));
    assert_eq!((&record["written"]["dtype"], &record["written"]["gain_lost"]), (&json!("float32"), &json!(0.0)));
    assert!(!printed.err.contains("is lost"), "{}", printed.err);
    assert_eq!(
        [dtype(&place, "small"), dtype(&place, "rounded"), dtype(&place, "exact")],
        [Dtype::BF16, Dtype::BF16, Dtype::F32]
    );
    assert_eq!(place.read_json("exact/config.json")["torch_dtype"], "float32");

    let record = heal("--stochastic-rounding -o stochastic --json").json();
    assert_eq!(record["recipe"]["stochastic_rounding"], true);
    assert_eq!((&record["written"]["gain_lost"], dtype(&place, "stochastic")), (&json!(0.0), Dtype::BF16));

    // Without held-out examples, some of those that were trained on.
    let printed = heal("--held-out none --out-dtype float16 -o half --json");
    let written = printed.json()["written"].clone();
    assert_eq!(
        (&written["held_out"], &written["documents"], &written["dtype"]),
        (&json!(false), &json!(60), &json!("float16"))
    );
    assert_eq!(dtype(&place, "half"), Dtype::F16);
}

#[test]
fn a_merged_adapter_is_measured_and_one_apart_is_not() {
    let place = workplace();
    let options = "heal small --data chats.jsonl --lr 1e-5 --warmup 0 --epochs 2 --held-out none";
    let printed = place.run(&format!("{options} --merge -o merged"));
    assert!(printed.out.contains("60 training answers") && printed.out.contains("as written in bfloat16"));
    assert!(printed.err.contains("leave out --merge and keep the adapter apart"), "{}", printed.err);
    let printed = place.run(&format!("{options} -o adapter"));
    assert_eq!(printed.out, "adapter\n");
    assert_eq!(place.read_json("adapter/heal.json").get("written"), None);
    let message = place.fault(&format!("{options} --out-dtype float32 -o other"));
    assert!(message.contains("--out-dtype is for whole models"), "{message}");
}

#[test]
fn evaluations_keep_the_best_and_are_logged() {
    let place = workplace();
    let run = "heal model --data chats.jsonl --batch 10 --epochs 4 --held-out 0.2 --eval-steps 4 --log log.jsonl \
               --tensorboard runs/first -o out --json";
    let printed = place.run(run);
    let record = printed.json();
    assert!(printed.err.contains("12 examples are held out"), "{}", printed.err);
    let stats = &record["stats"];
    assert_eq!(record["evaluation"], json!({"every": 4, "keep": "best", "patience": 0}));
    // 48 examples in batches of ten: five steps an epoch.
    let evaluations = stats["evaluations"].as_array().unwrap();
    let steps: Vec<&Value> = evaluations.iter().map(|evaluated| &evaluated["step"]).collect();
    assert_eq!(json!(steps), json!([0, 4, 8, 12, 16, 20]));
    let best = evaluations.iter().min_by(|a, b| number(&a["loss"]).total_cmp(&number(&b["loss"]))).unwrap();
    assert_eq!((&stats["kept_step"], &stats["held_out"]["last"]), (&best["step"], &best["loss"]));

    let log = place.read_lines("log.jsonl");
    assert_eq!(log.iter().map(|line| &line["step"]).collect::<Vec<_>>(), (0..=20).collect::<Vec<_>>());
    let losses: Vec<&Value> = log[1..].iter().map(|line| &line["loss"]).collect();
    assert_eq!(json!(losses), stats["loss_curve"]);
    assert_eq!((&log[20]["tokens"], &log[20]["seconds"]), (&stats["tokens"], &stats["seconds"]));
    assert!(log[1..].iter().all(|line| number(&line["learning_rate"]) > 0.0));
    let held_out: Vec<&Value> = log.iter().filter_map(|line| line.get("held_out_loss")).collect();
    assert_eq!(json!(held_out), json!(evaluations.iter().map(|evaluated| &evaluated["loss"]).collect::<Vec<_>>()));
    assert_eq!(TensorBoardLog::files(&place.path("runs/first"), true).unwrap().len(), 1);

    // Nothing is written over, unless --force is given; then only what is Lopper's.
    let again = |more: &str| {
        let command = run.replace("-o out", &format!("-o other {more}"));
        place.fault(&command)
    };
    assert!(again("").contains("log.jsonl"));
    place.write("runs/first/events.out.tfevents.1.machine", "");
    assert!(again("--force").contains("event files of another run"));
    std::fs::remove_file(place.path("runs/first/events.out.tfevents.1.machine")).unwrap();
    let forced = place.json(&run.replace("--json", "--json --force"));
    assert_eq!(forced["stats"]["evaluations"], stats["evaluations"]);
    assert_eq!(TensorBoardLog::files(&place.path("runs/first"), false).unwrap().len(), 1);
    assert_eq!(place.read_lines("log.jsonl").len(), 21);

    // Patience: a rate at which nothing is learned about other examples.
    let row = |i: usize| json!({"prompt": format!("{i}"), "completion": format!("{}", (i * 7919) % 1000)});
    place.write("other.jsonl", &(0..8).map(|i| row(i).to_string() + "\n").collect::<String>());
    let printed = place.run(
        "heal model --data chats.jsonl --held-out other.jsonl --eval-steps 1 --patience 2 --lr 0.3 --warmup 0 --epochs 9 \
         --divergence-steps 0 -o early --json",
    );
    let record = printed.json();
    let steps = number(&record["stats"]["steps"]);
    assert_eq!(record["stats"]["stopped"], json!({"reason": "patience"}));
    assert_eq!(
        (&record["held_out_file"], &record["stats"]["held_out"]["documents"]),
        (&json!("other.jsonl"), &json!(8))
    );
    assert_eq!(number(&record["stats"]["kept_step"]), steps - 2.0);
    assert!(printed.err.contains(&format!("stopped after {steps} of 36 steps")), "{}", printed.err);
}

#[test]
fn a_training_that_diverges_says_where_and_with_which_examples() {
    let place = workplace();
    // Of random weights the loss is that of guessing at first, and no divergence is much above it. That the best
    // weights before a divergence are kept is tested in the library, since when a training diverges depends on the
    // processor.
    place.run("heal model --data chats.jsonl --method full --epochs 4 --lr 3e-3 -o learned");
    let options = "heal learned --data chats.jsonl --method full --batch 6 --epochs 9 --lr 12 --warmup 60";
    let message = place.fault(&format!("{options} --divergence-steps 5 -o out"));
    assert!(message.contains("training diverged") && message.contains("rows "), "{message}");
    assert!(!place.path("out").exists());
}

#[test]
fn what_does_not_fit_together_is_refused_before_the_training() {
    let place = workplace();
    let fault = |more: &str| place.fault(&format!("heal model --data chats.jsonl -o out {more}"));
    for (options, said) in [
        ("--held-out 1.5", "--held-out is out of range"),
        ("--held-out 0.0", "--held-out is out of range"),
        ("--held-out nowhere.jsonl", "nowhere.jsonl"),
        ("--held-out chats.jsonl", "has the prompt of a held-out one"),
        ("--held-out none --eval-steps 5", "no held-out examples"),
        ("--keep best", "--eval-steps"),
        ("--patience 2", "--eval-steps"),
        ("--eval-steps 0", "--eval-steps"),
        ("--stochastic-rounding", "stochastic rounding"),
        ("--stochastic-rounding --method full", "written as something else"),
        ("--log out/log.jsonl", "inside the output"),
        ("--tensorboard out", "inside the output"),
        ("--log model", "already exists"),
        ("--tensorboard chats.jsonl", "is not a directory"),
    ] {
        let message = fault(options);
        assert!(message.contains(said), "{options}: {message}");
    }
}

#[test]
fn examples_of_several_files_are_mixed() {
    let place = workplace();
    let row = |i: usize| json!({"instruction": format!("Say {i}."), "output": format!("{i}!")});
    place.write("more.jsonl", &(0..10).map(|i| row(i).to_string() + "\n").collect::<String>());
    let heal = "heal model --data chats.jsonl --data more.jsonl --epochs 1 --held-out none";
    let examples = |more: &str, out: &str| {
        place.run(&format!("{heal} {more} -o {out}"));
        let record = place.read_json(&format!("{out}/heal.json"));
        assert_eq!(record["data"], json!(["chats.jsonl", "more.jsonl"]));
        record["examples"].clone()
    };
    assert_eq!(examples("", "all")["used"], 70);
    let mixed = examples("--mix 0.5,0.5", "mixed");
    assert_eq!((&mixed["rows"], &mixed["used"], &mixed["not_drawn"]), (&json!(70), &json!(20), &json!(50)));
    for wrong in ["0.5", "0,0", "1,-1"] {
        let message = place.fault(&format!("{heal} --mix={wrong} -o wrong"));
        assert!(message.contains("one for each --data"), "{message}");
    }
}
