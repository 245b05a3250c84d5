//! Reasoning is not the answer: whoever wrote it and whatever marks it, it is kept apart, and one that never ends is an
//! outcome of its own. With a model whose chat template begins a thought, and with responses from elsewhere.

mod common;

use common::Workplace;
use lopper_testkit::tasks::lines;
use serde_json::{Value, json};

const RIDDLES: &str = r#"
name = "riddles"
version = 1
group = "generative"
description = "sums"

[rows]
data_set = "own/riddles"
splits = ["test"]
files = { test = "riddles.jsonl" }
columns = { question = "text", answer = "text" }
identity = ["question"]

[prompt]
question = "{{question}}"
conversation = true

[generate]
max_new_tokens = 24
until = ["Question:"]

[answer]
check = "text"
target = "{{answer}}"

[[answer.readings]]
metric = "exact_match"
pattern = '([0-9]+)'
group_select = 0
"#;

/// A model with `<think>` and `</think>` in its vocabulary, as special tokens or not, whose template ends the prompt
/// with `opening`; and a task of `n` items.
fn place(special: bool, opening: &str, n: usize) -> Workplace {
    let place = Workplace::new(true);
    let mut tokenizer = place.read_json("model/tokenizer.json");
    let next = tokenizer["model"]["vocab"].as_object().unwrap().values().filter_map(Value::as_u64).max().unwrap() + 1;
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    for (id, content) in (next..).zip(["<think>", "</think>"]) {
        added.push(json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": special}));
    }
    place.write("model/tokenizer.json", &tokenizer.to_string());
    let template =
        place.read("model/chat_template.jinja").replace("'<|assistant|>'", &format!("'<|assistant|>{opening}'"));
    place.write("model/chat_template.jinja", &template);
    place.write("riddles.toml", RIDDLES);
    let rows: Vec<Value> = (0..n).map(|i| json!({"question": format!("{i} + 0"), "answer": i.to_string()})).collect();
    place.write("riddles.jsonl", &lines(&rows));
    place
}

const EVAL: &str = "eval model --tasks ./riddles.toml --samples-out out.jsonl --force";

fn given(place: &Workplace, rows: &[Value]) {
    let row = |(at, row): (usize, &Value)| {
        let mut row = row.clone();
        row["task"] = "riddles".into();
        row["doc_id"] = at.into();
        row
    };
    place.write("given.jsonl", &lines(&rows.iter().enumerate().map(row).collect::<Vec<_>>()));
}

#[test]
fn responses_from_elsewhere_are_read_after_their_reasoning() {
    let place = place(false, "", 7);
    given(
        &place,
        &[
            json!({"response": "0 is it"}),
            json!({"response": "<think>7? Question: no, 1</think>\n\n1"}),
            json!({"response": "5 or rather</think>2 Question: 9"}),
            json!({"response": "3", "reasoning_content": "5?"}),
            json!({"response": null, "reasoning": "4 is", "finish": "length"}),
            json!({"response": "<think>5", "finish_reason": "length"}),
            json!({"response": "<think></think>8"}),
        ],
    );
    let json = place.json(&format!("{EVAL} --responses-from given.jsonl --json"));
    let task = &json["tasks"]["riddles"];
    let reasoning = json!({"responses": 7, "thoughts": 6, "unfinished": 2, "cut": 0, "mean_tokens": null});
    assert_eq!((&task["reasoning"], &task["metrics"]["exact_match"]["value"]), (&reasoning, &json!(4.0 / 7.0)));
    let rows = place.read_lines("out.jsonl");
    let of = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    let text = |list: &[Option<&str>]| list.iter().map(|text| json!(text)).collect::<Vec<_>>();
    let thoughts =
        [None, Some("7? Question: no, 1"), Some("5 or rather"), Some("5?"), Some("4 is"), Some("5"), Some("")];
    assert_eq!(of("reasoning"), text(&thoughts));
    assert_eq!(of("response"), ["0 is it", "1", "2 ", "3", "", "", "8"].map(Value::from));
    let (right, unfinished) = (Some("right"), Some("unfinished_thought"));
    assert_eq!(of("outcome"), text(&[right, right, right, right, unfinished, unfinished, Some("wrong")]));
    assert!(rows[0].get("reasoning").is_none(), "nothing was marked as thought");

    // A person is told, too.
    let told = place.run(&format!("{EVAL} --responses-from given.jsonl"));
    assert!(told.err.contains("2 of 7 responses are thoughts that do not end"), "{}", told.err);
    assert!(told.out.contains("with reasoning") && told.out.contains("riddles"), "{}", told.out);

    // What was written is read back as it is.
    std::fs::copy(place.path("out.jsonl"), place.path("again.jsonl")).unwrap();
    let again = place.json(&format!("{EVAL} --responses-from again.jsonl --json"));
    assert_eq!(again["tasks"], json["tasks"]);
}

#[test]
fn markers_of_other_models_are_settable_in_the_command_and_in_the_task_file() {
    let place = place(false, "", 2);
    given(&place, &[json!({"response": "[a 7 b] 0"}), json!({"response": "[a 1"})]);
    let command = format!("{EVAL} --responses-from given.jsonl --json");
    let outcome = |command: &str| {
        let json = place.json(command);
        (
            json["tasks"]["riddles"]["metrics"]["exact_match"]["value"].clone(),
            json["policy"]["reasoning_markers"].clone(),
        )
    };
    assert_eq!(outcome(&command), (json!(0.5), Value::Null));
    let markers = json!({"open": "[a", "close": "b]"});
    assert_eq!(outcome(&format!("{command} --reasoning-markers [a b]")), (json!(0.5), markers));
    let rows = place.read_lines("out.jsonl");
    assert_eq!((&rows[0]["reasoning"], &rows[1]["outcome"]), (&json!("7"), &json!("unfinished_thought")));
    place.write("riddles.toml", &RIDDLES.replace("[answer]", "reasoning_markers = [\"[a\", \"b]\"]\n\n[answer]"));
    place.json(&command);
    assert_eq!(place.read_lines("out.jsonl")[0]["response"], "0");
    assert!(
        place.fault(&["eval", "model", "--tasks", "./riddles.toml", "--reasoning-markers", "", "x"]).contains("marker")
    );
}

#[test]
fn a_prompt_that_begins_the_thought_makes_a_response_without_its_end_unfinished_unless_thoughts_were_left_out() {
    let place = place(false, "<think>\\n", 3);
    let outcomes = |rows: &[Value]| {
        given(&place, rows);
        place.json(&format!("{EVAL} --responses-from given.jsonl --json"));
        place.read_lines("out.jsonl").iter().map(|row| row["outcome"].clone()).collect::<Vec<_>>()
    };
    let bare = |text: &str| json!({"response": text});
    assert_eq!(outcomes(&[bare("0"), bare("1"), bare("2")]), ["right", "right", "right"]);
    assert_eq!(
        outcomes(&[bare("7</think>0"), bare("1"), json!({"response": "2", "finish": "stop"})]),
        ["right", "unfinished_thought", "right"]
    );
    let cut_off = json!({"response": "2", "finish": "length"});
    assert_eq!(outcomes(&[bare("0"), bare("1"), cut_off]), ["right", "right", "unfinished_thought"]);
}

#[test]
fn a_thinking_budget_ends_the_thought_and_is_recorded() {
    for special in [false, true] {
        let place = place(special, "<think>\\n", 4);
        let samples = |rest: &str| {
            let json = place.json(&format!("{EVAL} --json --no-loop-stop {rest}"));
            (json, place.read_lines("out.jsonl"))
        };
        // A random model never ends its thought.
        let (_, whole) = samples("");
        assert!(whole.iter().all(|row| row["outcome"] == "unfinished_thought" && row["response"] == ""), "{whole:?}");
        let (json, rows) = samples("--max-thinking-tokens 6");
        assert_eq!(json["policy"]["max_thinking_tokens"], 6);
        assert_eq!(json["tasks"]["riddles"]["reasoning"]["cut"], 4);
        for (row, whole) in rows.iter().zip(&whole) {
            assert_eq!((&row["reasoning_tokens"], &row["reasoning_cut"]), (&json!(6), &json!(true)), "{row}");
            assert_ne!(row["outcome"], "unfinished_thought");
            let thought = row["reasoning"].as_str().unwrap();
            assert!(whole["reasoning"].as_str().unwrap().starts_with(thought.trim_end_matches('\u{fffd}')), "{row}");
        }
        // Nothing at all may be thought.
        let (_, rows) = samples("--max-thinking-tokens 0");
        assert!(rows.iter().all(|row| row["reasoning"] == "" && row["reasoning_tokens"] == 0), "{rows:?}");
        // Sampled responses have it too.
        let (json, _) = samples("--max-thinking-tokens 3 --temperature 1 --responses 3");
        let reasoning = &json["tasks"]["riddles"]["reasoning"];
        assert_eq!((&reasoning["responses"], &reasoning["mean_tokens"]), (&json!(12), &json!(3.0)));
        let fault = place.fault("eval model --tasks ./riddles.toml --max-thinking-tokens 24");
        assert!(fault.contains("no room for an answer") && fault.contains("riddles"), "{fault}");
    }
}

#[test]
fn budgets_are_swept_for_the_uncut_and_the_cut_model() {
    let place = place(false, "<think>", 5);
    let command = "eval model --tasks ./riddles.toml --drop 2 --no-loop-stop --thinking-budgets 0,5,none";
    let json = place.json(&format!("{command} --json"));
    let points = json["budgets"].as_array().unwrap();
    let budgets: Vec<&Value> = points.iter().map(|point| &point["max_thinking_tokens"]).collect();
    assert_eq!(budgets, [&json!(0), &json!(5), &Value::Null]);
    for (point, tokens) in points.iter().zip([0.0, 5.0, 24.0]) {
        for model in ["uncut", "cut"] {
            let task = &point["models"][model]["riddles"];
            assert_eq!(
                (&task["reasoning"]["mean_tokens"], &task["score"]["n"]),
                (&json!(tokens), &json!(5)),
                "{model}"
            );
        }
    }
    // Each budget gives what it gives alone.
    let alone = place.json(&format!("{EVAL} --json --drop 2 --no-loop-stop --max-thinking-tokens 5"));
    let (swept, alone) = (&points[1]["models"]["cut"]["riddles"]["score"], &alone["tasks"]["riddles"]["metrics"]);
    assert_eq!(swept, &alone["exact_match"]);
    let table = place.run(command).out;
    assert!(table.contains("thinking tokens") && table.lines().count() == 7, "{table}");
    assert!(place.fault("eval model --tasks arc_easy --thinking-budgets 1").contains("hint"));
    assert!(place.fault("eval model --tasks ./riddles.toml --thinking-budgets 1,x").contains("`x`"));
}

#[test]
fn generated_conversations_keep_reasoning_apart_and_are_learned_in_their_tokens() {
    let place = place(true, "<think>", 1);
    place.write(
        "prompts.jsonl",
        &lines(&[json!({"prompt": "one"}), json!({"prompt": "two"}), json!({"prompt": "three"})]),
    );
    let generate = "generate model --prompts prompts.jsonl -o out.jsonl --max-new-tokens 20 --temperature 0 --force";
    place.run(&format!("{generate} --max-thinking-tokens 4"));
    for row in place.read_lines("out.jsonl") {
        let said = row["messages"].as_array().unwrap().last().unwrap();
        assert!(said["reasoning_content"].is_string() && !said["content"].as_str().unwrap().contains("think"), "{row}");
        assert_eq!(row["response_token_ids"].as_array().unwrap().len(), 20);
    }
    // Cut off at the length, they are not learned; marked as complete, all are, as they were generated.
    let mut rows = place.read_lines("out.jsonl");
    rows.iter_mut().for_each(|row| row["finish"] = "stop".into());
    place.write("out.jsonl", &lines(&rows));
    place.run("heal model --drop 2 --data out.jsonl -o healed --batch 1 --warmup 1 --epochs 1 --r 4");
    let report = place.read_json("healed/heal.json");
    assert_eq!((&report["examples"]["used"], &report["examples"]["as_generated"]), (&json!(3), &json!(3)), "{report}");
}

#[test]
fn a_diagnosis_counts_thoughts_and_the_ledger_names_unfinished_ones() {
    let place = place(false, "", 1);
    let row = |id: usize, correct: bool, response: &str| {
        json!({"task": "riddles", "doc_id": id, "correct": correct, "response": response, "target": "1", "prompt": "?",
               "metrics": {"exact_match": u8::from(correct)}})
    };
    place.write("base.jsonl", &lines(&[row(0, true, "<think>a b</think>1"), row(1, true, "<think>c</think>1")]));
    let looped = format!("<think>{}", "and so on ".repeat(30));
    place.write("cut.jsonl", &lines(&[row(0, false, &looped), row(1, false, "<think>2</think>2")]));
    let json = place.json("diagnose cut.jsonl --base base.jsonl --json");
    assert_eq!((&json["reasoning"]["unfinished"], &json["reasoning"]["text"]["loops"]), (&json!(1), &json!(1)));
    assert_eq!(json["degeneration"]["loops"], 0, "the answers do not loop");
    assert_eq!(json["diagnosis"]["ledger"]["causes"]["unfinished_thought"], 1);
    let entry = json["ledger"].as_array().unwrap().iter().find(|entry| entry["cause"] == "unfinished_thought").unwrap();
    assert!(entry["detail"].as_str().unwrap().contains("it repeats"), "{entry}");
    assert_eq!(entry["base_reasoning"], "a b");
    let told = place.run("diagnose cut.jsonl --base base.jsonl").out;
    assert!(told.contains("unfinished thought") && told.contains("responses with a thought"), "{told}");
    // Messages as `lopper generate` and vLLM write them.
    let messages = json!({"messages": [{"role": "user", "content": "?"},
        {"role": "assistant", "reasoning_content": "hm", "content": "one two"}]});
    place.write("chat.jsonl", &lines(&[messages]));
    let json = place.json("diagnose chat.jsonl --json");
    assert_eq!((&json["reasoning"]["responses"], &json["degeneration"]["words"]["value"]), (&json!(1), &json!(2.0)));
}
