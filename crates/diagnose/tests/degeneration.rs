//! Rep-n and Self-BLEU-4 equal NLTK's on the same text. `fixtures/diagnostics/make.py` (NLTK 3.10.4) made the numbers;
//! tolerance 1e-9.

use lopper_diagnose::{lower_words, sentences, text_figures};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    nltk: String,
    texts: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    text: String,
    words: Vec<String>,
    sentences: Vec<usize>,
    rep: [Option<f64>; 3],
    self_bleu_4: Option<f64>,
}

fn close(ours: Option<f64>, theirs: Option<f64>, what: &str, text: &str) {
    let same = match (ours, theirs) {
        (Some(ours), Some(theirs)) => (ours - theirs).abs() < 1e-9,
        (ours, theirs) => ours == theirs,
    };
    assert!(same, "{what}: {ours:?}, NLTK {theirs:?}, of {text:?}");
}

#[test]
fn figures_equal_nltks() {
    let fixture: Fixture = serde_json::from_str(include_str!("../../../fixtures/diagnostics/texts.json")).unwrap();
    assert_eq!(fixture.nltk, "3.10.4");
    assert!(fixture.texts.len() > 15);
    for row in &fixture.texts {
        assert_eq!(lower_words(&row.text), row.words);
        assert_eq!(sentences(&row.text).iter().map(Vec::len).collect::<Vec<_>>(), row.sentences, "{:?}", row.text);
        let figures = text_figures(&row.text);
        assert_eq!((figures.words, figures.sentences), (row.words.len(), row.sentences.len()));
        let [rep_2, rep_3, rep_4] = row.rep;
        close(figures.rep_2, rep_2, "Rep-2", &row.text);
        close(figures.rep_3, rep_3, "Rep-3", &row.text);
        close(figures.rep_4, rep_4, "Rep-4", &row.text);
        close(figures.self_bleu_4, row.self_bleu_4, "Self-BLEU-4", &row.text);
    }
}
