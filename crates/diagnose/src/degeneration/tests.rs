//! Rep-n and Self-BLEU-4 equal NLTK's on the same text: `fixtures/diagnostics/make.py` (NLTK 3.10.4) made the numbers;
//! tolerance 1e-9. And how responses are averaged.

use serde::Deserialize;

use super::*;

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

/// The words of a text, in lower case.
pub(super) fn lower_case(text: &str) -> Vec<String> {
    words::split(text).spans.iter().map(|span| text[span.clone()].to_lowercase()).collect()
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
    let fixture: Fixture = serde_json::from_str(include_str!("../../../../fixtures/diagnostics/texts.json")).unwrap();
    assert_eq!(fixture.nltk, "3.10.4");
    assert!(fixture.texts.len() > 15);
    for row in &fixture.texts {
        assert_eq!(lower_case(&row.text), row.words);
        let sentences: Vec<usize> = words::split(&row.text).sentences.iter().map(ExactSizeIterator::len).collect();
        assert_eq!(sentences, row.sentences, "{:?}", row.text);
        let metrics = text_metrics(&row.text);
        assert_eq!((metrics.words, metrics.sentences), (row.words.len(), row.sentences.len()));
        let [rep_2, rep_3, rep_4] = row.rep;
        close(metrics.rep_2, rep_2, "Rep-2", &row.text);
        close(metrics.rep_3, rep_3, "Rep-3", &row.text);
        close(metrics.rep_4, rep_4, "Rep-4", &row.text);
        close(metrics.self_bleu_4, row.self_bleu_4, "Self-BLEU-4", &row.text);
    }
}

#[test]
fn perplexity_is_over_tokens_and_the_mean_log_probability_over_responses() {
    let mut tally = DegenerationTally::default();
    let metadata = |tokens, logprob| ResponseMetadata { finish: Some("stop".into()), tokens, logprob };
    tally.add(&text_metrics("a b"), &metadata(Some(1), Some(-1.0)));
    tally.add(&text_metrics("a b c d"), &metadata(Some(3), Some(-9.0)));
    tally.add(&text_metrics(""), &metadata(Some(0), Some(0.0)));
    let sum = tally.finish();
    assert_eq!((sum.responses, sum.empty, sum.loops), (3, 1, 0));
    assert_eq!(sum.mean_logprob.unwrap().value, -2.0);
    assert!((sum.own_perplexity.unwrap() - 2.5_f64.exp()).abs() < 1e-12);
    assert_eq!(sum.finish["stop"], 3);
    // The empty response has no bigram; two have.
    assert_eq!(sum.rep_2.unwrap().n, 2);
    assert_eq!(sum.self_bleu_4, None);
    // An answer that was stopped for looping is one, however little its text shows.
    tally.add(&text_metrics("7777"), &ResponseMetadata { finish: Some("loop".into()), ..Default::default() });
    assert_eq!((tally.finish().loops, tally.finish().finish["loop"]), (1, 1));
}
