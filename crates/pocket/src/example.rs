//! Items of the tasks, and their splits.

use serde::{Deserialize, Serialize};

/// The split of an item, which follows from the hash of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For training: 17 of 20 items.
    Train,
    /// For choosing layers: 1 of 20 items.
    Select,
    /// For reported scores: 2 of 20 items.
    Report,
}

impl Split {
    /// The split of the item with this key.
    pub fn of(task: &str, key: &str) -> Self {
        match u64::from_le_bytes(digest(task, key)[..8].try_into().unwrap_or_default()) % 20 {
            0 | 1 => Self::Report,
            2 => Self::Select,
            _ => Self::Train,
        }
    }

    /// Its name in files and arguments.
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

/// The two groups of tasks whose retention is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Multiple choice, scored by log-likelihood.
    Classification,
    /// Generated text, graded.
    Generative,
}

impl Group {
    /// Its name in records and task files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classification => "classification",
            Self::Generative => "generative",
        }
    }
}

/// A prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// The user message of a conversation, to be rendered by the chat template.
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

/// How responses are graded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// The final answer: after `####` in a conversation, the plain number otherwise.
    Number(i64),
    /// The response is a function, which is called with each list of arguments.
    Code {
        /// The function's name.
        function: String,
        /// Arguments and the expected result.
        cases: Vec<(Vec<i64>, i64)>,
    },
    /// `prefix` followed by the response must be balanced brackets and nothing else.
    Brackets {
        /// The brackets in the prompt.
        prefix: String,
    },
    /// The choices are scored as continuations of the prompt.
    Choice {
        /// The choices, each with its leading space.
        choices: Vec<String>,
        /// The position of the correct one.
        label: usize,
    },
    /// ROUGE-L against the reference.
    Summary {
        /// The reference summary.
        reference: String,
    },
}

/// One item of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The task's name.
    pub task: &'static str,
    /// Hexadecimal hash of the key; items with the same id are the same item.
    pub id: String,
    /// The prompt.
    pub prompt: Prompt,
    /// The reference answer: the exact continuation of the prompt.
    pub answer: String,
    /// How responses are graded.
    pub check: Check,
}

/// An item without task and id.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// The content that determines id and split.
    pub key: String,
    pub prompt: Prompt,
    pub answer: String,
    pub check: Check,
}

impl Item {
    /// A raw prompt that the choice number `label` continues.
    pub(crate) fn choice(prompt: String, choices: Vec<String>, label: usize) -> Self {
        Self {
            key: prompt.clone(),
            prompt: Prompt::Plain(prompt),
            answer: choices[label].clone(),
            check: Check::Choice { choices, label },
        }
    }

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
