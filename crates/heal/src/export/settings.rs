//! Settings in the spelling of Python and YAML, and templates that they are put into.

use lopper_record::{Result, ensure};
use serde_json::Value;

/// Most examples of a forward pass, in a recipe.
const MICRO: usize = 4;

/// An optimiser step as other programs divide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Examples of a forward pass.
    pub micro: usize,
    /// Forward passes.
    pub accumulation: usize,
}

impl Step {
    /// The division of a batch.
    pub fn of(batch: usize) -> Self {
        let micro = (1..=MICRO.min(batch)).rev().find(|micro| batch.is_multiple_of(*micro)).unwrap_or(1);
        Self { micro, accumulation: batch / micro }
    }
}

/// A value as Python writes it.
pub fn python(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Array(list) => format!("[{}]", list.iter().map(python).collect::<Vec<_>>().join(", ")),
        // Escapes of JSON's strings mean the same in Python's, and in YAML's in double quotes.
        other => other.to_string(),
    }
}

/// A number without an exponent, which YAML 1.1 would read as text.
pub fn decimal(number: f64) -> String {
    format!("{number}")
}

/// The template with every `@NAME@` replaced.
pub fn filled(template: &str, values: &[(&str, String)]) -> Result<String> {
    // In one pass, so that no value is taken for a name.
    let (mut out, mut rest) = (String::with_capacity(template.len()), template);
    while let Some((before, after)) = rest.split_once('@') {
        let name = after.split_once('@').map(|(name, _)| name);
        let value = name.and_then(|name| values.iter().find(|(key, _)| *key == name));
        out.push_str(before);
        match (name, value) {
            (Some(name), Some((_, value))) => {
                out.push_str(value);
                rest = &after[name.len() + 1..];
            }
            _ => {
                ensure!(
                    name.is_none_or(|name| !name.chars().all(|c| c.is_ascii_uppercase() || c == '_')),
                    "`{name:?}`"
                );
                out.push('@');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_spelled_as_the_languages_do() {
        let list = json!([null, true, "a\"b\n", 1.5, 2e-4]);
        assert_eq!(python(&list), r#"[None, True, "a\"b\n", 1.5, 0.0002]"#);
        assert_eq!([1e-8, 2e-4, 3.0].map(decimal), ["0.00000001", "0.0002", "3"]);
    }

    #[test]
    fn a_batch_is_divided_evenly() {
        let of = |batch| (Step::of(batch).micro, Step::of(batch).accumulation);
        assert_eq!([1, 2, 5, 6, 8, 16].map(of), [(1, 1), (2, 1), (1, 5), (3, 2), (4, 2), (4, 4)]);
    }

    #[test]
    fn names_are_replaced_once() {
        let values = [("A", "@B@".to_owned()), ("B", "b".to_owned())];
        assert_eq!(filled("x@A@y@B@ a@b.c @", &values).unwrap(), "x@B@yb a@b.c @");
        assert!(filled("@MISSING@", &values).is_err());
    }
}
