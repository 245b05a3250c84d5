//! What an item of a task is, and how items are divided.

use serde::{Deserialize, Serialize};

/// The division an item belongs to, fixed by the hash of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Learned from: 17 of 20 parts.
    Train,
    /// Layers are chosen on it: 1 part.
    Select,
    /// Scores are reported on it: 2 parts.
    Report,
}

impl Split {
    /// The split of an item with this canonical key.
    pub fn of(task: &str, key: &str) -> Self {
        match u64::from_le_bytes(digest(task, key)[..8].try_into().unwrap_or_default()) % 20 {
            0 | 1 => Self::Report,
            2 => Self::Select,
            _ => Self::Train,
        }
    }

    /// Its name, as it is written in files and arguments.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Select => "select",
            Self::Report => "report",
        }
    }

    /// The split of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Train, Self::Select, Self::Report].into_iter().find(|s| s.name() == name)
    }
}

/// The two groups that are compared throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// One of a few choices, scored by log-likelihood.
    Classification,
    /// A text that is generated, then checked.
    Generative,
}

/// What the model is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// The user's message of a conversation, to be rendered by the chat template.
    Chat(String),
    /// Raw text after the beginning-of-text token.
    Plain(String),
}

impl Prompt {
    /// The text, whichever kind it is.
    pub fn text(&self) -> &str {
        match self {
            Self::Chat(text) | Self::Plain(text) => text,
        }
    }
}

/// How a response is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// The final answer: after `####` in a conversation, the plain number otherwise.
    Number(i64),
    /// The response is a function; it is run on each list of arguments.
    Code {
        /// The function's name.
        function: String,
        /// Arguments and the result they must give.
        cases: Vec<(Vec<i64>, i64)>,
    },
    /// `prefix` followed by the response must be balanced, with nothing superfluous.
    Brackets {
        /// The opening part that the prompt shows.
        prefix: String,
    },
    /// The choices' texts are scored as continuations of the prompt.
    Choice {
        /// Each with its leading space.
        choices: Vec<String>,
        /// The position of the right one.
        label: usize,
    },
    /// ROUGE-L against the reference.
    Summary {
        /// The sentence to match.
        reference: String,
    },
}

/// One item of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The task's name.
    pub task: &'static str,
    /// Hexadecimal hash of the content that matters; two items with one id are one item.
    pub id: String,
    /// What the model is given.
    pub prompt: Prompt,
    /// The reference answer, exactly as the model should continue.
    pub answer: String,
    /// How a response is judged.
    pub check: Check,
}

/// An item before it has been given its identity.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// The content that decides the split.
    pub key: String,
    pub prompt: Prompt,
    pub answer: String,
    pub check: Check,
}

impl Item {
    pub(crate) fn into_example(self, task: &'static str) -> Example {
        let id = digest(task, &self.key)[..16].iter().map(|b| format!("{b:02x}")).collect();
        Example { task, id, prompt: self.prompt, answer: self.answer, check: self.check }
    }
}

fn digest(task: &str, key: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(task.as_bytes());
    hasher.update(&[0]);
    hasher.update(key.as_bytes());
    *hasher.finalize().as_bytes()
}
