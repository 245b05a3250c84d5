use serde_json::Value;

use super::*;

/// `fixtures/ifeval/make_ifeval.py` with lm_eval 0.4.13, nltk 3.10.4 and langdetect 1.0.9 with seed 0.
fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../../fixtures/ifeval/ifeval.json")).unwrap()
}

#[test]
fn every_kind_is_judged_as_the_harness_judges_it() {
    let fixture = fixture();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() >= 300);
    let mut kinds = std::collections::BTreeMap::new();
    let mut different = vec![];
    for case in cases {
        let (names, response) = (&case["names"], case["response"].as_str().unwrap());
        let instructions = parse(names, &case["arguments"]).unwrap();
        let followed = judge(&instructions, response).unwrap();
        let verdicts = serde_json::json!([followed.strict, followed.loose]);
        if verdicts != case["followed"] {
            different
                .push(format!("{names} {}: {verdicts}, not {} of {response:?}", case["arguments"], case["followed"]));
        }
        for (at, name) in names.as_array().unwrap().iter().enumerate() {
            let seen = kinds.entry(name.as_str().unwrap()).or_insert([0, 0]);
            seen[usize::from(followed.strict[at])] += 1;
        }
    }
    assert!(different.is_empty(), "{}\n{}", different.len(), different.join("\n"));
    // Every kind is followed by some responses and not by others.
    assert_eq!(kinds.len(), 25);
    assert!(kinds.values().all(|[not, yes]| *not > 0 && *yes > 0), "{kinds:?}");
}

#[test]
fn sentences_are_those_of_nltk() {
    let fixture = fixture();
    let texts = fixture["sentences"].as_array().unwrap();
    assert!(texts.len() >= 60);
    for case in texts {
        let expected: Vec<String> = serde_json::from_value(case["sentences"].clone()).unwrap();
        assert_eq!(sentences::sentences(case["text"].as_str().unwrap()), expected);
    }
}

#[test]
fn tokens_are_those_of_nltk() {
    for case in fixture()["sentences"].as_array().unwrap() {
        let expected: Vec<String> = serde_json::from_value(case["tokens"].clone()).unwrap();
        let text = case["text"].as_str().unwrap();
        assert_eq!(words::tokens(text).unwrap(), expected, "{text:?}");
        assert_eq!(words::count(text) as u64, case["words"].as_u64().unwrap(), "{text:?}");
    }
}

#[test]
fn languages_are_those_of_langdetect() {
    let fixture = fixture();
    let texts = fixture["languages"].as_array().unwrap();
    assert!(texts.len() >= 60);
    for case in texts {
        let text = case["text"].as_str().unwrap();
        assert_eq!(language::detect(text), case["language"].as_str(), "{text:?}");
    }
}

#[test]
fn json_is_what_python_reads() {
    for case in fixture()["json"].as_array().unwrap() {
        assert_eq!(Some(python::is_json(case[0].as_str().unwrap())), case[1].as_bool(), "{case}");
    }
    assert!(python::is_json(&"[".repeat(100_000).chars().chain("]".repeat(100_000).chars()).collect::<String>()));
}

#[test]
fn what_cannot_be_judged_is_a_bad_row() {
    let reason =
        |name: &str, arguments: Value| parse(&serde_json::json!([name]), &serde_json::json!([arguments])).unwrap_err();
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for (name, arguments, word) in [
        ("length_constraints:number_words", r#"{"relation": "at least"}"#, "num_words"),
        ("length_constraints:number_words", r#"{"relation": "at most", "num_words": 3}"#, "at most"),
        ("length_constraints:number_words", r#"{"relation": "at least", "num_words": -3}"#, "num_words"),
        (
            "length_constraints:nth_paragraph_first_word",
            r#"{"num_paragraphs": 1, "nth_paragraph": 2, "first_word": "a"}"#,
            "of 1",
        ),
        ("keywords:existence", r#"{"keywords": ["(a"]}"#, "pattern"),
        ("keywords:existence", r#"{"keywords": []}"#, "keywords"),
        (
            "keywords:letter_frequency",
            r#"{"letter": "ab", "let_relation": "at least", "let_frequency": 3}"#,
            "character",
        ),
        ("punctuation:no_comma", r#"{"num_words": 3}"#, "num_words"),
        ("punctuation:no_dots", "null", "no such kind"),
        ("punctuation:no_comma", "3", "object"),
    ] {
        let reason = reason(name, json(arguments));
        assert!(reason.contains(word) && reason.contains(name), "{reason}");
    }
    assert!(parse(&json(r#"["punctuation:no_comma"]"#), &json("[]")).is_err());
    assert!(parse(&json("[]"), &json("[]")).is_err() && parse(&json("3"), &Value::Null).is_err());
}

#[test]
fn long_responses_are_judged_in_time() {
    let kinds = r#"["length_constraints:number_sentences", "change_case:capital_word_frequency",
        "change_case:english_lowercase", "detectable_format:number_bullet_lists", "detectable_format:title",
        "keywords:forbidden_words"]"#;
    let arguments = r#"[{"num_sentences": 3, "relation": "less than"},
        {"capital_frequency": 3, "capital_relation": "at least"},
        {}, {"num_bullets": 3}, {}, {"forbidden_words": ["zebra"]}]"#;
    let instructions = parse(&serde_json::from_str(kinds).unwrap(), &serde_json::from_str(arguments).unwrap()).unwrap();
    for text in [". ", "!", "''", "a.b ", "<<", " * ", "\n", ". . .", "--", "word "] {
        let began = std::time::Instant::now();
        judge(&instructions, &text.repeat(20_000)).unwrap();
        assert!(began.elapsed().as_secs() < 60, "{text:?}");
    }
}
