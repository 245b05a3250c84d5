//! Where the prompts of healing come from, and what a record says of it.
//!
//! A model in use is healed on general instructions: what brings back its way of answering without showing it the
//! tasks that it is measured on. Prompts of the tasks' own training splits are the pocket model's, which knows nothing
//! else, and a choice for any other; the record then says that they are in-distribution.

use lopper_model::chat::Conversation;

use crate::Recipe;
use crate::recipe::TASKS;
use crate::tasks::StudyTasks;

/// The instructions that a model is healed on where the study file names none: 52,002 of them, with answers
/// (CC-BY-NC-4.0), of which the uncut model's own answers to the prompts are learned.
pub const GENERAL_INSTRUCTIONS: &str = "tatsu-lab/alpaca";

/// A prompt to heal by, with the reference answer, if there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct HealingPrompt {
    /// The turns before the answer.
    pub conversation: Conversation,
    /// The answer of the data.
    pub answer: Option<String>,
}

/// Whose answers are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// The uncut model's own.
    SelfGenerated,
    /// Those of them that are not wrong, as far as tasks can tell.
    Verified,
    /// Those of the data.
    Reference,
}

/// Where prompts come from, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptSource {
    words: String,
    /// Whether they are of the data that the tasks' training splits are.
    pub in_distribution: bool,
}

impl PromptSource {
    /// That of a study.
    pub fn of(recipe: &Recipe, tasks: &StudyTasks) -> Self {
        let data = recipe.heal.data.as_str();
        if data == TASKS {
            return Self { words: "prompts of the tasks' own training splits".to_owned(), in_distribution: true };
        }
        let is_of = |rows: &str| rows == data || rows.strip_prefix(data).is_some_and(|rest| rest.starts_with('/'));
        let task = tasks.entries.iter().find(|entry| entry.rows.as_deref().is_some_and(is_of));
        match task {
            Some(task) => {
                Self { words: format!("prompts of {data}, the data set of {}", task.name), in_distribution: true }
            }
            None if data == GENERAL_INSTRUCTIONS => {
                Self { words: format!("general instructions ({data})"), in_distribution: false }
            }
            None => Self { words: format!("prompts of {data}"), in_distribution: false },
        }
    }

    /// What `number` examples are, such as `2,000 self-generated answers to general instructions (tatsu-lab/alpaca)`.
    pub fn describe(&self, number: usize, answers: Answers) -> String {
        let whose = match answers {
            Answers::SelfGenerated => "self-generated",
            Answers::Verified => "verified self-generated",
            Answers::Reference => "reference",
        };
        format!("{} {whose} answers to {}", grouped(number), self.words)
    }
}

/// A number with its thousands apart.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Heal, Tasks};

    fn source(data: &str, task: &str) -> PromptSource {
        let tasks = Tasks { classification: vec![], generative: vec![task.to_owned()] };
        let recipe =
            Recipe { tasks: tasks.clone(), heal: Heal { data: data.into(), ..Heal::default() }, ..Recipe::default() };
        PromptSource::of(&recipe, &StudyTasks::resolve(&tasks).unwrap())
    }

    #[test]
    fn prompts_of_a_tasks_own_data_are_in_distribution() {
        for (data, task, in_distribution, words) in [
            (TASKS, "pocket_word", true, "the tasks' own training splits"),
            ("openai/gsm8k", "gsm8k", true, "openai/gsm8k, the data set of gsm8k"),
            ("openai/gsm", "gsm8k", false, "prompts of openai/gsm"),
            ("own.jsonl", "gsm8k", false, "prompts of own.jsonl"),
            (GENERAL_INSTRUCTIONS, "gsm8k", false, "general instructions (tatsu-lab/alpaca)"),
        ] {
            let source = source(data, task);
            let said = source.describe(1_234_567, Answers::SelfGenerated);
            assert_eq!(source.in_distribution, in_distribution, "{data}");
            assert!(said.starts_with("1,234,567 self-generated answers to ") && said.ends_with(words), "{said}");
        }
        assert!(source(TASKS, "pocket_word").describe(80, Answers::Reference).starts_with("80 reference answers to"));
    }
}
