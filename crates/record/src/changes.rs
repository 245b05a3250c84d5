//! In which keys two settings differ, for messages about runs that cannot be continued with others.

use serde_json::Value;

/// Differences that are named; more are counted.
const MOST: usize = 4;
/// Characters of a value.
const MOST_CHARS: usize = 40;

/// Every key in which `after` differs from `before`, nested keys with dots, with both values:
/// `` `recipe.batch` was 8 and is 4 ``. Empty where nothing differs.
///
/// ```
/// use serde_json::json;
///
/// let changes = lopper_record::changed_keys(&json!({"recipe": {"batch": 8}}), &json!({"recipe": {"batch": 4}}));
/// assert_eq!(changes, "`recipe.batch` was 8 and is 4");
/// ```
pub fn changed_keys(before: &Value, after: &Value) -> String {
    let mut changes = Vec::new();
    collect("", Some(before), Some(after), &mut changes);
    let more = changes.len().saturating_sub(MOST);
    changes.truncate(MOST);
    if more > 0 {
        changes.push(format!("{more} more"));
    }
    changes.join(", ")
}

fn collect(name: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<String>) {
    if before == after {
        return;
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (before, after) {
        let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
        for key in keys {
            let nested = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            collect(&nested, old.get(key), new.get(key), changes);
        }
        return;
    }
    changes.push(match (before, after) {
        (None, Some(new)) => format!("`{name}` is new: {}", short(new)),
        (Some(_), None) => format!("`{name}` is gone"),
        _ => format!(
            "`{name}` was {} and is {}",
            before.map_or_else(String::new, short),
            after.map_or_else(String::new, short)
        ),
    });
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_new_and_missing_keys_are_named() {
        let before = json!({"a": {"b": 1, "c": [1]}, "d": "x", "gone": 1, "same": null});
        let after = json!({"a": {"b": 2, "c": [1]}, "d": "y".repeat(99), "same": null, "new": true});
        let text = changed_keys(&before, &after);
        assert!(text.starts_with("`a.b` was 1 and is 2, `d` was \"x\" and is \"yyy"), "{text}");
        assert!(text.contains("…, `gone` is gone, `new` is new: true"), "{text}");
        assert_eq!(changed_keys(&before, &before), "");
        assert_eq!(changed_keys(&json!(1), &json!(2)), "`` was 1 and is 2");
        let many =
            |value: u32| Value::from((0..9).map(|i| (i.to_string(), json!(value))).collect::<serde_json::Map<_, _>>());
        assert!(changed_keys(&many(1), &many(2)).ends_with(", 5 more"));
    }
}
