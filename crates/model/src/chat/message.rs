//! Conversations as files hold them and templates read them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Parts such as `{"type": "text", "text": "…"}`.
    Parts(Vec<Value>),
    /// `null`, as in messages with tool calls.
    Null,
    /// No `content` at all.
    #[serde(skip_deserializing)]
    Absent,
}

impl Content {
    fn absent() -> Self {
        Self::Absent
    }

    fn is_absent(&self) -> bool {
        *self == Self::Absent
    }
}

/// One turn of a conversation, as a template sees it.
///
/// ```
/// use lopper_model::chat::Message;
///
/// let json = r#"{"role": "assistant", "reasoning_content": "2 and 2…", "content": [{"type": "text", "text": "4"}]}"#;
/// let message: Message = serde_json::from_str(json).unwrap();
/// assert_eq!(message.text(), "4");
/// assert!(message.other.contains_key("reasoning_content"));
/// assert_eq!(Message::user("hi").text(), "hi");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`, or whatever else a template knows.
    pub role: String,
    /// What was said.
    #[serde(default = "Content::absent", skip_serializing_if = "Content::is_absent")]
    pub content: Content,
    /// Every other key, such as `reasoning_content`, `tool_calls` or `name`.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: Content::Text(content.into()), other: Map::new() }
    }

    /// A turn of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// The instruction that precedes a conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A turn of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }

    /// The text of the message: that of its text parts one after the other; nothing where it has no content.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.content {
            Content::Text(text) => Cow::Borrowed(text),
            Content::Parts(parts) => parts.iter().filter_map(text_of).collect::<String>().into(),
            Content::Null | Content::Absent => Cow::Borrowed(""),
        }
    }

    /// What is in a part that is not text, such as `image`.
    pub(super) fn part_without_text(&self) -> Option<String> {
        let Content::Parts(parts) = &self.content else { return None };
        let part = parts.iter().find(|part| text_of(part).is_none())?;
        Some(part["type"].as_str().map_or_else(|| part.to_string(), str::to_owned))
    }
}

fn text_of(part: &Value) -> Option<&str> {
    part.as_str().or_else(|| part["text"].as_str())
}

/// Messages in order, with what else their rendering depends on. In a file: an object with `messages`, and `tools` and
/// `chat_template_kwargs` where there are any, as TRL has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// The turns.
    pub messages: Vec<Message>,
    /// Descriptions of tools that the model may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Value>,
    /// Variables of the template for this conversation only, such as `enable_thinking`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub chat_template_kwargs: BTreeMap<String, Value>,
}

impl Conversation {
    /// The first `count` messages, with the same tools and variables.
    pub fn first(&self, count: usize) -> Self {
        Self { messages: self.messages[..count].to_vec(), ..self.clone() }
    }

    /// Puts a system message first, unless there is one.
    pub fn with_system(mut self, system: Option<&str>) -> Self {
        if let Some(system) = system
            && self.messages.first().is_none_or(|first| first.role != "system")
        {
            self.messages.insert(0, Message::system(system));
        }
        self
    }
}

impl From<Vec<Message>> for Conversation {
    fn from(messages: Vec<Message>) -> Self {
        Self { messages, ..Self::default() }
    }
}
