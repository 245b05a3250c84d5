//! `lopper budget`: the answer of a study, from samples that lm-evaluation-harness or `lopper eval` wrote
//! (`fixtures/budget/make.py`).

mod common;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use common::{Printed, Workplace};
use serde_json::{Value, json};

const CUTS: [usize; 4] = [1, 3, 4, 6];
const TASKS: [&str; 2] = ["own_topics", "own_sums"];
const STUDY: &str = r#"
model = "pocket"
[items]
report = 120
select = 12
calibration = 8
[tasks]
classification = ["./topics.toml"]
generative = ["./sums.toml"]
[cuts]
strategies = ["reverse"]
depths = [1, 3, 4, 6]
main = "reverse"
[heal]
depths = []
data = "prompts.jsonl"
"#;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/budget").join(name)
}

/// A workplace with the tasks' files and their rows.
fn workplace() -> Workplace {
    let place = Workplace::new(false);
    for name in ["topics.toml", "topics.jsonl", "sums.toml", "sums.jsonl"] {
        std::fs::copy(fixture(name), place.path(name)).unwrap();
    }
    // What the criteria are calibrated on; the tasks' files name no training split.
    let prompts: String =
        (0..8).map(|n| json!({"instruction": format!("Name {n} birds.")}).to_string() + "\n").collect();
    place.write("prompts.jsonl", &prompts);
    place.write("study.toml", STUDY);
    place
}

/// The command line over directories or files that `of` names, for the uncut model (0) and each cut.
fn budget(of: impl Fn(usize) -> String) -> String {
    let cuts: Vec<String> = CUTS.iter().map(|removed| format!("--cut {removed}={}", of(*removed))).collect();
    format!("budget --base {} {}", of(0), cuts.join(" "))
}

/// The harness's samples with only the items in `kept`, as a directory for each model.
fn harness_samples(place: &Workplace, kept: &HashSet<(String, u64)>) {
    for removed in std::iter::once(0).chain(CUTS) {
        let from = if removed == 0 { "uncut".to_owned() } else { format!("cut{removed}") };
        std::fs::create_dir_all(place.path(&format!("lm/{removed}"))).unwrap();
        for task in TASKS {
            let name = format!("samples_{task}_2026-11-30T00-00-00.000000.jsonl");
            let text = std::fs::read_to_string(fixture(&from).join(&name)).unwrap();
            let wanted = |line: &&str| {
                let row: Value = serde_json::from_str(line).unwrap();
                kept.contains(&(task.to_owned(), row["doc_id"].as_u64().unwrap()))
            };
            let lines: Vec<&str> = text.lines().filter(wanted).collect();
            place.write(&format!("lm/{removed}/{name}"), &(lines.join("\n") + "\n"));
        }
    }
}

#[test]
fn samples_of_the_harness_and_of_eval_give_the_budget_of_the_study() {
    let place = workplace();
    let study = place.run("study study.toml --out out --json").json();
    // Each cut on the study's own items, by `eval`.
    let report = "--tasks ./topics.toml,./sums.toml --split report --limit 120";
    place.run(&format!("eval pocket {report} --samples-out 0.jsonl"));
    for point in study["points"].as_array().unwrap() {
        let removed = point["removed"].as_u64().unwrap();
        let dropped: Vec<String> = point["dropped"].as_array().unwrap().iter().map(Value::to_string).collect();
        place.run(&format!("eval pocket {report} --drop {} --samples-out {removed}.jsonl", dropped.join(",")));
    }
    let items = place
        .read_lines("0.jsonl")
        .into_iter()
        .map(|row| (row["task"].as_str().unwrap().to_owned(), row["doc_id"].as_u64().unwrap()));
    harness_samples(&place, &items.collect());

    let of_eval = place.json(&(budget(|removed| format!("{removed}.jsonl")) + " --json"));
    let of_harness = place.json(&(budget(|removed| format!("lm/{removed}")) + " --json"));
    assert_eq!(of_eval, of_harness);
    assert_eq!((&of_eval["keep"], &of_eval["confidence"]), (&json!(0.9), &json!(0.95)));

    let lines = study["budget"].as_array().unwrap();
    for task in TASKS {
        let line = lines.iter().find(|line| line["task"] == task && line["healed"] == false).unwrap();
        let group = &of_harness["groups"][task];
        assert_eq!(group["at_most"], line["max_layers"]);
        assert!(group["n"].as_u64().unwrap() > 60, "{group}");
        let (depths, of_study) = (group["depths"].as_array().unwrap(), line["depths"].as_array().unwrap());
        assert_eq!(depths.len(), CUTS.len());
        for (depth, own) in depths.iter().zip(of_study) {
            let retention = &own["retention"];
            assert_eq!([&depth["removed"], &depth["verdict"]], [&own["removed"], &own["verdict"]]);
            assert_eq!(depth["retention"], own["ratio"]);
            let bounds = [&retention["value"], &retention["lower95"], &retention["upper95"]];
            assert_eq!([&depth["corrected"], &depth["lower"], &depth["upper"]], bounds, "{task}");
            assert_eq!(depth["items_needed"], own["needed"]["items"]);
        }
    }
    // Both tasks are one of a group each, so the study has no worst and no mean; the command has.
    let worst = of_harness["groups"]["worst"]["depths"].as_array().unwrap();
    assert!(worst.iter().all(|depth| TASKS.contains(&depth["worst"].as_str().unwrap())));
    assert!(of_harness["groups"]["all"]["at_most"].as_u64() >= of_harness["groups"]["worst"]["at_most"].as_u64());
}

#[test]
fn choices_are_judged_above_chance_which_differs_by_item() {
    let place = Workplace::new(false);
    let command = budget(|removed| match removed {
        0 => fixture("uncut").display().to_string(),
        removed => fixture(&format!("cut{removed}")).display().to_string(),
    });
    let document = place.json(&(command.clone() + " --json"));
    // A third of the topics has three choices and the others four.
    let (n, chance) = (120.0, (40.0 / 3.0 + 80.0 / 4.0) / 120.0);
    for (depth, removed) in document["groups"]["own_topics"]["depths"].as_array().unwrap().iter().zip(CUTS) {
        let name = format!("cut{removed}/samples_own_topics_2026-11-30T00-00-00.000000.jsonl");
        let text = std::fs::read_to_string(fixture(&name)).unwrap();
        let right = text.lines().filter(|line| line.contains("\"acc\": 1.0")).count() as f64;
        let corrected = (right / n - chance) / (1.0 - chance);
        assert!((depth["corrected"].as_f64().unwrap() - corrected).abs() < 1e-9, "{depth}");
    }
    let Printed { out, .. } = place.run(&(command + " --layers 12"));
    assert!(
        out.starts_with("Cut at most 4 of 12 layers to keep ≥ 90 % of each of the 2 tasks, above chance."),
        "{out}"
    );
    assert!(out.contains("worst task") && out.contains("Not tried: 2, 5 removed."), "{out}");
}

#[test]
fn what_cannot_be_compared_is_refused_with_the_reason() {
    let place = Workplace::new(false);
    let line = |doc: u32, metric: &str, value: f64| {
        json!({"doc_id": doc, "task": "own", "target": doc.to_string(), "filter": "none", metric: value}).to_string()
    };
    let file = |name: &str, lines: &[String]| drop(place.write(name, &(lines.join("\n") + "\n")));
    let ones = |docs: std::ops::Range<u32>| docs.map(|doc| line(doc, "acc", 1.0)).collect::<Vec<_>>();
    file("base.jsonl", &ones(0..40));
    file("part.jsonl", &ones(10..40));
    file("apart.jsonl", &ones(40..50));
    file("metric.jsonl", &(0..40).map(|doc| line(doc, "f1", 1.0)).collect::<Vec<_>>());
    let other = ones(0..40).iter().map(|line| line.replace("\"target\":\"7\"", "\"target\":\"8\"")).collect::<Vec<_>>();
    file("other.jsonl", &other);
    file("nothing.jsonl", &[json!({"doc_id": 1, "task": "own"}).to_string()]);
    file("minus.jsonl", &(0..40).map(|doc| line(doc, "acc", -1.0)).collect::<Vec<_>>());
    std::fs::create_dir(place.path("empty")).unwrap();
    for (cut, words) in [
        ("apart.jsonl", "no item of `own` in common"),
        ("metric.jsonl", "not of one metric"),
        ("other.jsonl", "item 7 of `own` is not the same"),
        ("nothing.jsonl", "--metric"),
        ("minus.jsonl", "higher is better"),
        ("missing.jsonl", "missing.jsonl"),
        ("empty", "no samples"),
    ] {
        let message = place.fault(&format!("budget --base base.jsonl --cut 2={cut}"));
        assert!(message.contains(words), "{cut}: {message}");
    }
    let twice = place.fault("budget --base base.jsonl --cut 2=part.jsonl --cut 2=base.jsonl");
    assert!(twice.contains("two files have samples of `own`"), "{twice}");
    for arguments in ["--cut part.jsonl", "--cut 0=part.jsonl", "--cut 2=part.jsonl --keep 1.5", ""] {
        place.fault(&format!("budget --base base.jsonl {arguments}"));
    }
    let Printed { out, err } = place.run("budget --base base.jsonl --cut 2=part.jsonl");
    assert!(err.contains("own: 30 of 40 items, which all models have"), "{err}");
    assert!(
        out.contains("Cut at most 2 layers to keep ≥ 90 % of own. There 100 % is kept (at least 90.5 %)."),
        "{out}"
    );
}
