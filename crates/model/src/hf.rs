//! Reading the JSON files of a Hugging Face model directory: their names, and typed access to
//! their keys in which a wrong type is a [`Fault`] that names file, key, expected and found.
//!
//! A key whose value is `null` counts as absent; where transformers makes a difference, [`Fields::has`]
//! tells.

use std::ops::RangeInclusive;
use std::path::Path;

use lopper_record::{Fault, Result};
use serde_json::{Map, Value};

/// The model configuration.
pub const CONFIG: &str = "config.json";
/// Weights in one file.
pub const WEIGHTS: &str = "model.safetensors";
/// Maps tensor names to the files of a sharded checkpoint.
pub const WEIGHTS_INDEX: &str = "model.safetensors.index.json";
/// The fast tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// Names of special tokens, and often the chat template.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The chat template as a file of its own (transformers ≥ 4.43).
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// Defaults for generation, among them further end tokens.
pub const GENERATION_CONFIG: &str = "generation_config.json";

/// Longest JSON side file that is parsed, in bytes; tokenizers are the largest real ones.
pub const MAX_SIDE_FILE_BYTES: u64 = 1 << 30;

/// Parses `bytes` as one JSON object; `path` only names the file in a fault.
pub fn parse_object(bytes: &[u8], path: &Path) -> Result<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => {
            Err(Fault::new("not a JSON object").file(path).expected("an object, `{…}`").got(kind(&other)).into())
        }
        Err(error) => Err(Fault::new("not valid JSON")
            .file(path)
            .expected("a JSON object")
            .got(error.to_string())
            .hint("the file may be cut short; download or write it again")
            .into()),
    }
}

/// Typed access to the keys of one JSON object of a file.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: &'a Path,
}

impl<'a> Fields<'a> {
    /// Keys of `object`, read from the file `path`.
    pub fn new(object: &'a Map<String, Value>, path: &'a Path) -> Self {
        Self { object, path }
    }

    /// The file, for faults.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// The value of `key`, unless absent or null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// Whether `key` is there, be it null.
    pub fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    /// A fault about `key`: what it should be, and what it is.
    pub fn wrong(&self, key: &str, expected: impl Into<String>) -> Fault {
        let got = self.get(key).map_or_else(|| "nothing".to_owned(), shorten);
        Fault::new(format!("`{key}` is not usable")).file(self.path).expected(expected).got(got)
    }

    /// The keys that are there with a value other than null, in their order.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        self.object.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.as_str(), value))
    }

    /// A whole number of the range.
    pub fn whole(&self, key: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) if range.contains(&n) => Ok(Some(n)),
            _ => {
                let (least, most) = range.into_inner();
                Err(self.wrong(key, format!("a whole number from {least} to {most}")).into())
            }
        }
    }

    /// A size: a whole number from 1 to `max`.
    pub fn size(&self, key: &str, max: usize) -> Result<Option<usize>> {
        self.whole(key, 1..=max)
    }

    /// A size that has no default.
    pub fn required_size(&self, key: &str, max: usize) -> Result<usize> {
        match self.size(key, max)? {
            Some(n) => Ok(n),
            None => Err(Fault::new(format!("`{key}` is missing"))
                .file(self.path)
                .expected(format!("a whole number from 1 to {max}"))
                .into()),
        }
    }

    /// A finite number.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64().filter(|x| x.is_finite()) {
            Some(x) => Ok(Some(x)),
            None => Err(self.wrong(key, "a number").into()),
        }
    }

    /// A finite number greater than zero.
    pub fn positive(&self, key: &str) -> Result<Option<f64>> {
        match self.number(key)? {
            Some(x) if x <= 0.0 => Err(self.wrong(key, "a number greater than 0").into()),
            x => Ok(x),
        }
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_bool() {
            Some(flag) => Ok(Some(flag)),
            None => Err(self.wrong(key, "true or false").into()),
        }
    }

    /// A string.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(self.wrong(key, "a string").into()),
        }
    }

    /// A list.
    pub fn list(&self, key: &str) -> Result<Option<&'a [Value]>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_array() {
            Some(list) => Ok(Some(list)),
            None => Err(self.wrong(key, "a list, `[…]`").into()),
        }
    }

    /// A nested object.
    pub fn object(&self, key: &str) -> Result<Option<Fields<'a>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_object() {
            Some(object) => Ok(Some(Fields::new(object, self.path))),
            None => Err(self.wrong(key, "an object, `{…}`").into()),
        }
    }

    /// Token ids: one number or a list of numbers; empty where the key is absent. Negative ids,
    /// which older checkpoints use for "none", are left out.
    pub fn token_ids(&self, key: &str) -> Result<Vec<u32>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        let mut ids = Vec::with_capacity(values.len());
        for value in values {
            match value.as_i64() {
                Some(id) if id < 0 => {}
                Some(id) if u32::try_from(id).is_ok() => ids.push(id as u32),
                _ => return Err(self.wrong(key, "a token id or a list of token ids").into()),
            }
        }
        Ok(ids)
    }
}

/// The JSON text of a value, cut to a length that fits a message.
pub fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
