//! What a template can render, found by trying it: system messages and content in parts. What it cannot is put in a
//! form that it can.

use std::borrow::Cow;
use std::collections::BTreeMap;

use lopper_record::{Fault, Result};
use serde_json::{Map, Value, json};

use super::normal::REASONING;
use super::{ChatTemplate, Content, Conversation, Message};

/// A text that no template holds.
const PROBE: &str = "Xq7probe";

/// What a template does with a system message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemRole {
    /// Renders it.
    Rendered,
    /// Raises an error. Lopper puts the text before the first user message, as Gemma's authors advise.
    Refused,
    /// Leaves it out without a word.
    Ignored,
}

/// What a template left out of conversations: see [`ChatTemplate::remarks`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Conversations with a system prompt.
    systems: usize,
    /// Keys of messages that the template does not read, each with the number of messages.
    keys: BTreeMap<String, usize>,
}

/// Keys of messages that describe a message and are not part of it.
const NOT_RENDERED: [&str; 6] = ["id", "index", "weight", "train", "loss", "timestamp"];

impl LeftOut {
    /// Takes in what was counted of other conversations.
    pub fn add(&mut self, other: Self) {
        self.systems += other.systems;
        for (key, messages) in other.keys {
            *self.keys.entry(key).or_default() += messages;
        }
    }
}

impl ChatTemplate {
    /// What the template does with a system message.
    pub fn system_role(&self) -> SystemRole {
        *self.system_role.get_or_init(|| {
            let try_messages = |messages: &[Message]| self.render_with(messages, true, &Map::new());
            let (system, user) = (Message::system(PROBE), Message::user("hi"));
            match try_messages(&[system, user.clone()]) {
                Ok(text) if text.contains(PROBE) => SystemRole::Rendered,
                Ok(_) => SystemRole::Ignored,
                // A template that renders no conversation is no matter of its system role.
                Err(_) if try_messages(&[user]).is_ok() => SystemRole::Refused,
                Err(_) => SystemRole::Rendered,
            }
        })
    }

    /// Whether the template takes the text out of content in parts, in messages of `role`.
    fn reads_parts(&self, role: &str) -> bool {
        let reads = |around: fn(Value) -> Value| {
            let rendered = self.render_with(&around(json!([{"type": "text", "text": PROBE}])), true, &Map::new());
            rendered.is_ok_and(|text| text.contains(PROBE) && !text.contains("'text'") && !text.contains("\"text\""))
        };
        let [system, user, assistant] = self.reads_parts.get_or_init(|| {
            [
                reads(|parts| json!([{"role": "system", "content": parts}, {"role": "user", "content": "hi"}])),
                reads(|parts| json!([{"role": "user", "content": parts}])),
                reads(|parts| {
                    json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": parts},
                        {"role": "user", "content": "hi"}])
                }),
            ]
        });
        match role {
            "system" => *system,
            "assistant" => *assistant,
            _ => *user,
        }
    }

    /// The text of a conversation, with its own tools and variables; as [`ChatTemplate::render`] otherwise.
    pub fn render_conversation(&self, conversation: &Conversation, add_generation_prompt: bool) -> Result<String> {
        let mut messages = self.prepared(&conversation.messages)?;
        let mut variables = Map::from_iter(conversation.chat_template_kwargs.clone());
        if let Some(tools) = &conversation.tools {
            variables.insert("tools".to_owned(), tools.clone());
        }
        let mut rendered = self.render_with(&*messages, add_generation_prompt, &variables);
        let is_absent = |message: &Message| message.content == Content::Absent;
        let absent: Vec<bool> = messages.iter().map(is_absent).collect();
        if !absent.contains(&true) {
            return rendered;
        }
        // Some templates ask whether there is none (DeepSeek's); one that knows no tool calls adds texts.
        for content in [Content::Null, Content::Text(String::new())] {
            if rendered.is_err() {
                for (message, _) in messages.to_mut().iter_mut().zip(&absent).filter(|(_, absent)| **absent) {
                    message.content = content.clone();
                }
                rendered = self.render_with(&*messages, add_generation_prompt, &variables);
            }
        }
        rendered
    }

    /// `messages` in a form that the template renders: without keys that are null, since templates ask whether a key is
    /// there; a refused system message before the first user's text; parts joined where the template knows no parts.
    pub(super) fn prepared<'a>(&self, messages: &'a [Message]) -> Result<Cow<'a, [Message]>> {
        let mut messages = Cow::Borrowed(messages);
        let has_null =
            |message: &Message| message.content == Content::Null || message.other.values().any(Value::is_null);
        if messages.iter().any(has_null) {
            for message in messages.to_mut().iter_mut().filter(|message| has_null(message)) {
                if message.content == Content::Null {
                    message.content = Content::Absent;
                }
                message.other.retain(|_, value| !value.is_null());
            }
        }
        let is_unread =
            |message: &Message| matches!(message.content, Content::Parts(_)) && !self.reads_parts(&message.role);
        if messages.iter().any(is_unread) {
            for message in messages.to_mut().iter_mut().filter(|message| is_unread(message)) {
                if let Some(kind) = message.part_without_text() {
                    return Err(Fault::new("a message has a part that is not text")
                        .expected("text, or a chat template that reads content in parts")
                        .got(format!("a part of type {kind:?}"))
                        .into());
                }
                message.content = Content::Text(message.text().into_owned());
            }
        }
        if messages.first().is_some_and(|first| first.role == "system") && self.system_role() == SystemRole::Refused {
            let messages = messages.to_mut();
            let system = messages.remove(0).text().into_owned();
            match messages.iter_mut().find(|message| message.role == "user") {
                Some(user) => user.content = Content::Text(format!("{system}\n\n{}", user.text())),
                None => messages.insert(0, Message::user(system)),
            }
        }
        Ok(messages)
    }

    /// Counts what the template leaves out of `conversation`.
    pub fn count_left_out(&self, conversation: &Conversation, counts: &mut LeftOut) {
        let messages = &conversation.messages;
        counts.systems += usize::from(messages.first().is_some_and(|first| first.role == "system"));
        let keys = messages.iter().flat_map(|message| &message.other).filter(|(_, value)| !value.is_null());
        let tools = conversation.tools.iter().map(|_| "tools");
        for key in keys.map(|(key, _)| key.as_str()).chain(tools) {
            let mentioned = match REASONING.contains(&key) {
                true => REASONING.iter().any(|name| self.mentions(name)),
                false => self.mentions(key),
            };
            if !NOT_RENDERED.contains(&key) && !mentioned {
                *counts.keys.entry(key.to_owned()).or_default() += 1;
            }
        }
    }

    /// What became of conversations that their authors may not expect, a sentence each: system prompts that are moved
    /// or left out, and keys of messages that the template does not read.
    pub fn remarks(&self, counts: &LeftOut) -> Vec<String> {
        let LeftOut { systems, keys } = counts;
        let system = match self.system_role() {
            SystemRole::Refused if *systems > 0 => Some(format!(
                "the chat template has no system role: {systems} system prompts are put before the first user message"
            )),
            SystemRole::Ignored if *systems > 0 => {
                Some(format!("the chat template leaves out the system prompts of {systems} conversations"))
            }
            _ => None,
        };
        let keys = keys.iter().map(|(key, count)| {
            format!("the chat template does not read `{key}`: it is left out of the prompts ({count} times)")
        });
        system.into_iter().chain(keys).collect()
    }

    /// Whether the template contains `name` as a word.
    fn mentions(&self, name: &str) -> bool {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        self.source.match_indices(name).any(|(at, _)| {
            let (before, after) = (&self.source[..at], &self.source[at + name.len()..]);
            !before.ends_with(is_word) && !after.starts_with(is_word)
        })
    }
}
