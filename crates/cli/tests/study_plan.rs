//! `lopper study --plan` and `--budget` as a user meets them.

mod common;

use common::{Printed, SMALL_STUDY, Workplace};
use serde_json::Value;

fn workplace() -> Workplace {
    let place = Workplace::new(true);
    place.write("study.toml", SMALL_STUDY);
    place
}

fn stages(plan: &Value) -> Vec<(&str, usize, usize)> {
    let count = |stage: &Value| {
        let cells = stage["cells"].as_array().unwrap();
        (cells.len(), cells.iter().filter(|cell| cell["finished"] == true).count())
    };
    let stages = plan["stages"].as_array().unwrap().iter();
    stages.map(|stage| (stage["name"].as_str().unwrap(), count(stage).0, count(stage).1)).collect()
}

#[test]
fn a_plan_says_what_a_study_takes_and_leaves_nothing() {
    let place = workplace();
    let Printed { out, err } = place.run("study study.toml --out new/study --plan");
    for part in ["layer map", "time left", "\nmemory: about ", "\ndisk: about ", " are free)", "of measuring on "] {
        assert!(out.contains(part), "no `{part}` in\n{out}\n{err}");
    }
    assert!(!place.path("new").exists());

    let plan = place.json("study study.toml --out new/study --plan --json");
    let expected = [
        ("uncut model", 2, 0),
        ("layer criteria", 1, 0),
        ("layer map", 5, 0),
        ("sentinels", 10, 0),
        ("cuts", 4, 0),
        ("speed", 1, 0),
    ];
    assert_eq!(stages(&plan), expected);

    place.run("study study.toml --out new/study");
    let plan = place.json("study study.toml --out new/study --plan --json");
    assert!(stages(&plan).iter().all(|(_, cells, finished)| cells == finished), "{plan}");
    let names: Vec<&str> = stages(&plan).iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, expected.map(|(name, ..)| name));
    assert!(plan["stages"][4]["cells"][0]["what"].as_str().unwrap().starts_with("reverse: without "), "{plan}");
    assert_eq!(plan["seconds"], 0.0);
}

#[test]
fn one_question_is_answered_and_the_study_ends() {
    let place = workplace();
    let Printed { out, err } = place.run("study study.toml --out out --budget pocket_brackets>=0.8");
    assert!(out.contains("can go is not known for pocket brackets"), "{out}");
    assert!(err.contains("`pocket_brackets>=0.8` was decided; not measured: cuts of 2 layers, bi"), "{err}");
    let record: Value = serde_json::from_str(&place.read("out/study.json")).unwrap();
    assert_eq!(record["points"].as_array().unwrap().len(), 1);
    assert_eq!(record["command"], "lopper study study.toml --out out --budget \"pocket_brackets>=0.8\"");
    let printed = place.run("study study.toml --budget pocket_brackets>=0.8 --print-recipe").out;
    assert!(printed.contains("goal = \"pocket_brackets>=0.8\""), "{printed}");
}

#[test]
fn a_question_about_nothing_is_refused() {
    let place = workplace();
    insta::assert_snapshot!("no_such_task", place.fault("study study.toml --budget gsm8k>=0.9"));
    insta::assert_snapshot!("no_floor", place.fault("study study.toml --budget pocket_kind>=90"));
}
