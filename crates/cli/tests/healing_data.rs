//! What healing learns from: several answers to a prompt, graded by their tasks, and what is left out of them.

mod common;

use common::{Printed, Workplace};
use serde_json::{Value, json};

/// A row of a conversation.
fn row(question: &str, answer: &str) -> String {
    json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}).to_string()
}

/// Sums, of which one is there twice, one in another form, and one is evaluated; a loop; and a short answer.
fn examples() -> Vec<String> {
    let mut rows: Vec<String> =
        (0..12).map(|i| row(&format!("What is {i} + {i}?"), &format!("{i} + {i} = {}", 2 * i))).collect();
    rows.push(row("What is 3 + 3?", "3 + 3 = 6"));
    rows.push(row("What is  3 + 3 ?", "3 + 3 = 6."));
    rows.push(row("What is 40 + 2?", "It is what Tom has."));
    rows.push(row("Tom has 3 apples. Tom has 4 apples.", &"7 apples and ".repeat(20)));
    rows.push(row("Is it 5?", "5"));
    rows
}

const QUICK: [&str; 9] =
    ["heal", "model", "--data", "data.jsonl", "--batch=8", "--warmup=1", "--epochs=1", "-o", "out"];

#[test]
fn what_is_left_out_is_counted_and_each_filter_can_be_turned_off() {
    let place = Workplace::new(true);
    place.write("data.jsonl", &examples().join("\n"));
    place.write("evaluated.jsonl", &json!({"question": "What is 40 + 2?", "answer": "42"}).to_string());
    let heal = |options: &[&str]| {
        let err = place.run(&[&QUICK[..], &["--force"], options].concat()).err;
        (err, place.read_json("out/heal.json"))
    };

    let (said, record) = heal(&[]);
    assert!(said.contains("15 of 17 examples") && said.contains("1 repetitive, 1 duplicates"), "{said}");
    let examples = &record["examples"];
    assert_eq!((&examples["repetitive"], &examples["duplicate"]), (&json!(1), &json!(1)), "{examples}");
    assert_eq!(record["filters"]["duplicates"], "exact");
    assert_eq!(record["stats"]["examples"], 15);

    let decontaminate = ["--decontaminate", "evaluated.jsonl", "--deduplicate=near", "--min-answer-tokens=3"];
    let (said, record) = heal(&decontaminate);
    assert!(
        said.contains("overlap with 1 evaluated items") && said.contains("1 with items of evaluated.jsonl"),
        "{said}"
    );
    let examples = &record["examples"];
    assert_eq!(
        ["used", "overlap", "near_duplicate", "short_answer"].map(|key| examples[key].as_u64().unwrap()),
        [12, 1, 1, 1],
        "{examples}"
    );
    assert_eq!(examples["overlap_with"], json!({"evaluated.jsonl": 1}));
    assert_eq!(record["decontaminate"], json!(["evaluated.jsonl"]));

    let (said, record) = heal(&["--deduplicate=none", "--keep-repetitive", "--max-answer-tokens=40"]);
    assert!(said.contains("1 with too long an answer"), "{said}");
    assert_eq!(record["examples"]["used"], 16);
    let (_, record) = heal(&["--deduplicate=none", "--keep-repetitive"]);
    assert_eq!(record["examples"]["used"], 17);

    // Items of tasks are found as well: here all of the data is one.
    let item = lopper_pocket::examples("pocket_word", lopper_pocket::Split::Report, 0).next().unwrap();
    place.write("data.jsonl", &row(item.prompt.text(), &item.answer));
    let refused = place.fault(&[&QUICK[..], &["--force", "--decontaminate", "pocket_word"]].concat());
    assert!(
        refused.contains("no usable examples") && refused.contains("1 with an evaluated item in them"),
        "{refused}"
    );
    let refused = place.fault(&[&QUICK[..], &["--force", "--decontaminate", "no_such_task"]].concat());
    assert!(refused.contains("no_such_task"), "{refused}");
    place.write("nothing.jsonl", "{\"text\": \"x\"}\n");
    let refused = place.fault(&[&QUICK[..], &["--force", "--decontaminate", "nothing.jsonl"]].concat());
    assert!(refused.contains("nothing to look for"), "{refused}");
}

#[test]
fn one_filter_serves_all_files() {
    let place = Workplace::new(true);
    place.write("data.jsonl", &examples()[..12].join("\n"));
    place.write("more.jsonl", &examples()[10..15].join("\n"));
    let said = place.run(&[&QUICK[..], &["--data", "more.jsonl"]].concat()).err;
    assert!(said.contains("12 of 12 examples") && said.contains("2 of 5 examples"), "{said}");
}

/// Fields of every row.
fn fields<'a>(rows: &'a [Value], name: &str) -> Vec<&'a Value> {
    rows.iter().map(|row| &row[name]).collect()
}

#[test]
fn answers_of_the_pocket_model_are_sampled_and_graded() {
    let place = Workplace::new(false);
    let run = |options: &str| {
        place.run(&format!("generate pocket --limit 6 --samples 3 --temperature 1.6 --top-p 1 {options}"))
    };
    let said = run("--prompts pocket -o all.jsonl").err;
    let all = place.read_lines("all.jsonl");
    assert_eq!(all.len(), 18);
    assert_eq!(fields(&all, "sample")[..4], [&json!(0), &json!(1), &json!(2), &json!(0)]);
    let tasks: Vec<&str> = all.iter().step_by(3).map(|row| row["task"].as_str().unwrap()).collect();
    assert_eq!(tasks, ["pocket_word", "pocket_code", "pocket_summary"].repeat(2));
    for row in &all {
        // ROUGE is no right or wrong.
        assert_eq!(row["verified"].is_null(), row["task"] == "pocket_summary", "{row}");
    }
    let wrong = all.iter().filter(|row| row["verified"] == false).count();
    assert!(wrong > 0 && wrong < 12, "at this temperature some are right: {wrong} of 12 are wrong");
    assert!(said.contains(&format!("{wrong} of 12 rejected")) && said.contains("pocket_word "), "{said}");
    assert!(said.contains("6 answers to prompts of pocket_summary could not be graded"), "{said}");

    let kept = run("--prompts pocket --keep verified -o kept.jsonl").err;
    assert!(kept.contains(&format!("{} answers are kept", 18 - wrong)), "{kept}");
    let expected: Vec<Value> = all.iter().filter(|row| row["verified"] != false).cloned().collect();
    assert_eq!(place.read_lines("kept.jsonl"), expected);

    // The first of several is the only one of one.
    place.run("generate pocket --limit 6 --temperature 1.6 --top-p 1 --prompts pocket -o one.jsonl");
    let first = |row: &Value| (row["seed"].clone(), row["response_token_ids"].clone());
    let one: Vec<_> = place.read_lines("one.jsonl").iter().map(first).collect();
    assert_eq!(all.iter().step_by(3).map(first).collect::<Vec<_>>(), one);
}

#[test]
fn an_unfinished_run_of_several_answers_continues() {
    let place = Workplace::new(false);
    // So hot that no answer is right, which leaves all of them unwritten.
    let base = "generate pocket --prompts pocket_word --limit 2 --samples 3 --temperature 40 --max-new-tokens 12 -o";
    let refused = place.command(&format!("{base} a.jsonl --keep verified")).assert().code(2);
    let message = Printed::of(&refused).err;
    assert!(message.contains("every answer is wrong") && message.contains("6 of 6 rejected (100.0 %)"), "{message}");
    assert!(message.contains("a.jsonl.partial") && !place.path("a.jsonl").exists(), "{message}");
    let partial = place.read("a.jsonl.partial");
    assert_eq!(partial.lines().count(), 7);
    let said = place.run(&format!("{base} a.jsonl")).err;
    assert!(said.contains("continuing after 6 finished answers"), "{said}");
    let all = place.read_lines("a.jsonl");
    assert_eq!(fields(&all, "sample"), [0, 1, 2, 0, 1, 2]);
    assert!(all.iter().all(|row| row["verified"] == false));

    // Some answers of a prompt are there, and others are not; and there are more prompts now.
    let begun: String = partial.lines().take(5).map(|line| format!("{line}\n")).collect();
    place.write("b.jsonl.partial", &begun);
    let more = base.replace("--limit 2", "--limit 3");
    assert!(place.run(&format!("{more} b.jsonl")).err.contains("continuing after 4 finished answers"));
    let resumed = place.read_lines("b.jsonl");
    assert_eq!((resumed.len(), &resumed[..6]), (9, &all[..]));

    // Another number of samples is another run.
    place.write("c.jsonl.partial", &begun);
    let refused = place.fault(&format!("{} c.jsonl", base.replace("--samples 3", "--samples 2")));
    assert!(refused.contains("other settings") && refused.contains("samples"), "{refused}");
}

#[test]
fn prompts_of_tasks_are_those_of_their_training_splits() {
    let place = Workplace::new(true);
    place.run("generate model --prompts pocket_word,pocket_brackets --limit 4 --max-new-tokens 4 -o a.jsonl");
    let rows = place.read_lines("a.jsonl");
    let word = lopper_pocket::examples("pocket_word", lopper_pocket::Split::Train, 0).next().unwrap();
    assert_eq!(rows[0]["messages"][0]["content"], word.prompt.text());
    assert!(rows[1]["prompt"].is_string() && rows[1]["task"] == "pocket_brackets", "{}", rows[1]);
    assert!(rows.iter().all(|row| row["verified"] == false), "a random model is never right");
    let base = "generate model --max-new-tokens 4 -o b.jsonl --prompts";
    let refused = place.fault(&format!("{base} pocket_summary --keep verified"));
    assert!(refused.contains("no answer can be graded"), "{refused}");
    let refused = place.fault(&format!("{base} pocket_word --samples 2 --temperature 0"));
    assert!(refused.contains("the same"), "{refused}");
    let refused = place.fault(&format!("{base} pocket_word --column text"));
    assert!(refused.contains("--column"), "{refused}");
}
