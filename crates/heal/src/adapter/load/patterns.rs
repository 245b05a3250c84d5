//! PEFT's `rank_pattern` and `alpha_pattern`: values for modules whose name ends in what a key, a regular expression of
//! Python, matches (`get_pattern_key` in `peft/utils/other.py` of PEFT 0.21; the first key that matches wins).

use fancy_regex::Regex;
use lopper_model::hf::Fields;
use lopper_record::{Fault, Result};
use serde_json::Value;

/// Keys that are read; more are refused.
const MAX_KEYS: usize = 1 << 12;
/// Bytes of a key.
const MAX_KEY_BYTES: usize = 1 << 10;
/// What [`Fault`]s expect.
const EXPECTED: &str = "an object from module names or regular expressions to numbers above 0";

/// Numbers by module.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    key: &'static str,
    entries: Vec<(Regex, f64)>,
}

impl Patterns {
    /// The setting `key`; empty where it is not there.
    pub fn read(fields: Fields<'_>, key: &'static str) -> Result<Self> {
        let Some(value) = fields.get(key) else { return Ok(Self::default()) };
        let Value::Object(map) = value else { return Err(fields.wrong(key, EXPECTED).into()) };
        if map.len() > MAX_KEYS || map.keys().any(|pattern| pattern.len() > MAX_KEY_BYTES) {
            return Err(fields.wrong(key, format!("at most {MAX_KEYS} keys of {MAX_KEY_BYTES} bytes")).into());
        }
        let mut entries = Vec::with_capacity(map.len());
        for (pattern, value) in map {
            let number = value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
            let number = number.ok_or_else(|| fields.wrong(key, EXPECTED))?;
            let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$")).map_err(|error| {
                fields.wrong(key, EXPECTED).got(format!("`{pattern}`: {error}")).hint("only usual expressions are read")
            })?;
            entries.push((regex, number));
        }
        Ok(Self { key, entries })
    }

    /// The number for a module, such as `model.layers.0.mlp.up_proj`.
    pub fn of(&self, module: &str) -> Result<Option<f64>> {
        for (regex, number) in &self.entries {
            let matches = regex.is_match(module).map_err(|error| {
                Fault::new(format!("`{}` cannot be matched with `{module}`", self.key)).got(error.to_string())
            })?;
            if matches {
                return Ok(Some(*number));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;

    fn patterns(value: Value) -> Result<Patterns> {
        let object = json!({"rank_pattern": value});
        Patterns::read(Fields::new(object.as_object().unwrap(), Path::new("x")), "rank_pattern")
    }

    #[test]
    fn keys_match_the_ends_of_names_and_the_first_wins() {
        let all =
            patterns(json!({"q_proj": 3, r"layers\.[01]\.mlp\.up_proj": 4, r"^model\.layers\.2\..*": 5})).unwrap();
        for (module, number) in [
            ("model.layers.7.self_attn.q_proj", Some(3.0)),
            ("model.layers.7.self_attn.xq_proj", None),
            ("model.layers.1.mlp.up_proj", Some(4.0)),
            ("model.layers.11.mlp.up_proj", None),
            ("model.layers.2.mlp.up_proj", Some(5.0)),
            ("model.layers.2.self_attn.q_proj", Some(3.0)),
        ] {
            assert_eq!(all.of(module).unwrap(), number, "{module}");
        }
        assert_eq!(patterns(json!({})).unwrap().of("q_proj").unwrap(), None);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let long = "a".repeat(MAX_KEY_BYTES + 1);
        for wrong in [json!([1]), json!({"q": 0}), json!({"q": "x"}), json!({"(": 1}), json!({long: 1})] {
            assert!(patterns(wrong.clone()).unwrap_err().fault().is_some(), "{wrong}");
        }
        // A pattern that would take for ever is given up.
        let slow = patterns(json!({r"(?=(a+)+b)(a|aa)+\1c": 1})).unwrap();
        assert!(slow.of(&"a".repeat(200)).is_err());
    }
}
