//! The pocket model's tokenizer: byte-level BPE as in Llama 3, with `ignore_merges` and no merges. A word of the
//! vocabulary is one token, any other text is tokenised as bytes, so there is no unknown token.
//!
//! Every digit is a token of its own without a leading space, so that numbers are read and written digit by digit and
//! the arithmetic probe can look at the first one. Words and punctuation include their leading space; a run of spaces
//! (indentation) is one token.
//!
//! [`encode`] is the same function as the `tokenizers` crate computes from [`tokenizer_json`] (tested), without regular
//! expressions.

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use crate::example::Split;
use crate::tasks::{examples, tasks};

/// The special tokens; their ids are their positions.
pub const SPECIALS: [&str; 6] = ["<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"];
/// Padding.
pub const PAD: u32 = 0;
/// Begins every text.
pub const BOS: u32 = 1;
/// Ends a turn and a document.
pub const END: u32 = 2;
/// Begins a system message.
pub const SYSTEM: u32 = 3;
/// Begins a user's message.
pub const USER: u32 = 4;
/// Begins a response.
pub const ASSISTANT: u32 = 5;

const FIRST_BYTE: u32 = SPECIALS.len() as u32;
/// The pattern of pieces.
const PATTERN: &str = r" ?[A-Za-z_]+|[0-9]| ?[^\sA-Za-z_0-9]|\n| +|\s";
/// One piece per line in its byte-level spelling; written by `examples/write_files.rs`.
const VOCABULARY: &str = include_str!("vocabulary.txt");

/// The pieces that are one token, in the order of their ids.
pub fn vocabulary() -> impl Iterator<Item = &'static str> {
    VOCABULARY.lines().filter(|line| !line.is_empty())
}

/// Number of tokens, special ones included.
pub fn vocabulary_size() -> usize {
    FIRST_BYTE as usize + 256 + vocabulary().count()
}

/// Splits a text into pieces by [`PATTERN`]; their concatenation is the text.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let length = piece_length(rest)?;
        let (piece, tail) = rest.split_at(length);
        rest = tail;
        Some(piece)
    })
}

fn piece_length(text: &str) -> Option<usize> {
    let is_word = |c: char| c.is_ascii_alphabetic() || c == '_';
    let run = |s: &str, wanted: &dyn Fn(char) -> bool| s.find(|c| !wanted(c)).unwrap_or(s.len());
    let first = text.chars().next()?;
    if is_word(first) {
        return Some(run(text, &is_word));
    }
    if first != ' ' {
        return Some(first.len_utf8());
    }
    Some(match text[1..].chars().next() {
        Some(next) if is_word(next) => 1 + run(&text[1..], &is_word),
        Some(next) if !next.is_whitespace() && !next.is_ascii_digit() => 1 + next.len_utf8(),
        _ => run(text, &|c| c == ' '),
    })
}

/// Token ids of a text without special tokens.
pub fn encode(text: &str) -> Vec<u32> {
    static IDS: OnceLock<HashMap<String, u32>> = OnceLock::new();
    let ids = IDS.get_or_init(|| {
        let first = FIRST_BYTE + 256;
        vocabulary().zip(first..).map(|(piece, id)| (from_byte_level(piece), id)).collect()
    });
    let mut tokens = Vec::new();
    for piece in pieces(text) {
        match ids.get(piece) {
            Some(id) => tokens.push(*id),
            None => tokens.extend(piece.bytes().map(|b| FIRST_BYTE + u32::from(b))),
        }
    }
    tokens
}

/// The pieces of more than one byte that the generators use, in byte-level spelling and in order.
pub fn collect_vocabulary(items_per_task: usize) -> Vec<String> {
    let mut found = BTreeSet::new();
    for task in tasks() {
        for split in [Split::Train, Split::Report] {
            for example in examples(task.name, split, 0).take(items_per_task) {
                for text in [example.prompt.text(), &example.answer] {
                    found.extend(pieces(text).filter(|p| p.len() > 1).map(to_byte_level));
                }
            }
        }
    }
    found.into_iter().collect()
}

/// `tokenizer.json` for the committed vocabulary.
pub fn tokenizer_json() -> String {
    tokenizer_json_for(vocabulary())
}

/// `tokenizer.json` for these pieces in byte-level spelling.
pub fn tokenizer_json_for<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let bytes = (0..=255u8).map(|b| byte_char(b).to_string());
    let tokens = SPECIALS.iter().map(|s| (*s).to_owned()).chain(bytes).chain(words.map(str::to_owned));
    let vocab: Map<String, Value> = tokens.zip(0u32..).map(|(token, id)| (token, json!(id))).collect();
    let added: Vec<Value> = SPECIALS
        .iter()
        .zip(0u32..)
        .map(|(content, id)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true
            })
        })
        .collect();
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false
    });
    let template = |kind: &str| {
        let bos = |n: u32| json!({"SpecialToken": {"id": SPECIALS[BOS as usize], "type_id": n}});
        let text = |name: &str, n: u32| json!({"Sequence": {"id": name, "type_id": n}});
        match kind {
            "single" => json!([bos(0), text("A", 0)]),
            _ => json!([bos(0), text("A", 0), bos(1), text("B", 1)]),
        }
    };
    let bos = SPECIALS[BOS as usize];
    let document = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": false},
                byte_level
            ]
        },
        "post_processor": {
            "type": "Sequence",
            "processors": [
                byte_level,
                {
                    "type": "TemplateProcessing",
                    "single": template("single"),
                    "pair": template("pair"),
                    "special_tokens": {bos: {"id": bos, "ids": [BOS], "tokens": [bos]}}
                }
            ]
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": true,
            "vocab": vocab,
            "merges": []
        }
    });
    format!("{document:#}\n")
}

/// GPT-2's printable spelling of a byte.
fn byte_char(byte: u8) -> char {
    let printable = |b: u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    if printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|b| !printable(*b)).count() as u32;
    char::from_u32(256 + rank).unwrap_or('\u{fffd}')
}

fn to_byte_level(piece: &str) -> String {
    piece.bytes().map(byte_char).collect()
}

/// Inverse of the spelling for ASCII text, as the vocabulary is ASCII.
fn from_byte_level(piece: &str) -> String {
    piece.chars().map(|c| (0..=127u8).find(|b| byte_char(*b) == c).map_or(c, char::from)).collect()
}
