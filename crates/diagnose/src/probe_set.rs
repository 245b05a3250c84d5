//! The default probe set: arithmetic, brackets, open prompts and held-out text.
//!
//! For the pocket model and its cuts these are items of its own tasks from a split that it was not trained on; it knows
//! nothing else. For any other model they are generated items, and texts written for this purpose (`open_prompts.txt`,
//! `held_out.txt`), so that no training data from before 2026 has them.

use anyhow::Result;
use lopper_infer::{Request, Sampling, TextModel};
use lopper_model::chat::Message;
use lopper_pocket::tokenizer::{ASSISTANT, vocabulary_size};
use lopper_pocket::{Prompt, Split};
use lopper_record::key_hash;
use serde_json::json;

use crate::arithmetic::{self, ArithmeticItem, ArithmeticProbe};
use crate::brackets::{self, BracketProbe};

const OPEN_PROMPTS: &str = include_str!("open_prompts.txt");
const HELD_OUT: &str = include_str!("held_out.txt");
/// Operations and digits of the default arithmetic items, as in the paper.
const OPERATIONS: usize = 2;
const DIGITS: u32 = 1;

/// Whether a model is the pocket model or made from it, by its tokenizer.
pub fn is_pocket_model(text: &TextModel) -> bool {
    text.tokenizer.vocab_size() == vocabulary_size() && text.tokenizer.token_to_id("<|assistant|>") == Some(ASSISTANT)
}

/// The default arithmetic probe of at most `n` items.
pub(crate) fn arithmetic(text: &TextModel, split: Split, n: usize, seed: u64) -> Result<ArithmeticProbe> {
    let (items, source): (Vec<ArithmeticItem>, String) = if is_pocket_model(text) {
        (arithmetic::pocket_items(split, n, seed), format!("pocket_arith, {} items", split.name()))
    } else {
        let source = format!("generated, {OPERATIONS} operations on {DIGITS}-digit numbers, seed {seed}");
        (arithmetic::generated(OPERATIONS, DIGITS, n, seed)?, source)
    };
    ArithmeticProbe::prepare(text, &items, source)
}

/// The default bracket probe of at most `n` items.
pub(crate) fn brackets(text: &TextModel, split: Split, n: usize, seed: u64) -> Result<BracketProbe> {
    let items = match is_pocket_model(text) {
        true => brackets::pocket_items(split, n, seed),
        false => brackets::generated(n, seed),
    };
    BracketProbe::prepare(text, items)
}

/// At most `n` open prompts, whose answers are text, as conversations.
pub(crate) fn open_prompts(text: &TextModel, split: Split, n: usize, seed: u64) -> Vec<Vec<Message>> {
    let conversation = |prompt: String| vec![Message::user(prompt)];
    if !is_pocket_model(text) {
        return OPEN_PROMPTS.lines().take(n).map(|prompt| conversation(prompt.to_owned())).collect();
    }
    let of = |task: &'static str| lopper_pocket::examples(task, split, seed);
    let (words, summaries) = (of("pocket_word"), of("pocket_summary"));
    let both = words.zip(summaries).flat_map(|(word, summary)| [word, summary]);
    both.take(n)
        .map(|item| match item.prompt {
            Prompt::Chat(prompt) | Prompt::Plain(prompt) => conversation(prompt),
        })
        .collect()
}

/// Requests for the next turn of conversations: through the chat template where the model has one, otherwise as plain text
/// to continue. A response depends on the seed and its own prompt only.
pub(crate) fn requests(
    text: &TextModel,
    conversations: &[Vec<Message>],
    max_new_tokens: usize,
    sampling: Sampling,
    seed: u64,
) -> Result<Vec<Request>> {
    conversations
        .iter()
        .map(|conversation| {
            let prompt = conversation.last().map_or("", |message| message.content.as_str());
            let tokens = match &text.chat {
                Some(_) => text.conversation(conversation, true)?,
                None => text.plain(&format!("{prompt}\n"))?,
            };
            let hash = key_hash(&json!({"seed": seed, "prompt": prompt}))?;
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

/// Held-out text of at most `tokens` tokens, in sequences.
pub(crate) fn held_out(text: &TextModel, split: Split, tokens: usize, seed: u64) -> Result<Vec<Vec<u32>>> {
    let mut sequences = Vec::new();
    let mut left = tokens;
    let mut add = |mut sequence: Vec<u32>| {
        sequence.truncate(left);
        left -= sequence.len();
        // A single token is never predicted.
        if sequence.len() > 1 {
            sequences.push(sequence);
        }
        left > 0
    };
    if is_pocket_model(text) {
        let tasks = ["pocket_summary", "pocket_topic", "pocket_word", "pocket_code"];
        let mut streams: Vec<_> = tasks.iter().map(|task| lopper_pocket::examples(task, split, seed)).collect();
        'filling: loop {
            for stream in &mut streams {
                let Some(item) = stream.next() else { break 'filling };
                let sequence = match &item.prompt {
                    Prompt::Chat(prompt) => {
                        let turns = [Message::user(prompt.as_str()), Message::assistant(item.answer.as_str())];
                        text.conversation(&turns, false)?
                    }
                    Prompt::Plain(prompt) => text.plain(&format!("{prompt}{}", item.answer))?,
                };
                if !add(sequence) {
                    break 'filling;
                }
            }
        }
    } else {
        for paragraph in HELD_OUT.split("\n\n") {
            if !add(text.plain(paragraph.trim())?) {
                break;
            }
        }
    }
    Ok(sequences)
}
