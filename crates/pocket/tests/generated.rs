//! Properties of every generated item and document.

use std::collections::{BTreeMap, HashSet};

use lopper_pocket::tokenizer::{ASSISTANT, BOS, END, USER, collect_vocabulary, encode, vocabulary};
use lopper_pocket::{Check, Mixture, Prompt, Split, Stream, examples, tasks};

#[test]
fn held_out_items_never_occur_in_training() {
    for task in tasks() {
        let mut held: HashSet<String> = HashSet::new();
        let mut prompts: HashSet<String> = HashSet::new();
        for split in [Split::Report, Split::Select] {
            let items: Vec<_> = examples(task.name, split, 3).take(500).collect();
            assert_eq!(items.len(), 500, "{} has too few {split:?} items", task.name);
            let ids: HashSet<_> = items.iter().map(|e| e.id.clone()).collect();
            assert_eq!(ids.len(), 500, "{} repeats {split:?} items", task.name);
            assert!(ids.is_disjoint(&held));
            held.extend(ids);
            prompts.extend(items.iter().map(|e| e.prompt.text().to_owned()));
        }
        for example in examples(task.name, Split::Train, 3).take(20_000) {
            assert!(!held.contains(&example.id), "{example:?}");
            assert!(!prompts.contains(example.prompt.text()), "{example:?}");
        }
    }
}

/// The expressions of arithmetic lines in a text.
fn expressions(text: &str) -> impl Iterator<Item = &str> {
    text.split("What is ").skip(1).filter_map(|rest| rest.split_once('?').map(|(e, _)| e))
}

#[test]
fn held_out_expressions_occur_in_no_training_document_and_in_no_few_shot_example() {
    let held: HashSet<String> = [Split::Report, Split::Select]
        .into_iter()
        .flat_map(|split| examples("pocket_arith", split, 0))
        .filter_map(|e| expressions(e.prompt.text()).last().map(str::to_owned))
        .collect();
    assert!(held.len() > 1500, "{}", held.len());
    let mixture = Mixture(vec![("pocket_arith".to_owned(), 1.0)]);
    let mut seen = 0;
    for document in Stream::at(0, 0, &mixture).take(5000) {
        for expression in expressions(&decode(&document.tokens)) {
            assert!(!held.contains(expression), "{expression}");
            seen += 1;
        }
    }
    assert!(seen > 20_000, "{seen}");
    for example in examples("pocket_arith", Split::Report, 1).take(500) {
        let all: Vec<_> = expressions(example.prompt.text()).collect();
        assert_eq!(all.len(), 4);
        assert!(all[..3].iter().all(|e| !held.contains(*e)));
    }
}

#[test]
fn tasks_have_many_different_items() {
    for (name, enough) in
        [("pocket_word", 0.98), ("pocket_code", 0.75), ("pocket_summary", 0.98), ("pocket_brackets", 0.5)]
    {
        // Among 20 000 draws from n equally likely items about 20 000² / 2n are repeated.
        let ids: HashSet<_> = examples(name, Split::Train, 5).take(20_000).map(|e| e.id).collect();
        assert!(ids.len() as f64 > enough * 20_000.0, "{name}: {}", ids.len());
    }
}

#[test]
fn items_depend_on_the_seed_alone() {
    for task in tasks() {
        let draw = |seed| examples(task.name, Split::Select, seed).take(20).collect::<Vec<_>>();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}

#[test]
fn choices_are_different_and_labels_balanced() {
    for task in tasks() {
        let mut counts = BTreeMap::new();
        let mut n = 0usize;
        for example in examples(task.name, Split::Train, 1).take(4000) {
            let Check::Choice { choices, label } = &example.check else { break };
            assert_eq!(choices[*label], example.answer);
            assert_eq!(choices.iter().collect::<HashSet<_>>().len(), choices.len());
            assert!(choices.iter().all(|c| encode(c).len() == 1), "{choices:?}");
            *counts.entry((choices.len(), *label)).or_insert(0usize) += 1;
            n += 1;
        }
        for ((choices, label), count) in counts {
            let expected = n as f64 / choices as f64;
            assert!((count as f64 / expected - 1.0).abs() < 0.1, "{} {label}: {count}", task.name);
        }
    }
}

#[test]
fn answers_fit_the_announced_length() {
    for task in tasks().iter().filter(|t| t.max_new_tokens > 0) {
        for example in examples(task.name, Split::Report, 2).take(500) {
            assert!(encode(&example.answer).len() < task.max_new_tokens, "{example:?}");
            assert_eq!(matches!(example.prompt, Prompt::Chat(_)), task.chat);
        }
    }
}

#[test]
fn the_committed_vocabulary_is_what_the_generators_use() {
    let collected = collect_vocabulary(5000);
    let committed: Vec<&str> = vocabulary().collect();
    assert_eq!(collected, committed, "run the example write_files, and train again");
}

/// Text of token ids, special tokens left out.
fn decode(ids: &[u32]) -> String {
    let tokenizer: tokenizers::Tokenizer = lopper_pocket::tokenizer::tokenizer_json().parse().unwrap();
    tokenizer.decode(ids, true).unwrap()
}

#[test]
fn documents_are_bounded_weighted_and_accessible_by_index() {
    let mixture = Mixture::default();
    let mut lengths: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    let mut total = 0.0;
    for document in Stream::at(9, 0, &mixture).take(80_000) {
        assert_eq!(document.tokens.len(), document.weights.len());
        assert!(document.tokens.len() <= lopper_pocket::stream::MAX_TOKENS);
        assert_eq!((document.tokens[0], document.weights[0]), (BOS, 0.0));
        assert_eq!(document.tokens.last(), Some(&END));
        assert!(document.weights[1..].iter().all(|w| *w > 0.0));
        let entry = lengths.entry(document.task).or_default();
        entry.0 += document.tokens.len() as f64;
        entry.1 += 1.0;
        total += document.tokens.len() as f64;
    }
    for (name, share) in &mixture.0 {
        let got = lengths[name.as_str()].0 / total;
        assert!((got / share - 1.0).abs() < 0.1, "{name}: {got} of the tokens, not {share}");
    }
    let mut later = Stream::at(9, 1234, &mixture);
    assert_eq!(later.next(), Stream::at(9, 0, &mixture).nth(1234));
    assert_eq!(later.index(), 1235);
}

#[test]
fn chat_documents_are_what_the_chat_template_gives() {
    let mixture = Mixture(vec![("pocket_word".to_owned(), 1.0), ("pocket_code".to_owned(), 1.0)]);
    let tokenizer: tokenizers::Tokenizer = lopper_pocket::tokenizer::tokenizer_json().parse().unwrap();
    for document in Stream::at(4, 0, &mixture).take(500) {
        let text = tokenizer.decode(&document.tokens, false).unwrap();
        let rest = text.strip_prefix("<|bos|><|user|>").expect("begins with the user's turn");
        let (user, rest) = rest.split_once("<|end|>").expect("the user's turn ends");
        let answer = rest.strip_prefix("<|assistant|>").and_then(|r| r.strip_suffix("<|end|>"));
        let answer = answer.expect("the response ends the document");
        // The template by hand: each message is role token, content, end token.
        let rendered = format!("<|bos|><|user|>{user}<|end|><|assistant|>{answer}<|end|>");
        let encoding = tokenizer.encode(rendered, false).unwrap();
        assert_eq!(encoding.get_ids(), document.tokens);
        // The response, and nothing else, has the weight of an answer.
        let start = document.tokens.iter().position(|t| *t == ASSISTANT).unwrap() + 1;
        let n = (document.tokens.len() - start) as f32;
        for (i, weight) in document.weights.iter().enumerate().skip(1) {
            let expected = if i < start { 0.1 } else { 3.0 / n.sqrt() };
            assert!((weight - expected).abs() < 1e-6, "{i}: {weight}");
        }
        assert_eq!(document.tokens[1], USER);
    }
}
