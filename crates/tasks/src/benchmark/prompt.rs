//! The turns of a prompt: description, few-shot examples, the question; and how they become text or a
//! conversation.
//!
//! Follows lm-evaluation-harness 0.4.13 (`fewshot_context`, `build_qa_turn`, `multiturn_to_singleturn`): each
//! turn carries what follows it in plain text, and in conversation the delimiters fall away
//! or, where the examples are put into one message, the last one does.

use lopper_model::chat::Message;

/// A turn, and what follows it in plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    pub role: Role,
    pub content: String,
    pub after: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
}

impl Turn {
    pub fn new(role: Role, content: impl Into<String>, after: impl Into<String>) -> Self {
        Self { role, content: content.into(), after: after.into() }
    }
}

/// The turns as plain text.
pub(crate) fn plain(turns: &[Turn]) -> String {
    turns.iter().flat_map(|turn| [turn.content.as_str(), turn.after.as_str()]).collect()
}

/// The turns as messages: one for each, or all but the system's in one.
pub(crate) fn messages(turns: &[Turn], multiturn: bool) -> Vec<Message> {
    let message = |turn: &Turn| match turn.role {
        Role::System => Message::system(turn.content.as_str()),
        Role::User => Message::user(turn.content.as_str()),
        Role::Assistant => Message::assistant(turn.content.as_str()),
    };
    if multiturn {
        return turns.iter().map(message).collect();
    }
    let systems = turns.iter().take_while(|turn| turn.role == Role::System).count();
    let mut all: Vec<Message> = turns[..systems].iter().map(message).collect();
    if let Some((last, before)) = turns[systems..].split_last() {
        all.push(Message::user(plain(before) + &last.content));
    }
    all
}

/// Two texts with `between` where neither has white space at the joint.
pub(crate) fn joined(first: &str, second: &str, between: &str) -> String {
    let open = first.ends_with(char::is_whitespace) || second.starts_with(char::is_whitespace);
    let between = if first.is_empty() || second.is_empty() || open { "" } else { between };
    format!("{first}{between}{second}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_become_text_or_messages() {
        let turns = [
            Turn::new(Role::System, "About x.\n\n", ""),
            Turn::new(Role::User, "Q: a", " "),
            Turn::new(Role::Assistant, "b", "\n\n"),
            Turn::new(Role::User, "Q: c", ""),
        ];
        assert_eq!(plain(&turns), "About x.\n\nQ: a b\n\nQ: c");
        assert_eq!(messages(&turns, true).len(), 4);
        assert_eq!(messages(&turns, false), [Message::system("About x.\n\n"), Message::user("Q: a b\n\nQ: c")]);
        assert_eq!(messages(&turns[3..], false), [Message::user("Q: c")]);
        assert!(messages(&turns[..1], false).len() == 1);
        assert_eq!(
            (joined("a", "b", "\n"), joined("a ", "b", "\n"), joined("", "b", "\n")),
            ("a\nb".into(), "a b".into(), "b".into())
        );
    }
}
