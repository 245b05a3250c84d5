//! Messages as transformers hands them to a template.

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

/// Names that a message's reasoning has in data sets and in templates.
pub(super) const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// `messages` with the reasoning under the names that templates read.
pub(super) fn messages<M: Serialize + ?Sized>(messages: &M) -> Result<Value> {
    let mut messages = serde_json::to_value(messages)?;
    for message in messages.as_array_mut().into_iter().flatten() {
        if let Some(message) = message.as_object_mut() {
            add_reasoning(message);
        }
    }
    Ok(messages)
}

fn add_reasoning(message: &mut Map<String, Value>) {
    let given = REASONING.iter().find_map(|name| message.get(*name).filter(|value| !value.is_null()));
    let Some(reasoning) = given.cloned() else { return };
    message.entry("thinking").or_insert_with(|| reasoning.clone());
    message.insert("reasoning_content".to_owned(), reasoning);
}
