//! One spelling for each JSON value, so that equal keys have equal hashes whatever order their
//! fields were written in.
//!
//! Object keys are sorted by their bytes and nothing is put between tokens; numbers are written as
//! `serde_json` writes them, which is deterministic. This is close to RFC 8785 but not the same
//! (that one sorts by UTF-16 units and writes numbers as ECMAScript does): the hashes are ours only.

use serde::Serialize;
use serde_json::Value;

use crate::{Context, Result};

/// Writes `value` as JSON with sorted keys and no white space.
pub fn canonical_json(value: &impl Serialize) -> Result<String> {
    let value = serde_json::to_value(value).context("a key cannot be written as JSON")?;
    let mut out = String::new();
    write_value(&value, &mut out);
    Ok(out)
}

/// The blake3 hash of the canonical JSON of `key`, in hexadecimal.
pub fn key_hash(key: &impl Serialize) -> Result<String> {
    Ok(blake3::hash(canonical_json(key)?.as_bytes()).to_hex().to_string())
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(name, _)| name.as_bytes());
            out.push('{');
            for (i, (name, entry)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_value(entry, out);
            }
            out.push('}');
        }
        Value::Array(entries) => {
            out.push('[');
            for (i, entry) in entries.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(entry, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn field_order_does_not_matter_and_values_do() {
        let a = json!({"b": [1, {"y": 0.1, "x": null}], "a": "ü\n"});
        let b = json!({"a": "ü\n", "b": [1, {"x": null, "y": 0.1}]});
        assert_eq!(canonical_json(&a).unwrap(), "{\"a\":\"ü\\n\",\"b\":[1,{\"x\":null,\"y\":0.1}]}");
        assert_eq!(key_hash(&a).unwrap(), key_hash(&b).unwrap());
        assert_ne!(key_hash(&a).unwrap(), key_hash(&json!({"b": [1], "a": "ü\n"})).unwrap());
    }

    #[test]
    fn the_hash_is_the_same_on_every_machine() {
        // `blake3.blake3(b'{"a":1}').hexdigest()` of the Python package blake3.
        let hash = "d59b6562d7c9b121bc9760873d787890ef4d429aad33a70b405baa0fa08a1f53";
        assert_eq!(key_hash(&json!({"a": 1})).unwrap(), hash);
    }
}
