//! What the diagnostics ask when nothing else is given: probes, open prompts and held-out text.
//!
//! The pocket model and its cuts are asked items of its own tasks from a split that it has not learned from; it
//! knows nothing else. Any other model is asked generated items and texts written for this purpose
//! (`prompts.txt`, `text.txt`), which therefore stand in no training data of before 2026.

use anyhow::Result;
use lopper_infer::{Request, Sampling, TextModel};
use lopper_model::chat::Message;
use lopper_pocket::tokenizer::{ASSISTANT, vocabulary_size};
use lopper_pocket::{Prompt, Split};
use lopper_record::key_hash;
use serde_json::json;

use super::arithmetic::{self, ArithmeticItem, ArithmeticProbe};
use super::brackets::{self, BracketProbe};

const PROMPTS: &str = include_str!("prompts.txt");
const TEXT: &str = include_str!("text.txt");
/// Operations and digits of the default probe, as in the paper.
const OPERATIONS: usize = 2;
const DIGITS: u32 = 1;

/// Whether a model speaks the pocket model's language: that model, and whatever was made from it.
pub fn is_pocket(text: &TextModel) -> bool {
    text.tokenizer.vocab_size() == vocabulary_size() && text.tokenizer.token_to_id("<|assistant|>") == Some(ASSISTANT)
}

/// The default arithmetic probe.
pub fn arithmetic(text: &TextModel, split: Split, n: usize, seed: u64) -> Result<ArithmeticProbe> {
    let (items, source): (Vec<ArithmeticItem>, String) = if is_pocket(text) {
        (arithmetic::of_pocket(split, n, seed), format!("pocket_arith, {} items", split.name()))
    } else {
        let source = format!("generated, {OPERATIONS} operations on {DIGITS}-digit numbers, seed {seed}");
        (arithmetic::generated(OPERATIONS, DIGITS, n, seed)?, source)
    };
    ArithmeticProbe::prepare(text, &items, source)
}

/// The default bracket probe.
pub fn brackets(text: &TextModel, split: Split, n: usize, seed: u64) -> Result<BracketProbe> {
    let items = if is_pocket(text) { brackets::of_pocket(split, n, seed) } else { brackets::generated(n, seed) };
    BracketProbe::prepare(text, items)
}

/// Open prompts, each to be answered in words: at most `n`.
pub fn prompts(text: &TextModel, split: Split, n: usize, seed: u64) -> Vec<String> {
    if !is_pocket(text) {
        return PROMPTS.lines().map(str::to_owned).take(n).collect();
    }
    let of = |task: &'static str| lopper_pocket::examples(task, split, seed);
    let (words, summaries) = (of("pocket_word"), of("pocket_summary"));
    let both = words.zip(summaries).flat_map(|(word, summary)| [word, summary]);
    both.take(n)
        .map(|item| match item.prompt {
            Prompt::Chat(prompt) | Prompt::Plain(prompt) => prompt,
        })
        .collect()
}

/// Requests that answer conversations: in conversation where the model has a template, otherwise as plain text to go on
/// from. An answer depends on the seed and its prompt only.
pub fn requests(
    text: &TextModel,
    conversations: &[Vec<Message>],
    max_new_tokens: usize,
    sampling: Sampling,
    seed: u64,
) -> Result<Vec<Request>> {
    conversations
        .iter()
        .map(|conversation| {
            let asked = conversation.last().map_or("", |message| message.content.as_str());
            let tokens = match &text.chat {
                Some(_) => text.conversation(conversation, true)?,
                None => text.plain(&format!("{asked}\n"))?,
            };
            let hash = key_hash(&json!({"seed": seed, "prompt": asked}))?;
            Ok(Request {
                prompt: tokens,
                max_new_tokens,
                sampling,
                seed: u64::from_str_radix(&hash[..16], 16)?,
                stop_tokens: text.special.eos.clone(),
                stop: None,
            })
        })
        .collect()
}

/// Held-out text of at most about `tokens` tokens, in sequences.
pub fn held_out(text: &TextModel, split: Split, tokens: usize, seed: u64) -> Result<Vec<Vec<u32>>> {
    let mut sequences = Vec::new();
    let mut left = tokens;
    let mut add = |mut sequence: Vec<u32>| {
        sequence.truncate(left);
        left -= sequence.len();
        // One token predicts nothing.
        if sequence.len() > 1 {
            sequences.push(sequence);
        }
        left > 0
    };
    if is_pocket(text) {
        let tasks = ["pocket_summary", "pocket_topic", "pocket_word", "pocket_code"];
        let mut streams: Vec<_> = tasks.iter().map(|task| lopper_pocket::examples(task, split, seed)).collect();
        'filling: loop {
            for stream in &mut streams {
                let Some(item) = stream.next() else { break 'filling };
                let sequence = match &item.prompt {
                    Prompt::Chat(prompt) => {
                        let asked = [Message::user(prompt.as_str()), Message::assistant(item.answer.as_str())];
                        text.conversation(&asked, false)?
                    }
                    Prompt::Plain(prompt) => text.plain(&format!("{prompt}{}", item.answer))?,
                };
                if !add(sequence) {
                    break 'filling;
                }
            }
        }
    } else {
        for paragraph in TEXT.split("\n\n") {
            if !add(text.plain(paragraph.trim())?) {
                break;
            }
        }
    }
    Ok(sequences)
}
