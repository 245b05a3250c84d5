//! ROUGE and its stemmer against Google's rouge-score and NLTK (`fixtures/rouge/make.py`).

use lopper_tasks::metrics::porter::stem;
use lopper_tasks::metrics::rouge::{Overlap, rouge};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
    stems: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[allow(non_snake_case, reason = "rouge-score's names")]
struct Case {
    reference: String,
    prediction: String,
    rouge1: [f64; 3],
    rouge2: [f64; 3],
    rougeL: [f64; 3],
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../../../fixtures/rouge/cases.json")).unwrap()
}

#[test]
fn scores_are_those_of_rouge_score() {
    let cases = fixture().cases;
    assert!(cases.len() > 100);
    for case in cases {
        let ours = rouge(&case.reference, &case.prediction);
        for (name, overlap, expected) in [
            ("rouge1", ours.rouge_1, case.rouge1),
            ("rouge2", ours.rouge_2, case.rouge2),
            ("rougeL", ours.rouge_l, case.rougeL),
        ] {
            let Overlap { precision, recall, f1 } = overlap;
            for (value, expected) in [precision, recall, f1].iter().zip(expected) {
                let text = (&case.reference, &case.prediction);
                assert!((value - expected).abs() < 1e-9, "{name} {value} instead of {expected}: {text:?}");
            }
        }
    }
}

#[test]
fn stems_are_those_of_nltk() {
    let stems = fixture().stems;
    assert!(stems.len() > 1000);
    let wrong: Vec<_> = stems.iter().map(|(word, expected)| (word, expected, stem(word))).collect();
    let wrong: Vec<_> = wrong.into_iter().filter(|(_, expected, ours)| *expected != ours).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
