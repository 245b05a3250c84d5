//! Text to token ids and back, by the checkpoint's `tokenizer.json` (the `tokenizers` crate, which
//! is also what transformers runs for fast tokenizers).
//!
//! Truncation and padding that the file may ask for are switched off, as transformers does unless
//! a call asks for them. Not covered: SentencePiece models without a `tokenizer.json`, and the
//! `add_bos_token`/`add_eos_token` switches of `tokenizer_config.json` where the file's own
//! post-processor says otherwise.

use std::path::Path;

use anyhow::anyhow;
use lopper_record::{Fault, Result};

use crate::checkpoint::Checkpoint;
use crate::hf::TOKENIZER;

/// A tokenizer of a model. It may have tokens that the model has no embedding for, as Gemma 3 1B's and finetunes with
/// an added padding token do: a text with one of them is a fault.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Tokens that the model has embeddings for.
    embedded: usize,
}

impl Tokenizer {
    /// The tokenizer of `checkpoint`.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let path = checkpoint.path_of(TOKENIZER);
        let Some(bytes) = checkpoint.file(TOKENIZER)? else {
            let fault = Fault::new("the model has no tokenizer").file(path).expected(TOKENIZER);
            return Err(match checkpoint.file("tokenizer.model")? {
                Some(_) => fault.got("tokenizer.model only").hint(
                    "let transformers write the fast tokenizer: \
                     AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
                ),
                None => fault.hint("token ids given directly need no tokenizer"),
            }
            .into());
        };
        Self::from_bytes(&bytes, &path, checkpoint.config().vocab_size)
    }

    /// A tokenizer from the bytes of a `tokenizer.json`, for a model of `vocab_size` tokens; `path`
    /// names the file in faults.
    pub fn from_bytes(bytes: &[u8], path: &Path, vocab_size: usize) -> Result<Self> {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| {
            Fault::new("the tokenizer cannot be read")
                .file(path)
                .expected("a tokenizer.json as the tokenizers library writes it")
                .got(error.to_string())
        })?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| anyhow!(error))?;
        Ok(Self { inner, embedded: vocab_size })
    }

    /// The ids of `text`; with `add_special`, between the special tokens (such as the one that
    /// begins a text) that the tokenizer's post-processor adds. Text rendered by a chat template
    /// brings its special tokens along: pass `false`.
    ///
    /// # Errors
    /// A [`Fault`] for a text with a token that the model has no embedding for.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, add_special).map_err(|error| anyhow!(error))?;
        let ids = encoding.get_ids();
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.embedded) {
            return Err(Fault::new("the text has a token that the model has no embedding for")
                .expected(format!("ids below {}, the model's `vocab_size`", self.embedded))
                .got(format!("{:?} with id {id}", self.inner.id_to_token(*id).unwrap_or_default()))
                .hint(
                    "leave the token out of the text; if it is an ordinary one, the tokenizer belongs to another model",
                )
                .into());
        }
        Ok(ids.to_vec())
    }

    /// Whether the model has an embedding for each of `ids`.
    pub fn has_embeddings(&self, ids: &[u32]) -> bool {
        ids.iter().all(|id| (*id as usize) < self.embedded)
    }

    /// The text of `ids`; with `skip_special`, without special tokens.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        Ok(self.inner.decode(ids, skip_special).map_err(|error| anyhow!(error))?)
    }

    /// The id of the token written exactly so.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// How the token is written in the vocabulary (byte-level tokens look unlike their text).
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Bytes of the longest token as the vocabulary writes it, which are at least those of its text.
    pub fn longest_token(&self) -> usize {
        self.inner.get_vocab(true).keys().map(String::len).max().unwrap_or(1).max(1)
    }

    /// Begins to decode a text token by token.
    pub fn decode_stream(&self, skip_special: bool) -> DecodeStream<'_> {
        DecodeStream { tokenizer: self, skip_special, ids: Vec::new(), start: 0, text: String::new(), read: 0 }
    }
}

/// Decodes a growing sequence of tokens, for stop strings and live output.
///
/// A token's text depends on its neighbours (a space before a word, bytes of one character spread
/// over several tokens), so each step decodes a short window and takes what is new. Text that
/// still ends in an unfinished character is held back.
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    ids: Vec<u32>,
    /// First token of the window.
    start: usize,
    text: String,
    /// Tokens whose text is in `text`.
    read: usize,
}

impl DecodeStream<'_> {
    /// Adds a token; returns the text that it completed, which may be empty.
    pub fn push(&mut self, id: u32) -> Result<&str> {
        self.ids.push(id);
        let before = self.tokenizer.decode(&self.ids[self.start..self.read], self.skip_special)?;
        let now = self.tokenizer.decode(&self.ids[self.start..], self.skip_special)?;
        let from = self.text.len();
        if now.len() > before.len() && !now.ends_with('\u{fffd}') {
            // The window's beginning may decode otherwise once more follows; then nothing is new
            // until it settles.
            if let Some(new) = now.get(before.len()..) {
                self.text.push_str(new);
                self.start = self.read;
                self.read = self.ids.len();
            }
        }
        Ok(&self.text[from..])
    }

    /// The text so far, without an unfinished character at its end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The tokens so far.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as tokens, with one special token and a post-processor that begins texts with it.
    fn json() -> String {
        // GPT-2's byte alphabet: printable bytes stand for themselves, the others from U+0100 on.
        let mut shifted = 0x100u32;
        let mut vocab = serde_json::Map::new();
        for byte in 0u32..256 {
            let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
            let code = if printable {
                byte
            } else {
                shifted += 1;
                shifted - 1
            };
            vocab.insert(char::from_u32(code).unwrap().to_string(), byte.into());
        }
        serde_json::json!({
            "version": "1.0",
            "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
            "padding": null,
            "added_tokens": [{"id": 256, "content": "<s>", "single_word": false, "lstrip": false,
                              "rstrip": false, "normalized": false, "special": true}],
            "normalizer": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}}},
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                      "vocab": vocab, "merges": []},
        })
        .to_string()
    }

    fn tokenizer() -> Tokenizer {
        Tokenizer::from_bytes(json().as_bytes(), Path::new("tokenizer.json"), 257).unwrap()
    }

    #[test]
    fn text_round_trips_and_is_not_truncated() {
        let tokenizer = tokenizer();
        for text in ["", "two words\n", "café → 漢字 🙂", "<s>"] {
            let ids = tokenizer.encode(text, false).unwrap();
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
            let special = tokenizer.encode(text, true).unwrap();
            assert_eq!(special[0], 256);
            assert_eq!(special[1..], ids);
        }
        let ids = tokenizer.encode("<s>a", false).unwrap();
        assert_eq!(ids.len(), 2);
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), "a");
        assert_eq!(tokenizer.token_to_id("<s>"), Some(256));
        assert_eq!(tokenizer.id_to_token(256).as_deref(), Some("<s>"));
        assert_eq!(tokenizer.vocab_size(), 257);
    }

    #[test]
    fn a_stream_gives_whole_characters() {
        let tokenizer = tokenizer();
        let text = "a é 漢🙂!";
        let mut stream = tokenizer.decode_stream(true);
        let mut pieces = Vec::new();
        for id in tokenizer.encode(text, true).unwrap() {
            let piece = stream.push(id).unwrap().to_owned();
            assert!(!piece.contains('\u{fffd}'));
            pieces.push(piece);
        }
        assert_eq!(pieces.concat(), text);
        assert_eq!(stream.text(), text);
        assert_eq!(stream.ids().len(), text.len() + 1);
        // An unfinished character is held back.
        let mut stream = tokenizer.decode_stream(true);
        let ids = tokenizer.encode("x🙂", false).unwrap();
        for id in &ids[..ids.len() - 1] {
            stream.push(*id).unwrap();
        }
        assert_eq!(stream.text(), "x");
    }

    #[test]
    fn what_does_not_fit_is_a_fault() {
        let fault = |bytes: &[u8], vocab_size| match Tokenizer::from_bytes(bytes, Path::new("t"), vocab_size) {
            Ok(_) => panic!("read"),
            Err(error) => error.into_fault().unwrap(),
        };
        // A token without an embedding is a fault only where a text has it.
        let smaller = Tokenizer::from_bytes(json().as_bytes(), Path::new("t"), 256).unwrap();
        assert_eq!(smaller.encode("ab", false).unwrap().len(), 2);
        let error = smaller.encode("ab", true).unwrap_err().into_fault().unwrap();
        assert_eq!(error.got.as_deref(), Some("\"<s>\" with id 256"));
        assert!(smaller.has_embeddings(&[0, 255]) && !smaller.has_embeddings(&[0, 256]));
        for bytes in ["", "{}", "[1]", "{\"model\": {\"type\": \"BPE\"}}"] {
            fault(bytes.as_bytes(), 257);
        }
    }
}
