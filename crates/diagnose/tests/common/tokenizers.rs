//! Tiny random models whose tokenizers split numbers in different ways.

use std::path::Path;

use lopper_infer::{ChatTokenizer, Engine, TextModel};
use lopper_model::Model;
use lopper_model::generation::SpecialIds;
use lopper_model::tokenizer::Tokenizer;
use lopper_testkit::{Tiny, tiny_config};
use serde_json::{Map, Value, json};

/// A tiny random model whose tokenizer splits text by `pattern` and has `words` as tokens.
pub fn model(pattern: &str, words: impl IntoIterator<Item = String>) -> TextModel {
    let ascii = (0x20..0x7f_u8).map(|b| char::from(b).to_string());
    let words = std::iter::once("<unk>".to_owned()).chain(ascii).chain(["\n".to_owned()]).chain(words);
    let mut vocab = Map::new();
    for word in words {
        let next = vocab.len();
        vocab.entry(word).or_insert(json!(next));
    }
    let size = vocab.len();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": Value::Object(vocab), "unk_token": "<unk>"},
    });
    let model = Model::random(tiny_config(Tiny { layers: 2, vocab: size, ..Tiny::default() }), 0.4, 9).unwrap();
    let bytes = tokenizer.to_string();
    TextModel {
        engine: Engine::new(model, 2).unwrap(),
        text: ChatTokenizer {
            tokenizer: Tokenizer::from_bytes(bytes.as_bytes(), Path::new("tokenizer.json"), size).unwrap().into(),
            chat: None,
            special: SpecialIds { eos: vec![0], bos: None, pad: None },
        },
    }
}
