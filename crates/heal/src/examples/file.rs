//! Examples from a JSON Lines file.

use super::{ExampleText, Examples, Renderer};
use lopper_infer::Finish;
use lopper_model::chat::Message;
use lopper_record::{Context, Fault, Result};
use serde::Deserialize;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Longest line, in bytes.
const MAX_LINE_BYTES: u64 = 1 << 26;

#[derive(Deserialize)]
struct Row {
    messages: Option<Vec<Message>>,
    prompt: Option<String>,
    response: Option<String>,
    finish: Option<Value>,
}

/// Reads lines of `{"messages": […]}` or `{"prompt": "…", "response": "…"}`, each with an optional `finish` as `lopper
/// generate` writes it; other keys are ignored. Lines that are not usable are counted and reported.
///
/// # Errors
/// A [`Fault`] when the file cannot be read, holds no usable line, or needs a chat template that
/// the model lacks.
pub fn read_examples(path: &Path, renderer: &Renderer<'_>, max_length: usize) -> Result<Examples> {
    let file = File::open(path).map_err(|error| {
        Fault::new("the examples cannot be read").file(path).got(error.to_string()).hint("check the path")
    })?;
    let mut reader = BufReader::new(file);
    let mut examples = Examples::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line);
        let length = read.with_context(|| format!("reading {}", path.display()))?;
        if length as u64 > MAX_LINE_BYTES {
            return Err(Fault::new(format!("line {number} is too long"))
                .file(path)
                .expected(format!("one JSON object on each line, of at most {MAX_LINE_BYTES} bytes"))
                .hint("JSON lines have no line breaks within an object and one after each")
                .into());
        }
        if length == 0 {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match parse(&line) {
            Ok((text, finish)) => examples.add(renderer, number, &text, finish, max_length)?,
            Err(what) => {
                examples.report.rows += 1;
                examples.complain(number, what);
            }
        }
    }
    if examples.documents.is_empty() {
        return Err(nothing(path, &examples, max_length).into());
    }
    Ok(examples)
}

fn parse(line: &[u8]) -> Result<(ExampleText, Option<Finish>), String> {
    let row: Row = serde_json::from_slice(line).map_err(|error| format!("not an example: {error}"))?;
    let text = match row {
        Row { messages: Some(messages), .. } => ExampleText::Chat { messages },
        Row { prompt: Some(prompt), response: Some(response), .. } => ExampleText::Plain { prompt, response },
        _ => return Err("neither `messages` nor `prompt` and `response`".to_owned()),
    };
    // Other programs may use `finish` for something else.
    Ok((text, row.finish.and_then(|finish| serde_json::from_value(finish).ok())))
}

fn nothing(path: &Path, examples: &Examples, max_length: usize) -> Fault {
    let report = &examples.report;
    let mut got = format!(
        "{} lines: {} unusable, {} longer than {max_length} tokens, {} cut off",
        report.rows, report.unusable, report.too_long, report.unfinished
    );
    if let Some((line, what)) = report.complaints.first() {
        got.push_str(&format!("; line {line}: {what}"));
    }
    Fault::new("no usable examples")
        .file(path)
        .expected("lines such as {\"messages\": [{\"role\": \"user\", …}, {\"role\": \"assistant\", …}]}")
        .got(got)
        .hint("`lopper generate` writes such a file; answers that are cut off need a larger --max-new-tokens there")
}
