//! Programs in responses are found as EvalPlus finds them: its sanitizer and its runner give the verdicts of
//! `fixtures/answers/evalplus.json`, and where Lopper's differ, they are what the response was made for.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::Workplace;
use lopper_testkit::fixture_json;
use lopper_testkit::tasks::lines;
use serde::Deserialize;
use serde_json::{Value, json};

/// Where Lopper passes or fails what EvalPlus does not, by dress; the reasons are in `docs/reference/tasks.md`.
const DIFFERENT: [(&str, &str); 26] = [
    ("fence_in_a_list", "code indented with its fence"),
    ("bare_code_indented", "code indented as a whole"),
    ("one_line", "a program of one line"),
    ("one_line_then_explanation", "a program of one line"),
    ("draft_then_correction_of_same_length", "of two equally long ones the later"),
    ("draft_and_correction_in_one_block", "a later definition replaces an earlier one"),
    ("long_heading_alone_first", "a heading that does nothing is no definition"),
    ("long_usage_block_after", "longer code that does not define the function"),
    ("reasoning_with_draft", "reasoning is no part of the answer"),
    ("reasoning_with_long_draft", "reasoning is no part of the answer"),
    ("example_assigned_to_a_name_of_the_function", "a local variable of the same name"),
    ("helper_without_return", "functions without `return`"),
    ("helper_generator", "functions without `return`"),
    ("data_class", "decorated definitions"),
    ("decorated", "decorated definitions"),
    ("decorated_helper", "decorated definitions"),
    ("decorated_over_lines", "decorated definitions"),
    ("constants_unpacked", "constants by other statements than one plain assignment"),
    ("constant_raised", "constants by other statements than one plain assignment"),
    ("constant_given_anew", "constants by other statements than one plain assignment"),
    ("table_filled_by_a_loop", "constants by other statements than one plain assignment"),
    ("table_filled_by_calls", "constants by other statements than one plain assignment"),
    ("import_if_it_is_there", "imports in `try`"),
    ("import_of_the_future", "`from __future__`"),
    ("body_alone_in_a_block", "a body continues the prompt"),
    ("body_alone", "a body continues the prompt"),
];

/// What [`DIFFERENT`] has only where the task has a prompt to continue.
const BODIES: [&str; 2] = ["body_alone_in_a_block", "body_alone"];

#[derive(Deserialize)]
struct Fixture {
    problems: Vec<Problem>,
    responses: Vec<Response>,
}

#[derive(Deserialize)]
struct Problem {
    name: String,
    prompt: String,
    tests: String,
}

#[derive(Deserialize)]
struct Response {
    problem: String,
    dress: String,
    response: String,
    /// Whether it was made so that its program passes.
    intended: bool,
    /// EvalPlus's program.
    sanitized: String,
    /// Whether EvalPlus passes it.
    passes: bool,
}

/// A task that judges as the one that comes with Lopper, without numpy, over rows that a test writes.
fn task(definition: &str) -> String {
    let answer = &definition[definition.find("[answer]").unwrap()..];
    let answer: String =
        answer.lines().filter(|line| !line.starts_with("needs")).map(|line| format!("{line}\n")).collect();
    format!(
        r#"
name = "functions"
version = 1
group = "generative"
description = "functions in all dresses"

[rows]
splits = ["test"]
files = {{ test = "rows.jsonl" }}
columns = {{ prompt = "text", entry_point = "text", test = "text", test_list = "texts", at = "integer" }}
identity = ["at"]

[prompt]
question = "{{{{entry_point}}}}"

[generate]
max_new_tokens = 8
reasoning_markers = ["<think>", "</think>"]

{answer}"#
    )
}

/// What `lopper eval` records of each response; nothing where this machine runs no programs.
fn judged(definition: &str, call: &str, fixture: &Fixture, responses: &[&Response]) -> Option<Vec<Value>> {
    let place = Workplace::new(true);
    place.write("functions.toml", &task(definition));
    let problems: BTreeMap<&str, &Problem> =
        fixture.problems.iter().map(|problem| (problem.name.as_str(), problem)).collect();
    let row = |(at, response): (usize, &&Response)| {
        let Problem { name, prompt, tests } = problems[response.problem.as_str()];
        let test = format!("{tests}{}", call.replace("NAME", name));
        json!({"prompt": prompt, "entry_point": name, "test": test, "test_list": [format!("assert {name}(1) == 2")],
            "at": at})
    };
    place.write("rows.jsonl", &lines(&responses.iter().enumerate().map(row).collect::<Vec<_>>()));
    let given =
        |(at, response): (usize, &&Response)| json!({"task": "functions", "doc_id": at, "response": response.response});
    place.write("given.jsonl", &lines(&responses.iter().enumerate().map(given).collect::<Vec<_>>()));
    place.run_programs(
        "eval model --tasks ./functions.toml --responses-from given.jsonl --allow-code-execution --samples-out s.jsonl",
    )?;
    let lines = place.read_lines("s.jsonl");
    assert_eq!(lines.len(), responses.len());
    Some(lines)
}

/// Compares Lopper's verdicts with EvalPlus's; the dresses where they differ.
fn compare<'a>(responses: &[&'a Response], lines: &[Value], different: &BTreeSet<&str>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    for (response, line) in responses.iter().zip(lines) {
        let passed = line["metrics"]["pass@1"] == 1.0;
        let expected = if different.contains(response.dress.as_str()) { response.intended } else { response.passes };
        assert_eq!(
            passed, expected,
            "{} of {}: {}\n{}\nLopper's program:\n{}\nEvalPlus's program:\n{}",
            response.dress, response.problem, line["outcome"], response.response, line["extracted"], response.sanitized
        );
        if passed != response.passes {
            found.insert(response.dress.as_str());
        }
    }
    found
}

#[test]
fn verdicts_are_those_of_evalplus() {
    let fixture: Fixture = fixture_json("answers/evalplus.json");
    let responses: Vec<&Response> = fixture.responses.iter().collect();
    assert!(responses.len() >= 300, "{}", responses.len());
    let definition = include_str!("../../tasks/src/definitions/humaneval_plus_chat.toml");
    // The definition's tests call `check`.
    let Some(lines) = judged(definition, "", &fixture, &responses) else { return };
    let outcomes = |dress: &str| -> BTreeSet<&str> {
        let of_dress = responses.iter().zip(&lines).filter(|(response, _)| response.dress == dress);
        of_dress.map(|(_, line)| line["outcome"].as_str().unwrap()).collect()
    };
    // How a program fails is what its own code says, not what was put around it.
    for dress in ["wrong_name", "method_of_a_class", "helper_in_a_block_of_its_own", "import_missing", "nothing"] {
        assert_eq!(outcomes(dress), BTreeSet::from(["name_not_defined"]), "{dress}");
    }
    for dress in ["block_quote", "interactive_session", "no_code"] {
        assert_eq!(outcomes(dress), BTreeSet::from(["other_syntax"]), "{dress}");
    }
    let different: BTreeSet<&str> = DIFFERENT.iter().map(|(dress, _)| *dress).collect();
    assert_eq!(compare(&responses, &lines, &different), different, "a dress is listed that makes no difference");
}

#[test]
fn verdicts_are_those_of_evalplus_where_the_tests_name_the_function() {
    let fixture: Fixture = fixture_json("answers/evalplus.json");
    let mut seen = BTreeSet::new();
    // One response of each dress.
    let responses: Vec<&Response> =
        fixture.responses.iter().filter(|response| seen.insert(response.dress.as_str())).collect();
    let definition = include_str!("../../tasks/src/definitions/mbpp_plus.toml");
    let Some(lines) = judged(definition, "check(NAME)\n", &fixture, &responses) else { return };
    let dresses = DIFFERENT.iter().map(|(dress, _)| *dress);
    let different = dresses.filter(|dress| !BODIES.contains(dress)).collect();
    let found = compare(&responses, &lines, &different);
    assert!(found.len() >= 20, "{found:?}");
}

#[test]
fn responses_made_to_stop_the_reader_take_nothing_with_them() {
    let fixture: Fixture = fixture_json("answers/evalplus.json");
    let good = fixture.responses.iter().find(|response| response.passes).unwrap();
    let code = &good.response;
    let hostile = [
        "(".repeat(50_000),
        "foo(\n".repeat(1000),
        "\"\"\"\n".repeat(2001),
        "it's\n".repeat(5000),
        format!("x = {}1", "-".repeat(100_000)),
        format!("x = a{}", ".b".repeat(50_000)),
        "\0\n".repeat(500),
        format!("{code}\n{}", "x = 1\n\n\n".repeat(40_000)),
    ];
    let response = |response: String, intended| Response {
        response,
        intended,
        passes: intended,
        dress: "hostile".into(),
        problem: good.problem.clone(),
        sanitized: String::new(),
    };
    let hostile: Vec<Response> = hostile.into_iter().map(|text| response(text, false)).collect();
    let whole = response(code.clone(), true);
    let responses: Vec<&Response> = hostile.iter().chain([&whole]).collect();
    let definition = include_str!("../../tasks/src/definitions/mbpp_plus.toml");
    let Some(lines) = judged(definition, "check(NAME)\n", &fixture, &responses) else { return };
    for (response, line) in responses.iter().zip(&lines) {
        let start: String = response.response.chars().take(30).collect();
        // One that is too long to be read has its block run, as if it were not sanitized.
        let passes = response.intended || response.response.starts_with(code.as_str());
        assert_eq!(line["metrics"]["pass@1"] == 1.0, passes, "{start:?}: {}", line["outcome"]);
    }
}
