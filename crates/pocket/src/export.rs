//! Items as JSON Lines, for other programs.

use std::io::Write;

use lopper_record::{Fault, Result};
use serde_json::json;

use crate::example::{Check, Prompt, Split};
use crate::tasks::{examples, task, tasks};

/// Writes the first `n` items of a task's split, one JSON object per line; returns their number, which is less than `n`
/// if a held-out split has no more items.
///
/// A line has `task`, `id`, `split`, `prompt` or `messages`, `answer`, and the fields of its check: `number`,
/// `function` and `cases`, `prefix`, `choices` and `label`, or `reference`.
///
/// # Errors
/// A [`Fault`] for an unknown task.
pub fn export_jsonl(name: &str, split: Split, seed: u64, n: usize, writer: &mut dyn Write) -> Result<usize> {
    if task(name).is_none() {
        let known: Vec<&str> = tasks().iter().map(|t| t.name).collect();
        return Err(Fault::new("there is no such generated task")
            .expected(format!("one of {}", known.join(", ")))
            .got(name)
            .hint("use the full name, such as `pocket_word`")
            .into());
    }
    let mut written = 0;
    for example in examples(name, split, seed).take(n) {
        let mut row = json!({"task": example.task, "id": example.id, "split": split.name()});
        match &example.prompt {
            Prompt::Chat(text) => row["messages"] = json!([{"role": "user", "content": text}]),
            Prompt::Plain(text) => row["prompt"] = json!(text),
        }
        row["answer"] = json!(example.answer);
        match &example.check {
            Check::Number(number) => row["number"] = json!(number),
            Check::Code { function, cases } => {
                row["function"] = json!(function);
                row["cases"] = json!(cases);
            }
            Check::Brackets { prefix } => row["prefix"] = json!(prefix),
            Check::Choice { choices, label } => {
                row["choices"] = json!(choices);
                row["label"] = json!(label);
            }
            Check::Summary { reference } => row["reference"] = json!(reference),
        }
        serde_json::to_writer(&mut *writer, &row)?;
        writer.write_all(b"\n")?;
        written += 1;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_one_json_object_with_an_answer() {
        for task in tasks() {
            let mut bytes = Vec::new();
            assert_eq!(export_jsonl(task.name, Split::Report, 1, 5, &mut bytes).unwrap(), 5);
            for line in String::from_utf8(bytes).unwrap().lines() {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(row["task"], task.name);
                assert_eq!(row["messages"].is_array(), task.chat);
                assert!(row["answer"].as_str().is_some_and(|a| !a.is_empty()));
            }
        }
        let fault = export_jsonl("pocket_words", Split::Train, 1, 5, &mut Vec::new()).unwrap_err();
        assert!(fault.fault().is_some());
    }
}
