//! The tokens that end a generated text, and the others that generation needs to know.
//!
//! Checkpoints name end tokens in up to three places that often disagree (an instruct model ends
//! a turn with one token and a document with another), so their union is taken: `config.json`,
//! `generation_config.json`, and the tokenizer's `eos_token`.

use lopper_record::Result;
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::hf::{Fields, GENERATION_CONFIG, TOKENIZER_CONFIG, shorten};
use crate::tokenizer::Tokenizer;

/// Special tokens of generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecialIds {
    /// Tokens that end a text, ascending and without repeats; may be empty.
    pub eos: Vec<u32>,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// The token that fills up shorter rows of a batch.
    pub pad: Option<u32>,
}

impl SpecialIds {
    /// Reads them from a checkpoint; `tokenizer` turns the tokenizer's `eos_token` into its id.
    pub fn from_checkpoint(checkpoint: &Checkpoint, tokenizer: Option<&Tokenizer>) -> Result<Self> {
        let config = checkpoint.config();
        let config_path = checkpoint.path_of(crate::hf::CONFIG);
        let config_fields = Fields::new(checkpoint.config_json(), &config_path);
        let mut ids = SpecialIds {
            eos: config.eos_token_ids.clone(),
            bos: config.bos_token_id,
            pad: config_fields.token_ids("pad_token_id")?.first().copied(),
        };
        if let Some(generation) = checkpoint.json_file(GENERATION_CONFIG)? {
            let path = checkpoint.path_of(GENERATION_CONFIG);
            let fields = Fields::new(&generation, &path);
            ids.eos.extend(fields.token_ids("eos_token_id")?);
            // What the generation configuration says wins in transformers' `generate`.
            ids.bos = fields.token_ids("bos_token_id")?.first().copied().or(ids.bos);
            ids.pad = fields.token_ids("pad_token_id")?.first().copied().or(ids.pad);
        }
        if let Some(tokenizer) = tokenizer {
            let strings = SpecialStrings::from_checkpoint(checkpoint)?;
            let id = |token: Option<&String>| token.and_then(|token| tokenizer.token_to_id(token));
            ids.eos.extend(id(strings.get("eos_token")));
            ids.bos = ids.bos.or(id(strings.get("bos_token")));
            ids.pad = ids.pad.or(id(strings.get("pad_token")));
        }
        // A token beyond the vocabulary, which small test models have, can never come up.
        let known = |id: &u32| (*id as usize) < config.vocab_size;
        ids.eos.retain(known);
        ids.eos.sort_unstable();
        ids.eos.dedup();
        ids.bos = ids.bos.filter(known);
        ids.pad = ids.pad.filter(known);
        Ok(ids)
    }
}

/// Settings of `generation_config.json` that change which tokens are generated, and the value that leaves them off;
/// null always does. Temperature, top-k and top-p are settings of Lopper's own, and beams are another search.
const CHANGES_TOKENS: [(&str, f64); 22] = [
    ("repetition_penalty", 1.0),
    ("encoder_repetition_penalty", 1.0),
    ("no_repeat_ngram_size", 0.0),
    ("bad_words_ids", 0.0),
    ("min_p", 0.0),
    ("typical_p", 1.0),
    ("top_h", 1.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("forced_bos_token_id", f64::NAN),
    ("forced_eos_token_id", f64::NAN),
    ("suppress_tokens", 0.0),
    ("begin_suppress_tokens", 0.0),
    ("sequence_bias", 0.0),
    ("force_words_ids", 0.0),
    ("exponential_decay_length_penalty", 0.0),
    ("min_length", 0.0),
    ("min_new_tokens", 0.0),
    ("guidance_scale", 1.0),
    ("penalty_alpha", 0.0),
    ("num_beams", 1.0),
    ("stop_strings", 0.0),
];

/// The settings of `generation_config.json` that Lopper does not apply, with their values: `repetition_penalty 1.05`.
///
/// They are left out on purpose (`design/generation.md`): a score is of the model's own distribution, as evaluation
/// harnesses take it, and a cut model that repeats itself should show it.
///
/// # Errors
/// A [`Fault`](lopper_record::Fault) where the file is not a JSON object.
pub fn settings_not_applied(checkpoint: &Checkpoint) -> Result<Vec<String>> {
    let Some(object) = checkpoint.json_file(GENERATION_CONFIG)? else { return Ok(vec![]) };
    let path = checkpoint.path_of(GENERATION_CONFIG);
    let fields = Fields::new(&object, &path);
    let is_off = |value: &Value, off: f64| match value {
        Value::Number(number) => number.as_f64() == Some(off),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(on) => !on,
        _ => false,
    };
    let set = CHANGES_TOKENS.iter().filter_map(|(key, off)| Some((key, fields.get(key).filter(|v| !is_off(v, *off))?)));
    Ok(set.map(|(key, value)| format!("`{key}` {}", shorten(value))).collect())
}

/// The tokenizer's special tokens as text, by name (`bos_token`, `eos_token`, …).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecialStrings(Vec<(String, String)>);

impl SpecialStrings {
    /// The names that transformers gives special tokens (`SPECIAL_TOKENS_ATTRIBUTES`).
    pub const NAMES: [&'static str; 7] =
        ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

    /// From `tokenizer_config.json`; what it does not name, from the older `special_tokens_map.json`.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let mut strings = Self::default();
        for file in [TOKENIZER_CONFIG, "special_tokens_map.json"] {
            let Some(object) = checkpoint.json_file(file)? else { continue };
            let path = checkpoint.path_of(file);
            let fields = Fields::new(&object, &path);
            for name in Self::NAMES {
                if strings.get(name).is_some() {
                    continue;
                }
                // A string, or the `AddedToken` object that holds it.
                let token = match fields.get(name) {
                    None => continue,
                    Some(Value::Object(token)) => token.get("content").and_then(Value::as_str),
                    Some(token) => token.as_str(),
                };
                let Some(token) = token else {
                    return Err(fields.wrong(name, "a token's text").into());
                };
                strings.set(name, token);
            }
        }
        Ok(strings)
    }

    /// Adds a token under its name, or replaces it.
    pub fn set(&mut self, name: &str, token: &str) {
        self.0.retain(|(other, _)| other != name);
        self.0.push((name.to_owned(), token.to_owned()));
    }

    /// The token of this name.
    pub fn get(&self, name: &str) -> Option<&String> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, token)| token)
    }

    /// All names and tokens.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, token)| (name.as_str(), token.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use std::fs;

    use super::*;
    use crate::checkpoint::Dtype;
    use crate::families::{config_json, parse_config};
    use crate::model::Model;

    #[test]
    fn end_tokens_are_the_union() {
        let dir = tempfile::tempdir().unwrap();
        let json = json!({
            "model_type": "qwen3", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 12, "head_dim": 4,
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "eos_token_id": 3,
            "bos_token_id": 1,
        });
        let config = parse_config(json.as_object().unwrap(), dir.path()).unwrap();
        let model = Model::random(config.clone(), 0.1, 0).unwrap();
        model.save(dir.path(), &config_json(&config, Dtype::F32).unwrap(), Dtype::F32).unwrap();
        let read = || SpecialIds::from_checkpoint(&Checkpoint::open(dir.path()).unwrap(), None);
        assert_eq!(read().unwrap(), SpecialIds { eos: vec![3], bos: Some(1), pad: None });

        let generation = |json: Value| fs::write(dir.path().join(GENERATION_CONFIG), json.to_string()).unwrap();
        generation(json!({"eos_token_id": [7, 3, 5, 16], "pad_token_id": 0, "temperature": 0.6}));
        assert_eq!(read().unwrap(), SpecialIds { eos: vec![3, 5, 7], bos: Some(1), pad: Some(0) });
        generation(json!({"eos_token_id": 9, "pad_token_id": -1, "bos_token_id": 2}));
        assert_eq!(read().unwrap(), SpecialIds { eos: vec![3, 9], bos: Some(2), pad: None });
        generation(json!({"eos_token_id": "</s>"}));
        assert!(read().unwrap_err().into_fault().unwrap().message.contains("eos_token_id"));

        generation(json!({"temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}));
        let not_applied = || settings_not_applied(&Checkpoint::open(dir.path()).unwrap()).unwrap();
        assert_eq!(not_applied(), Vec::<String>::new());
        generation(json!({"repetition_penalty": 1.05, "suppress_tokens": [], "bad_words_ids": [[3]], "min_p": null,
                          "forced_eos_token_id": 0, "num_beams": 1, "typical_p": 0.9}));
        let named =
            ["`repetition_penalty` 1.05", "`bad_words_ids` [[3]]", "`typical_p` 0.9", "`forced_eos_token_id` 0"];
        assert_eq!(not_applied(), named);

        let tokens = json!({"eos_token": {"content": "</s>"}, "bos_token": "<s>", "pad_token": null});
        fs::write(dir.path().join(TOKENIZER_CONFIG), tokens.to_string()).unwrap();
        let strings = SpecialStrings::from_checkpoint(&Checkpoint::open(dir.path()).unwrap()).unwrap();
        assert_eq!(strings.iter().collect::<Vec<_>>(), [("bos_token", "<s>"), ("eos_token", "</s>")]);
    }
}
