//! The interpreter against CPython (fixture `fixtures/pocket_code`, CPython 3.11), and against arbitrary text.

use lopper_pocket::lang::{Limits, Outcome, passes, run};
use lopper_pocket::{Check, Split, examples};
use proptest::prelude::*;
use serde_json::Value;

#[test]
fn results_and_failures_are_those_of_cpython() {
    let fixture: Value =
        serde_json::from_str(include_str!("../../../fixtures/pocket_code/cases.json")).expect("the fixture is JSON");
    let mut differences = Vec::new();
    let mut calls = 0;
    for case in fixture["cases"].as_array().expect("cases") {
        let source = case["source"].as_str().expect("source");
        for call in case["calls"].as_array().expect("calls") {
            let args: Vec<i64> = serde_json::from_value(call["args"].clone()).expect("args");
            let expected = match call["value"].as_i64() {
                Some(value) => value.to_string(),
                None => call["class"].as_str().expect("class").to_owned(),
            };
            let got = run(source, "f", &args, Limits::default());
            let shown = got.as_ref().map_or_else(|o| o.class().to_owned(), i64::to_string);
            calls += 1;
            if shown != expected {
                differences.push(format!("{source}\n{args:?}: {got:?}, CPython: {call}\n"));
            }
        }
    }
    assert!(calls > 300, "{calls}");
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

fn class(source: &str) -> &'static str {
    run(source, "f", &[3], Limits::default()).expect_err(source).class()
}

#[test]
fn unsupported_python_is_not_a_syntax_error() {
    for source in [
        "import os\ndef f(x):\n    return x",
        "def f(x):\n    return [x][0]",
        "def f(x):\n    return x / 2",
        "def f(x):\n    return 1.5 * x",
        "def f(x):\n    return sum(range(x))",
        "def f(x):\n    return x.bit_length()",
        "def f(x):\n    return 'a'",
        "def f(x: int) -> int:\n    return x",
        "def f(x):\n    a, b = x, 1\n    return a",
        "def f(x):\n    return 3 ** 99",
        "def f(x):\n    return 99999999999999999999",
        "def f(x):\n    return (lambda: x)()",
    ] {
        let class = class(source);
        // A string is returned as such: no integer.
        assert!(class == "other" || (source.contains("'a'") && class == "assertion"), "{source}: {class}");
    }
}

#[test]
fn limits_end_endless_programs() {
    let deep = format!("def f(x):\n    return {}x{}", "(".repeat(150), ")".repeat(150));
    assert_eq!(class(&deep), "other");
    let long = format!("def f(x):\n    return x{}", " + 1".repeat(1900));
    assert_eq!(class(&long), "timeout");
    let signs = format!("def f(x):\n    return {}x", "-".repeat(3000));
    assert_eq!(class(&signs), "other");
    let huge = "x = 1\n".repeat(10_000);
    assert_eq!(class(&huge), "other");
    let nested = "def f(x):\n    for i in range(999999):\n        for j in range(999999):\n            x = x + 0";
    assert_eq!(class(nested), "timeout");
    let recursive = "def f(x):\n    return 0 if x > 190 else f(x + 1)";
    assert_eq!(run(recursive, "f", &[0], Limits::default()), Ok(0));
    assert_eq!(run(recursive, "f", &[0], Limits { depth: 100, steps: 1 << 40 }).map_err(|o| o.class()), Err("timeout"));
    let edge = "def f(x):\n    return -9223372036854775807 - 1\ndef g(x):\n    return f(x) // -1\n\
                def h(x):\n    return f(x) % -1\ndef k(x):\n    return abs(f(x)) + -f(x)";
    assert_eq!(run(edge, "f", &[0], Limits::default()), Ok(i64::MIN));
    assert_eq!(run(edge, "g", &[0], Limits::default()).map_err(|o| o.class()), Err("other"));
    assert_eq!(run(edge, "h", &[0], Limits::default()), Ok(0));
    assert_eq!(run(edge, "k", &[0], Limits::default()).map_err(|o| o.class()), Err("other"));
}

#[test]
fn a_wrong_result_is_an_assertion_and_every_case_counts() {
    let source = "def f(x):\n    return x * x";
    let cases = [(vec![2], 4), (vec![3], 9), (vec![-1], 1)];
    assert_eq!(passes(source, "f", &cases, Limits::default()), Ok(()));
    let wrong = [(vec![2], 4), (vec![3], 6)];
    assert!(matches!(passes(source, "f", &wrong, Limits::default()), Err(Outcome::Assertion(_))));
}

/// Corrupted copies of generated programs, as a damaged model writes them.
fn corrupted() -> impl Strategy<Value = String> {
    (0usize..200, any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[ \\n()\\[:x0-9=+*'\"-]{0,3}").prop_map(
        |(n, from, to, patch)| {
            let example = examples("pocket_code", Split::Train, 0).nth(n).expect("endless");
            let answer = example.answer;
            let (a, b) = (from.index(answer.len() + 1), to.index(answer.len() + 1));
            format!("{}{patch}{}", &answer[..a.min(b)], &answer[a.max(b)..])
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_makes_it_panic(source in "\\PC{0,60}|(def f\\(x\\):\n)?[ \n\t()\\[\\]{}:=+*/%<>!'\"\\\\#.,;~a-z0-9é_-]{0,80}") {
        let _ = run(&source, "f", &[1], Limits { steps: 2000, depth: 20 });
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = run(&String::from_utf8_lossy(&bytes), "f", &[1], Limits { steps: 2000, depth: 20 });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn corrupted_programs_end_in_some_class(source in corrupted()) {
        let _ = run(&source, "f", &[1, 2], Limits::default());
        let _ = run(&source, "f", &[1], Limits::default());
    }
}

#[test]
fn reference_programs_pass_their_own_cases() {
    for example in examples("pocket_code", Split::Report, 5).take(500) {
        let Check::Code { function, cases } = &example.check else { panic!("{example:?}") };
        assert!((5..=6).contains(&cases.len()));
        assert_eq!(passes(&example.answer, function, cases, Limits::default()), Ok(()));
    }
}
