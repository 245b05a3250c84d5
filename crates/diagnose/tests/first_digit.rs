//! The first digit under tokenizers that split numbers in different ways. The reference is the definition: the
//! probability of a first digit is the sum over all tokens of the vocabulary that begin with it, each scored by itself.

#[path = "common/tokenizers.rs"]
mod tokenizers;

use lopper_diagnose::arithmetic::{ArithmeticItem, ArithmeticProbe};
use lopper_infer::{LoglikRequest, TextModel};
use lopper_record::NoProgress;
use tokenizers::model;

fn item(answer: &str) -> ArithmeticItem {
    ArithmeticItem { prompt: "Question: What is 3 - 9 - 7? Answer:".into(), answer: answer.into() }
}

/// Log-probability of each first digit by the definition; `before` is what its token begins with.
fn reference(text: &TextModel, context: &[u32], before: &str) -> [f64; 10] {
    let size = text.tokenizer.vocab_size() as u32;
    let request = LoglikRequest { context: context.to_vec(), continuations: (0..size).map(|id| vec![id]).collect() };
    let all = text.engine.loglikelihood(&text.engine.all_layers(), &[request], &NoProgress).unwrap();
    let mut sums = [0.0; 10];
    for (id, reply) in (0..size).zip(&all[0]) {
        let written = text.tokenizer.id_to_token(id).unwrap();
        let Some(digits) = written.strip_prefix(before) else { continue };
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            sums[usize::from(digits.as_bytes()[0] - b'0')] += reply.sum.exp();
        }
    }
    sums.map(f64::ln)
}

fn close(ours: [f64; 10], theirs: [f64; 10], what: &str) {
    for digit in 0..10 {
        assert!((ours[digit] - theirs[digit]).abs() < 1e-5, "{what}: digit {digit}: {ours:?} and {theirs:?}");
    }
}

fn check(text: &TextModel, answer: &str, context: &[u32], before: &str, style: &str) {
    let probe = ArithmeticProbe::prepare(text, &[item(answer)], "here").unwrap();
    let replies = text.engine.loglikelihood(&text.engine.all_layers(), &probe.requests(), &NoProgress).unwrap();
    let digits = probe.digit_logprobs(&replies).unwrap()[0];
    close(digits.logprobs, reference(text, context, before), style);
    assert_eq!(digits.right, answer.trim_start_matches([' ', '-']).as_bytes()[0] as usize - 48);
    let figures = probe.summarize(&[digits], None);
    assert_eq!((figures.numbers.as_str(), figures.source.as_str()), (style, "here"));
}

#[test]
fn one_digit_a_token() {
    let text = model(".", []);
    let prompt = text.plain(&item("").prompt).unwrap();
    let after = |more: &str| [prompt.clone(), text.plain(more).unwrap()].concat();
    check(&text, " 55", &after(" "), "", "one digit a token");
    check(&text, " -13", &after(" -"), "", "one digit a token");
}

#[test]
fn three_digits_a_token() {
    // Llama 3's way: a space by itself, then up to three digits.
    let text = model("[0-9]{1,3}|.", (0..1000).map(|n| n.to_string()).chain((0..100).map(|n| format!("{n:02}"))));
    let prompt = text.plain(&item("").prompt).unwrap();
    let after = |more: &str| [prompt.clone(), text.plain(more).unwrap()].concat();
    let style = "up to 3 digits a token, summed over those that begin with the digit";
    check(&text, " 55", &after(" "), "", style);
    check(&text, " -134", &after(" -"), "", style);
}

#[test]
fn the_space_in_the_same_token() {
    // GPT-2's way: the space belongs to the number; behind a minus sign there is none.
    let numbers = (0..100).flat_map(|n| [n.to_string(), format!(" {n}")]);
    let text = model(" ?[0-9]{1,2}|.", numbers);
    let prompt = text.plain(&item("").prompt).unwrap();
    let style = "up to 2 digits a token, summed over those that begin with the digit";
    check(&text, " 55", &prompt, " ", &format!("{style}, the leading space in the same token"));
    let after = [prompt.clone(), text.plain(" -").unwrap()].concat();
    check(&text, " -7", &after, "", style);
}

#[test]
fn a_digit_without_a_joined_token() {
    // A small vocabulary has no " 0": there the space stands by itself, before the other digits it does not.
    let joined = (1..100).flat_map(|n| [n.to_string(), format!(" {n}")]);
    let text = model(" [1-9][0-9]?|[0-9]{1,2}|.", joined.chain((0..10).map(|n| format!("0{n}"))));
    let prompt = text.plain(&item("").prompt).unwrap();
    let probe = ArithmeticProbe::prepare(&text, &[item(" 12")], "here").unwrap();
    let all = text.engine.all_layers();
    let replies = text.engine.loglikelihood(&all, &probe.requests(), &NoProgress).unwrap();
    let ours = probe.digit_logprobs(&replies).unwrap()[0].logprobs;
    let space = text.plain(" ").unwrap();
    let request = LoglikRequest { context: prompt.clone(), continuations: vec![space.clone()] };
    let alone = text.engine.loglikelihood(&all, &[request], &NoProgress).unwrap()[0][0].sum;
    let zero = alone + reference(&text, &[prompt.clone(), space].concat(), "")[0];
    let mut theirs = reference(&text, &prompt, " ");
    theirs[0] = zero;
    close(ours, theirs, "no joined token");
}
