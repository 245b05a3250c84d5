//! The small files of the pocket model's Hugging Face directory: tokenizer, chat template, special tokens, generation
//! settings.

use std::path::Path;

use lopper_record::{Context, Result};
use serde_json::json;

use crate::tokenizer::{ASSISTANT, BOS, END, PAD, SPECIALS, SYSTEM, USER, tokenizer_json_for};

/// The model's context length in tokens.
pub const CONTEXT_LENGTH: usize = 512;

/// The chat template: each message is its role's token, the content, and the end token.
///
/// It adds no white space, so that the first word of a message is the same token as at the beginning of a text.
pub const CHAT_TEMPLATE: &str = "{{- bos_token }}\
{%- for message in messages %}\
{%- if message['role'] not in ['system', 'user', 'assistant'] %}\
{{- raise_exception('The roles are system, user and assistant') }}\
{%- endif %}\
{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}\
{%- endfor %}\
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}";

/// `tokenizer_config.json` as transformers writes it.
pub fn tokenizer_config_json() -> String {
    let special = |id: u32| SPECIALS[id as usize];
    let decoder: serde_json::Map<_, _> = SPECIALS
        .iter()
        .enumerate()
        .map(|(id, content)| {
            let token = json!({
                "content": content, "lstrip": false, "normalized": false, "rstrip": false,
                "single_word": false, "special": true
            });
            (id.to_string(), token)
        })
        .collect();
    let config = json!({
        "added_tokens_decoder": decoder,
        "additional_special_tokens": [special(SYSTEM), special(USER), special(ASSISTANT)],
        "bos_token": special(BOS),
        "clean_up_tokenization_spaces": false,
        "eos_token": special(END),
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": CONTEXT_LENGTH,
        "pad_token": special(PAD),
        "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast"
    });
    format!("{config:#}\n")
}

/// `special_tokens_map.json`.
pub fn special_tokens_map_json() -> String {
    let special = |id: u32| SPECIALS[id as usize];
    let map = json!({
        "additional_special_tokens": [special(SYSTEM), special(USER), special(ASSISTANT)],
        "bos_token": special(BOS), "eos_token": special(END), "pad_token": special(PAD)
    });
    format!("{map:#}\n")
}

/// `generation_config.json`.
pub fn generation_config_json() -> String {
    let config = json!({"bos_token_id": BOS, "eos_token_id": [END], "pad_token_id": PAD});
    format!("{config:#}\n")
}

/// All files by name, for a vocabulary of these pieces in byte-level spelling.
pub fn files<'a>(words: impl Iterator<Item = &'a str>) -> [(&'static str, String); 5] {
    [
        ("tokenizer.json", tokenizer_json_for(words)),
        ("tokenizer_config.json", tokenizer_config_json()),
        ("special_tokens_map.json", special_tokens_map_json()),
        ("chat_template.jinja", CHAT_TEMPLATE.to_owned()),
        ("generation_config.json", generation_config_json()),
    ]
}

/// Writes all files for the committed vocabulary into an existing directory.
pub fn write(directory: &Path) -> Result<()> {
    for (name, content) in files(crate::tokenizer::vocabulary()) {
        let path = directory.join(name);
        std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
