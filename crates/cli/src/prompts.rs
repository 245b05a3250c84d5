//! Prompts to answer: conversations from JSON lines, or generated ones of the pocket tasks.
//!
//! A line has `messages` (without a final answer: the model gives its own), or `prompt`, or `instruction` with an
//! optional `input`, as instruction data sets have them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use lopper_model::chat::Message;
use lopper_pocket::{Prompt, Split};
use lopper_record::{Fault, Result};
use serde::Deserialize;

use crate::open_model::POCKET;

/// Prompts taken from the pocket tasks where no number is given.
pub const POCKET_PROMPTS: usize = 1000;

#[derive(Deserialize)]
struct Row {
    messages: Option<Vec<Message>>,
    prompt: Option<String>,
    instruction: Option<String>,
    input: Option<String>,
}

/// The first `limit` conversations of `source`, each ready to be answered. `system` precedes those
/// that have no system message of their own.
pub fn read(source: &str, limit: Option<usize>, seed: u64, system: Option<&str>) -> Result<Vec<Vec<Message>>> {
    let mut conversations = if source == POCKET {
        pocket(limit.unwrap_or(POCKET_PROMPTS), seed)
    } else {
        json_lines(Path::new(source), limit.unwrap_or(usize::MAX))?
    };
    if let Some(system) = system {
        for conversation in &mut conversations {
            if conversation.first().is_none_or(|first| first.role != "system") {
                conversation.insert(0, Message::system(system));
            }
        }
    }
    Ok(conversations)
}

/// Training-split prompts of the pocket tasks that are conversations, in turn.
fn pocket(limit: usize, seed: u64) -> Vec<Vec<Message>> {
    let mut tasks: Vec<_> = lopper_pocket::tasks()
        .iter()
        .filter(|task| task.chat)
        .map(|task| lopper_pocket::examples(task.name, Split::Train, seed))
        .collect();
    let mut prompts = Vec::new();
    while prompts.len() < limit {
        let before = prompts.len();
        for task in &mut tasks {
            if let Some(Prompt::Chat(text)) = task.next().map(|example| example.prompt) {
                prompts.push(vec![Message::user(text)]);
            }
        }
        if prompts.len() == before {
            break;
        }
    }
    prompts.truncate(limit);
    prompts
}

fn json_lines(path: &Path, limit: usize) -> Result<Vec<Vec<Message>>> {
    let unreadable = |error: std::io::Error| {
        Fault::new("the prompts cannot be read").file(path).got(error.to_string()).hint("check the path")
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut conversations = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        if conversations.len() == limit {
            break;
        }
        let line = line.map_err(unreadable)?;
        if line.trim().is_empty() {
            continue;
        }
        let fault = |got: String| {
            Fault::new(format!("line {} is not a prompt", index + 1))
                .file(path)
                .expected("a JSON object with `prompt`, `messages` or `instruction`")
                .got(got)
                .hint("a line looks like {\"prompt\": \"…\"} or {\"messages\": [{\"role\": \"user\", \"content\": \"…\"}]}")
        };
        let row: Row = serde_json::from_str(&line).map_err(|error| fault(error.to_string()))?;
        conversations.push(conversation(row).map_err(|got| fault(got.to_owned()))?);
    }
    if conversations.is_empty() {
        return Err(Fault::new("there are no prompts")
            .file(path)
            .expected("one JSON object on each line")
            .hint("is it the right file?")
            .into());
    }
    Ok(conversations)
}

fn conversation(row: Row) -> Result<Vec<Message>, &'static str> {
    let mut messages = match row {
        Row { messages: Some(messages), .. } => messages,
        Row { prompt: Some(prompt), .. } => vec![Message::user(prompt)],
        Row { instruction: Some(instruction), input, .. } => vec![match input.filter(|input| !input.is_empty()) {
            Some(input) => Message::user(format!("{instruction}\n\n{input}")),
            None => Message::user(instruction),
        }],
        _ => return Err("none of these keys"),
    };
    while messages.last().is_some_and(|last| last.role == "assistant") {
        messages.pop();
    }
    if messages.iter().all(|message| message.role == "system") {
        return Err("a conversation without a user message");
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn read_file(text: &str, limit: Option<usize>, system: Option<&str>) -> Result<Vec<Vec<Message>>> {
        read(write(text).path().to_str().unwrap(), limit, 0, system)
    }

    #[test]
    fn every_form_of_prompt_is_read() {
        let text = concat!(
            "{\"prompt\":\"a\",\"id\":7}\n\n",
            "{\"instruction\":\"b\",\"input\":\"c\",\"output\":\"d\"}\n",
            "{\"instruction\":\"e\",\"input\":\"\"}\n",
            "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"f\"},",
            "{\"role\":\"assistant\",\"content\":\"g\"}]}\n",
        );
        let read = read_file(text, None, Some("be kind")).unwrap();
        let last: Vec<&str> = read.iter().map(|c| c.last().unwrap().content.as_str()).collect();
        assert_eq!(last, ["a", "b\n\nc", "e", "f"]);
        let first: Vec<&str> = read.iter().map(|c| c[0].content.as_str()).collect();
        assert_eq!(first, ["be kind", "be kind", "be kind", "s"]);
        assert_eq!(read_file(text, Some(2), None).unwrap().len(), 2);
    }

    #[test]
    fn lines_at_fault_are_named() {
        for (text, message) in [
            ("{\"prompt\":\"a\"}\n{\"prompt\":3}", "line 2"),
            ("nonsense", "line 1"),
            ("{\"messages\":[]}", "line 1"),
            ("{\"messages\":[{\"role\":\"assistant\",\"content\":\"x\"}]}", "line 1"),
            ("{\"question\":\"x\"}", "line 1"),
            ("\n\n", "no prompts"),
        ] {
            let error = read_file(text, None, None).unwrap_err();
            assert!(error.fault().unwrap().message.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn pocket_prompts_are_seeded_and_alternate_between_tasks() {
        let prompts = read(POCKET, Some(7), 3, None).unwrap();
        assert_eq!(prompts.len(), 7);
        assert_eq!(prompts, read(POCKET, Some(7), 3, None).unwrap());
        assert_ne!(prompts, read(POCKET, Some(7), 4, None).unwrap());
        assert!(prompts.iter().all(|p| p.len() == 1 && p[0].role == "user"));
    }
}
