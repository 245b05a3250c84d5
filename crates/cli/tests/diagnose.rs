//! `lopper diagnose` on files of responses and on a tiny random model that speaks the pocket tokenizer.

mod common;

use common::{Printed, Workplace, lopper};
use serde_json::{Value, json};

const LINES: &str = concat!(
    "{\"response\":\"The cat sat. The cat ran. 2 + 2 = 5.\",\"finish\":\"stop\"}\n",
    "{\"text\":\"one two three four\"}\n",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"?\"},{\"role\":\"assistant\",\"content\":\"3 * 3 = 9.\"}]}\n",
    "broken\n",
    "{\"doc_id\":1,\"resps\":[[\"and on and on and on and on and on and on and on and on and on and on\"]]}\n",
    "{\"output\":7}\n",
);

#[test]
fn responses_of_other_programs() {
    let place = Workplace::new(false);
    place.write("r.jsonl", LINES);
    let command = ["diagnose", "r.jsonl", "--json", "--figures-out", "each.jsonl"];
    let printed = place.run(&command);
    let (found, messages) = (printed.json(), printed.err);
    assert_eq!((&found["degeneration"]["responses"], &found["broken"]), (&json!(4), &json!(2)));
    assert_eq!(found["degeneration"]["loops"], 1);
    assert_eq!(found["loops"][0]["line"], 5);
    assert_eq!(found["steps"]["slips"][0]["equation"], "2 + 2 = 5");
    let lines: Vec<&Value> = found["broken_lines"].as_array().unwrap().iter().map(|broken| &broken["line"]).collect();
    assert_eq!(lines, [4, 6]);
    // The broken lines are named on standard error, with the file.
    assert!(
        messages.contains("r.jsonl: line 4: the line is not JSON") && messages.contains("line 6: `output`"),
        "{messages}"
    );
    let each = place.read_lines("each.jsonl");
    assert_eq!(each.iter().map(|line| line["line"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 5]);
    assert_eq!(each[0]["slip"]["value"], "4");
    place.fault(&command);

    let table = place.run("diagnose r.jsonl --limit 2").out;
    assert!(table.contains("Rep-4, %") && table.contains("2 + 2 = 5  (is 4)"), "{table}");
    // From standard input.
    let piped = Printed::of(&lopper().args(["diagnose", "-", "--json"]).write_stdin(LINES).assert().success()).json();
    assert_eq!(piped["degeneration"], found["degeneration"]);
}

#[test]
fn two_files_of_samples_are_laid_beside_each_other() {
    let place = Workplace::new(false);
    let eval = "eval pocket --tasks pocket_word,pocket_code,pocket_kind --limit 8 --samples-out";
    place.run(&format!("{eval} uncut.jsonl"));
    place.run(&format!("{eval} cut.jsonl --drop 5-11"));
    let found = place.json("diagnose cut.jsonl --base uncut.jsonl --ledger-out ledger.jsonl --json");
    // Eight of multiple choice have no text.
    assert_eq!((&found["degeneration"]["responses"], &found["without_text"]), (&json!(16), &json!(8)));
    let ledger = &found["diagnosis"]["ledger"];
    assert_eq!(ledger["compared"], 16);
    let lost = ledger["lost"].as_u64().unwrap();
    assert!(lost > 4, "{ledger}");
    assert_eq!(place.read_lines("ledger.jsonl").len() as u64, lost + ledger["gained"].as_u64().unwrap());
    assert_eq!(found["diagnosis"]["programs"].as_object().unwrap().len(), 7);
    // The same as asking the model itself.
    let asked = place.json("diagnose pocket --drop 5-11 --tasks pocket_word,pocket_code --limit 8 --json");
    assert_eq!(asked["cut"]["diagnosis"]["ledger"], *ledger);
    place.fault(&["diagnose", "cut.jsonl", "--ledger-out", "other.jsonl"]);
    place.write("unjudged.jsonl", "{\"text\":\"x\"}\n");
    place.fault(&["diagnose", "unjudged.jsonl", "--base", "uncut.jsonl"]);
}

#[test]
fn what_cannot_be_diagnosed_is_refused() {
    let place = Workplace::new(true);
    place.write("r.jsonl", LINES);
    place.write("none.jsonl", "{\"question\":\"?\"}\n");
    place.write("rows.jsonl", "{\"context\":\"2 plus 3?\"}\n");
    place.write("few.jsonl", "{\"context\":\"2 plus 3?\",\"completion\":\" 5\"}\n");
    insta::assert_snapshot!("no_response_in_the_file", place.fault(&["diagnose", "none.jsonl"]));
    insta::assert_snapshot!("no_such_responses", place.fault(&["diagnose", "nowhere.jsonl"]));
    insta::assert_snapshot!("responses_have_no_layers", place.fault(&["diagnose", "r.jsonl", "--drop", "1"]));
    insta::assert_snapshot!("not_arithmetic", place.fault(&["diagnose", "model", "--arithmetic", "rows.jsonl"]));
    insta::assert_snapshot!("few_rows", place.fault(&["diagnose", "model", "--arithmetic", "few.jsonl"]));
    for wrong in
        ["--operations 0", "--drop 9", "--adapter model", "--figures-out f.jsonl", "--tasks pocket_wrod", "--out model"]
    {
        place.fault(&format!("diagnose model {wrong}"));
    }
    place.fault("diagnose nowhere");
}

#[test]
fn a_model_its_cut_and_every_single_removal() {
    let place = Workplace::new(true);
    let command = ["diagnose", "model", "--drop", "1,3", "--sweep", "--limit", "3", "--out", "out", "--json"];
    let found = place.json(&command);
    assert_eq!(found["model"]["num_layers"], 5);
    assert_eq!((&found["uncut"]["removed"], &found["cut"]["dropped"]), (&json!(0), &json!([1, 3])));
    assert!(found.get("healed").is_none());
    let sweep = found["sweep"].as_array().unwrap();
    assert_eq!(sweep.iter().map(|row| row["layer"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    for row in sweep.iter().chain([&found["uncut"], &found["cut"]]) {
        let diagnosis = &row["diagnosis"];
        assert_eq!(diagnosis["arithmetic"]["accuracy"]["n"], 3, "{diagnosis}");
        assert_eq!(diagnosis["degeneration"]["responses"], 9, "word problems, programs, summaries");
        assert!(diagnosis["perplexity"].as_f64().unwrap() > 1.0);
        let [low, high] = [0, 1].map(|end| diagnosis["perplexity_ci95"][end].as_f64().unwrap());
        assert!((low..high).contains(&diagnosis["perplexity"].as_f64().unwrap()), "{diagnosis}");
        let programs = diagnosis["programs"].as_object().unwrap();
        assert_eq!(programs.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), 3);
    }
    let change = &found["cut"]["diagnosis"]["arithmetic"]["logprob_change"]["value"];
    let logprob = |model: &str| found[model]["diagnosis"]["arithmetic"]["logprob"]["value"].as_f64().unwrap();
    assert!((change.as_f64().unwrap() - (logprob("cut") - logprob("uncut"))).abs() < 1e-9);

    // Dropping is examining the pruned model, whose layers keep their numbers.
    place.run("prune model --drop 1,3 -o cut");
    let pruned = place.json(&["diagnose", "cut", "--limit", "3", "--json", "--sweep"]);
    for part in ["degeneration", "brackets", "programs", "perplexity"] {
        assert_eq!(pruned["uncut"]["diagnosis"][part], found["cut"]["diagnosis"][part], "{part}");
    }
    assert_eq!(pruned["sweep"][1]["layer"], 2);

    // The record, the report and the ledger lie in the directory, and the report can be made again.
    for name in ["study.json", "report.html", "ledger.jsonl"] {
        assert!(place.path("out").join(name).exists(), "{name}");
    }
    let report = place.read("out/report.html");
    assert!(report.contains("<section id=\"diagnosis\">") && report.contains("One layer removed"));
    place.run("report out");
    assert_eq!(place.read("out/report.html"), report);
}

#[test]
fn probes_of_ones_own() {
    let place = Workplace::new(true);
    let rows: String =
        (1..8).map(|n| format!("{{\"context\":\"Q: {n} plus 1?\\nA:\",\"completion\":\" {}\"}}\n", n + 1)).collect();
    place.write("rows.jsonl", &rows);
    place.write("ask.jsonl", "{\"prompt\":\"Tom has 2 apples.\"}\n{\"prompt\":\"Ann has 3 pens.\"}\n");
    let command = ["diagnose", "model", "--tasks", "pocket_kind", "--max-new-tokens", "5", "--json"];
    let found = place.json(&[&command[..], &["--arithmetic", "rows.jsonl", "--prompts", "ask.jsonl"]].concat());
    let diagnosis = &found["uncut"]["diagnosis"];
    assert_eq!(diagnosis["arithmetic"]["accuracy"]["n"], 4, "three of seven rows are worked examples");
    assert_eq!(diagnosis["degeneration"]["responses"], 2);
    let found = place.json(&[&command[..], &["--operations", "3", "--digits", "2", "--limit", "4"]].concat());
    let source = found["uncut"]["diagnosis"]["arithmetic"]["source"].as_str().unwrap();
    assert!(source.contains("3 operations on 2-digit numbers"), "{source}");
    // A person reads a table.
    let table = place.run("diagnose model --tasks pocket_kind --max-new-tokens 5 --limit 3 --sweep").out;
    assert!(table.contains("arithmetic, first digit right"), "{table}");
    let head = table.lines().find(|line| line.starts_with("without ")).unwrap();
    assert!(head.split_whitespace().nth(1) == Some("perplexity") && table.contains(" to "), "{table}");
}

/// The adapter is asked beside the uncut and the cut model, and says what it says alone.
#[test]
fn a_healed_cut_is_laid_beside_the_uncut_and_the_cut_model() {
    let place = Workplace::new(false);
    let line = |i: usize| {
        let (user, answer) = (format!("What is {i} + 2?"), format!("{}", i + 2));
        json!({"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]}).to_string()
    };
    place.write("sgr.jsonl", &(0..24).map(|i| line(i) + "\n").collect::<String>());
    place.run("heal pocket --drop 7-11 --data sgr.jsonl -o healed --epochs 2 --batch 4 --warmup 1 --lr 0.01");
    let (tasks, healed) = ("--tasks pocket_word,pocket_arith --limit 8", "--drop 7-11 --adapter healed");
    place.run(&format!("eval pocket --samples-out uncut.jsonl {tasks}"));
    place.run(&format!("eval pocket --samples-out healed.jsonl {tasks} {healed}"));
    let found = place.json(&format!("diagnose pocket {healed} {tasks} --json"));
    let alone = place.json("diagnose healed.jsonl --base uncut.jsonl --json");
    assert_eq!(found["healed"]["diagnosis"]["ledger"], alone["diagnosis"]["ledger"]);
    assert_ne!(found["healed"]["diagnosis"], found["cut"]["diagnosis"], "the adapter does something");
}
