//! A whole diagnosis: of a model with a vocabulary of its own, and of the pocket model on its tasks.

#[path = "common/tokenizers.rs"]
mod tokenizers;

use lopper_diagnose::sentinel::{SentinelOptions, Sentinels};
use lopper_diagnose::{DiagnosticOptions, DiagnosticSuite, probe_set};
use lopper_infer::{Engine, TextModel};
use lopper_model::{Checkpoint, Model};
use lopper_pocket::embedded::FILES;
use lopper_record::{LayerSet, NoProgress};

fn pocket() -> TextModel {
    let checkpoint = Checkpoint::from_bytes(FILES).unwrap();
    TextModel::new(Engine::new(Model::from_checkpoint(&checkpoint).unwrap(), 2).unwrap(), &checkpoint).unwrap()
}

#[test]
fn any_model_gets_generated_items_and_open_prompts() {
    let text = tokenizers::model(".", []);
    assert!(!probe_set::is_pocket_model(&text));
    let mut options = DiagnosticOptions::new(vec![], 6, 3);
    options.policy.max_new_tokens = Some(12);
    let suite = DiagnosticSuite::prepare(&text, &options).unwrap();
    let candidates = [LayerSet::from([0, 1]), LayerSet::from([0]), LayerSet::from([0, 1])];
    let found = suite.run(&text, &candidates, &NoProgress).unwrap();
    assert_eq!(found.len(), 3);
    let (uncut, _) = found[0].diagnosis(None);
    let (cut, entries) = found[1].diagnosis(Some(&found[0]));
    let (same, _) = found[2].diagnosis(Some(&found[0]));
    assert!(entries.is_empty() && uncut.ledger.is_none() && uncut.programs.is_none());
    let arithmetic = uncut.arithmetic.unwrap();
    assert_eq!((arithmetic.accuracy.unwrap().n, arithmetic.logprob_change), (6, None));
    assert!(arithmetic.source.contains("2 operations on 1-digit numbers"));
    // The same model has changed nothing, another has.
    assert_eq!(same.arithmetic.unwrap().logprob_change.unwrap().value, 0.0);
    assert_ne!(cut.arithmetic.unwrap().logprob_change.unwrap().value, 0.0);
    assert_eq!((same.perplexity, &same.degeneration), (uncut.perplexity, &uncut.degeneration));
    assert_ne!(cut.perplexity, uncut.perplexity);
    let text = uncut.degeneration.unwrap();
    assert_eq!((text.responses, text.finish.values().sum::<usize>()), (6, 6));
    assert!(text.own_perplexity.unwrap() > 1.0 && text.tokens.unwrap().value <= 12.0);
    assert_eq!(uncut.brackets.unwrap().balanced.unwrap().n, 6);
}

#[test]
fn the_pocket_model_loses_arithmetic_before_its_text() {
    let text = pocket();
    assert!(probe_set::is_pocket_model(&text));
    let tasks = ["pocket_word", "pocket_arith", "pocket_brackets", "pocket_code"].map(String::from).to_vec();
    let suite = DiagnosticSuite::prepare(&text, &DiagnosticOptions::new(tasks, 12, 0)).unwrap();
    let candidates = [12, 6, 3].map(LayerSet::all);
    let found = suite.run(&text, &candidates, &NoProgress).unwrap();
    assert_eq!(found.len(), 3);
    let (uncut, _) = found[0].diagnosis(None);
    let (cut, entries) = found[1].diagnosis(Some(&found[0]));
    let (deep, _) = found[2].diagnosis(Some(&found[0]));
    // Every part comes from the tasks' own items, and each item that changed has an entry.
    let ledger = cut.ledger.clone().unwrap();
    assert_eq!((ledger.compared, ledger.lost + ledger.gained), (48, entries.len()));
    assert_eq!(ledger.causes.values().sum::<usize>(), ledger.lost);
    assert!(ledger.lost > 0 && entries.iter().all(|entry| entry.gained == entry.cause.is_none()));
    assert_eq!(uncut.programs.unwrap().passed, 12);
    assert_eq!(uncut.degeneration.as_ref().unwrap().responses, 24, "word problems and programs are text");
    // Without half of the layers no more repetition than before, without three quarters much more.
    let rep =
        |diagnosis: &lopper_record::study::Diagnosis| diagnosis.degeneration.as_ref().unwrap().rep_4.unwrap().value;
    assert!(rep(&cut) < rep(&uncut) + 2.0 && rep(&deep) > rep(&uncut) + 5.0);
    // Answers that repeat themselves are stopped, and count as loops.
    let text = deep.degeneration.as_ref().unwrap();
    assert!(text.finish["loop"] > 0 && text.loops >= text.finish["loop"], "{text:?}");
    assert!(deep.perplexity.unwrap() > cut.perplexity.unwrap() && cut.perplexity.unwrap() > uncut.perplexity.unwrap());
}

#[test]
fn sentinels_are_the_same_for_one_candidate_and_for_several() {
    let text = pocket();
    let sentinels = Sentinels::prepare(&text, &SentinelOptions::default()).unwrap();
    let (all, cut) = (LayerSet::all(12), LayerSet::all(6));
    let both = sentinels.measure(&text, &[all, cut.clone()], &NoProgress).unwrap();
    let alone = sentinels.measure(&text, &[cut], &NoProgress).unwrap();
    assert_eq!((both.len(), &both[1..]), (2, &alone[..]));
    assert!(both[0].arithmetic.unwrap() > 0.8 && both[0].brackets.unwrap() > 0.8 && both[0].perplexity.unwrap() < 2.0);
    assert!(both[1].perplexity.unwrap() > both[0].perplexity.unwrap());
}
