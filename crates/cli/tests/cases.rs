//! Situations that users report on public issue trackers: small files in `fixtures/cases`, each for its kind.

mod common;
#[path = "cases/models.rs"]
mod models;

use std::path::{Path, PathBuf};

use common::{Workplace, lopper};
use serde_json::Value;

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/cases").join(name)
}

/// A tiny model with the chat template of a case.
fn with_template(name: &str) -> Workplace {
    let place = Workplace::new(true);
    std::fs::copy(case("templates").join(name), place.model().join("chat_template.jinja")).unwrap();
    place.write("prompts.jsonl", "{\"prompt\":\"Write f(x): double x.\"}\n{\"prompt\":\"Tom has 3 apples.\"}\n");
    place
}

/// What the program prints on standard error.
fn run(place: &Workplace, arguments: &[&str]) -> String {
    let output = lopper().current_dir(place.dir.path()).args(arguments).assert().success().get_output().clone();
    String::from_utf8(output.stderr).unwrap()
}

const HEAL: [&str; 11] =
    ["heal", "model", "--data", "sgr.jsonl", "--deduplicate", "none", "--batch", "2", "--warmup", "1", "-o"];

fn rows(place: &Workplace, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(place.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn examples(place: &Workplace, name: &str) -> Value {
    let record = std::fs::read_to_string(place.path(name).join("heal.json")).unwrap();
    serde_json::from_str::<Value>(&record).unwrap()["examples"].clone()
}

#[test]
fn a_model_is_healed_on_its_answers_whatever_its_template_does() {
    for template in [
        "system_in_last_user_turn.jinja",
        "no_system_role.jinja",
        "prompt_opens_think.jinja",
        "history_loses_think.jinja",
        "thinking_switch.jinja",
    ] {
        let place = with_template(template);
        run(&place, &["generate", "model", "--prompts", "prompts.jsonl", "--max-new-tokens", "8", "-o", "made.jsonl"]);
        let made = rows(&place, "made.jsonl");
        assert!(made.iter().all(|row| row["response_token_ids"].as_array().unwrap().len() == 8), "{template}");
        // A random model does not end its answers.
        let text = std::fs::read_to_string(place.path("made.jsonl")).unwrap();
        place.write("sgr.jsonl", &text.replace("\"finish\":\"length\"", "\"finish\":\"stop\""));
        run(&place, &[&HEAL[..], &["adapter"]].concat());
        let examples = examples(&place, "adapter");
        assert_eq!((&examples["used"], &examples["as_generated"]), (&2.into(), &2.into()), "{template}: {examples}");
    }
}

#[test]
fn a_system_prompt_is_moved_or_left_out_where_there_is_no_such_role() {
    let place = with_template("no_system_role.jinja");
    // As if it were no relative of the pocket model, which gets no system prompt.
    let tokenizer = place.model().join("tokenizer.json");
    let text = std::fs::read_to_string(&tokenizer).unwrap();
    std::fs::write(&tokenizer, text + "\n").unwrap();
    let generate = ["generate", "model", "--prompts", "prompts.jsonl", "--max-new-tokens", "2", "-o"];
    let message = run(&place, &[&generate[..], &["default.jsonl"]].concat());
    assert!(message.contains("the default system prompt is left out"), "{message}");
    let message = run(&place, &[&generate[..], &["given.jsonl", "--system", "Be brief."]].concat());
    assert!(message.contains("no system role: 2 system prompts are put before the first user message"), "{message}");
    let (default, given) = (rows(&place, "default.jsonl"), rows(&place, "given.jsonl"));
    assert_eq!(default[0]["messages"].as_array().unwrap().len(), 2);
    assert_eq!(given[0]["messages"][0]["content"], "Be brief.");
    let tokens = |row: &Value| row["prompt_token_ids"].as_array().unwrap().len();
    assert!(tokens(&given[0]) > tokens(&default[0]));
}

#[test]
fn a_template_variable_changes_the_prompt() {
    let place = with_template("thinking_switch.jinja");
    let generate = ["generate", "model", "--prompts", "prompts.jsonl", "--max-new-tokens", "2", "-o"];
    run(&place, &[&generate[..], &["on.jsonl"]].concat());
    run(&place, &[&generate[..], &["off.jsonl", "--template-var", "enable_thinking=false"]].concat());
    let tokens = |name: &str| rows(&place, name)[0]["prompt_token_ids"].as_array().unwrap().len();
    assert!(tokens("off.jsonl") > tokens("on.jsonl"));
}

#[test]
fn every_usual_layout_of_rows_is_trained_on() {
    let place = with_template("thinking_switch.jinja");
    std::fs::copy(case("rows/forms.jsonl"), place.path("sgr.jsonl")).unwrap();
    run(&place, &[&HEAL[..], &["adapter"]].concat());
    let examples = examples(&place, "adapter");
    assert_eq!((&examples["rows"], &examples["used"]), (&8.into(), &8.into()), "{examples}");
    run(&place, &["generate", "model", "--prompts", "sgr.jsonl", "--max-new-tokens", "2", "-o", "answers.jsonl"]);
    assert_eq!(rows(&place, "answers.jsonl").len(), 8);
}

#[test]
fn a_key_that_a_template_does_not_read_is_named() {
    let place = Workplace::new(true);
    std::fs::copy(case("rows/reasoning_content.jsonl"), place.path("sgr.jsonl")).unwrap();
    let message = run(&place, &[&HEAL[..], &["adapter"]].concat());
    assert!(message.contains("does not read `reasoning_content`"), "{message}");
    let knows = "{% for m in messages %}{{ m.role + ':' + (m.reasoning_content or '') + '|' + m.content + '\\n' }}{% endfor %}\
                 {% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";
    std::fs::write(place.model().join("chat_template.jinja"), knows).unwrap();
    let with = run(&place, &[&HEAL[..], &["with"]].concat());
    assert!(!with.contains("reasoning_content"), "{with}");
    // What the template reads is trained on.
    let text = std::fs::read_to_string(place.path("sgr.jsonl")).unwrap();
    place.write("sgr.jsonl", &text.replace("reasoning_content", "unread"));
    let without = run(&place, &[&HEAL[..], &["without"]].concat());
    let tokens = |message: &str| -> usize {
        message.split(" examples, ").nth(1).unwrap().split(' ').next().unwrap().replace(',', "").parse().unwrap()
    };
    assert!(tokens(&with) > tokens(&without), "{with}{without}");
}

#[test]
fn a_byte_order_mark_and_line_ends_of_windows_are_no_fault() {
    let place = Workplace::new(true);
    std::fs::copy(case("rows/bom_crlf.jsonl"), place.path("prompts.jsonl")).unwrap();
    run(&place, &["generate", "model", "--prompts", "prompts.jsonl", "--max-new-tokens", "2", "-o", "answers.jsonl"]);
    let asked: Vec<Value> =
        rows(&place, "answers.jsonl").iter().map(|row| row["messages"][0]["content"].clone()).collect();
    assert_eq!(asked, ["hi", "there"]);
    let found = place.json("diagnose model --prompts prompts.jsonl --max-new-tokens 2 --json");
    assert_eq!(found["uncut"]["diagnosis"]["degeneration"]["responses"], 2);
}

#[test]
fn a_number_that_is_none_is_no_fault_of_its_row() {
    let place = Workplace::new(false);
    std::fs::copy(case("rows/python_nan.jsonl"), place.path("samples.jsonl")).unwrap();
    let found = place.json("diagnose samples.jsonl --json");
    assert_eq!((&found["degeneration"]["responses"], &found["broken"]), (&2.into(), &0.into()), "{found}");
}

#[test]
fn a_row_far_too_long_is_left_out_and_not_tokenised() {
    let place = Workplace::new(true);
    let line = |answer: &str| serde_json::json!({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": answer}]});
    // Ten million words: tokenising them would take minutes.
    place.write("sgr.jsonl", &format!("{}\n{}\n{}\n", line("ho"), line(&"word ".repeat(10_000_000)), line("so")));
    run(&place, &[&HEAL[..], &["adapter"]].concat());
    let examples = examples(&place, "adapter");
    assert_eq!((&examples["used"], &examples["too_long"]), (&2.into(), &1.into()), "{examples}");
}
