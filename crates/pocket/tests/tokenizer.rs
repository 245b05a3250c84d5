//! The tokenizer file against its own short form, with the `tokenizers` crate as the reference.

use lopper_pocket::tokenizer::{encode, pieces, tokenizer_json, vocabulary, vocabulary_size};
use lopper_pocket::{Split, examples, model_files, tasks};
use proptest::prelude::*;
use tokenizers::Tokenizer;

fn tokenizer() -> Tokenizer {
    tokenizer_json().parse().expect("tokenizer.json is read by the tokenizers crate")
}

#[test]
fn every_example_round_trips_without_falling_back_to_bytes() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.get_vocab_size(true), vocabulary_size());
    for task in tasks() {
        for split in [Split::Train, Split::Select, Split::Report] {
            for example in examples(task.name, split, 11).take(400) {
                for text in [example.prompt.text(), &example.answer] {
                    let encoding = tokenizer.encode(text, false).unwrap();
                    assert_eq!(encoding.get_ids(), encode(text), "{text:?}");
                    assert_eq!(encoding.len(), pieces(text).count(), "{text:?} falls back to bytes");
                    assert_eq!(tokenizer.decode(encoding.get_ids(), false).unwrap(), text);
                }
            }
        }
    }
}

#[test]
fn known_words_are_one_token_and_digits_stand_alone() {
    let tokenizer = tokenizer();
    for (piece, id) in vocabulary().zip(6 + 256..) {
        assert_eq!(tokenizer.token_to_id(piece), Some(id));
        let text = tokenizer.decode(&[id], false).unwrap();
        assert_eq!(encode(&text), [id], "{text:?}");
    }
    let encoding = tokenizer.encode(" 128 + -7\n    return x", false).unwrap();
    let expected = ["Ġ", "1", "2", "8", "Ġ+", "Ġ-", "7", "Ċ", "ĠĠĠĠ", "return", "Ġx"];
    assert_eq!(encoding.get_tokens(), expected);
}

#[test]
fn the_beginning_of_text_is_added_once_and_specials_are_found_in_text() {
    let tokenizer = tokenizer();
    let encoding = tokenizer.encode("Tom has<|end|><|assistant|>Tom", true).unwrap();
    let tokens = ["<|bos|>", "Tom", "Ġhas", "<|end|>", "<|assistant|>", "Tom"];
    assert_eq!(encoding.get_tokens(), tokens);
}

#[test]
fn committed_files_are_the_written_ones() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/pocket");
    for (name, content) in model_files::files(vocabulary()) {
        let committed = std::fs::read_to_string(directory.join(name)).expect(name);
        assert!(committed == content, "{name} differs: run the example write_files");
    }
}

proptest! {
    #[test]
    fn any_text_round_trips_and_both_encoders_agree(text in "\\PC{0,40}|[ \\n\\t\\rA-Za-z_0-9(){}é漢٣\u{a0}\u{85}-]{0,40}") {
        let tokenizer = tokenizer();
        prop_assert_eq!(pieces(&text).collect::<String>(), text.clone());
        let encoding = tokenizer.encode(text.as_str(), false).unwrap();
        prop_assert_eq!(encoding.get_ids(), encode(&text));
        prop_assert_eq!(tokenizer.decode(encoding.get_ids(), false).unwrap(), text);
    }
}
