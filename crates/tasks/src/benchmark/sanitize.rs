//! The program in a response, as EvalPlus's sanitizer finds it: whatever else the response says, and however it dresses
//! its code.
//!
//! What is valid Python is for Python to say, so the interpreter that runs programs also parses responses, in the sandbox
//! and without running anything of them (`sanitize.py`, `design/tasks.md`). It answers with places in the response, which
//! are cut out here. Not covered: a program in several blocks, of which the longest is taken.

use std::time::Duration;

use lopper_record::Result;
use lopper_sandbox::{Outcome, Program, Verdict};
use serde_json::json;

use super::code::CodeRunner;

/// What runs in the sandbox.
const SCRIPT: &str = include_str!("sanitize.py");
/// Responses that one interpreter reads: its start takes longer than reading many.
const TOGETHER: usize = 16;
/// Largest response that is read.
const MOST_BYTES: usize = 256 << 10;
/// Most names that a task's tests call.
const MOST_NAMES: usize = 64;
/// Processor time of one interpreter; reading a usual response takes milliseconds.
const TIME: Duration = Duration::from_secs(30);

/// A response, and the names that the tests call.
#[derive(Debug, Clone)]
pub(crate) struct Unsanitized {
    text: String,
    names: Vec<String>,
}

impl Unsanitized {
    pub fn new(response: &str, names: Vec<String>) -> Self {
        Self { text: response.replace("\r\n", "\n").replace('\r', "\n"), names }
    }

    /// The code that an answer of the script stands for; none if the answer is not one.
    fn code(&self, answer: &str) -> Option<String> {
        let Some((indent, pieces)) = answer.split_once(':') else { return answer.is_empty().then(String::new) };
        let text = less_indented(&self.text, indent.parse().ok()?);
        let mut code = String::new();
        for piece in pieces.split(',') {
            let (begin, end) = piece.split_once('-')?;
            code += text.get(begin.parse().ok()?..end.parse().ok()?)?;
            code.push('\n');
        }
        Some(code)
    }
}

/// The text, with up to `indent` blanks taken from the beginning of each line.
fn less_indented(text: &str, indent: usize) -> String {
    let line = |line: &str| {
        let blanks = line.bytes().take(indent).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        line[blanks..].to_owned()
    };
    text.split_inclusive('\n').map(line).collect()
}

/// The names in a text, each once.
pub(crate) fn names(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
        let name = word.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if name && names.len() < MOST_NAMES && names.iter().all(|known| known != word) {
            names.push(word.to_owned());
        }
    }
    names
}

/// The code of each response; empty where none of it defines what the tests call, or it cannot be read in bounds.
pub(crate) fn sanitized(runner: &CodeRunner, responses: &[Unsanitized]) -> Result<Vec<String>> {
    let mut found = vec![String::new(); responses.len()];
    let readable: Vec<usize> = (0..responses.len()).filter(|at| responses[*at].text.len() <= MOST_BYTES).collect();
    let batches: Vec<&[usize]> = readable.chunks(TOGETHER).collect();
    let mut alone: Vec<&[usize]> = Vec::new();
    for (batch, outcome) in batches.iter().zip(run(runner, responses, &batches)?) {
        match codes(responses, batch, &outcome) {
            Some(codes) => batch.iter().zip(codes).for_each(|(at, code)| found[*at] = code),
            // One that exhausts the interpreter is not to take the others with it.
            None => alone.extend(batch.chunks(1)),
        }
    }
    for (batch, outcome) in alone.iter().zip(run(runner, responses, &alone)?) {
        if let Some(codes) = codes(responses, batch, &outcome) {
            batch.iter().zip(codes).for_each(|(at, code)| found[*at] = code);
        }
    }
    Ok(found)
}

/// What became of the script for each batch.
fn run(runner: &CodeRunner, responses: &[Unsanitized], batches: &[&[usize]]) -> Result<Vec<Outcome>> {
    let program = |batch: &&[usize]| {
        let list: Vec<_> = batch.iter().map(|at| json!([responses[*at].text, responses[*at].names])).collect();
        // Texts and lists are written in JSON as they are in Python.
        Program::new(SCRIPT, "").value(format!("sanitize({})", json!(list))).time(TIME)
    };
    runner.run(batches.iter().map(program).collect())
}

/// The codes of a batch; none unless the script answered for each.
fn codes(responses: &[Unsanitized], batch: &[usize], outcome: &Outcome) -> Option<Vec<String>> {
    let value = outcome.value.as_deref().filter(|_| outcome.verdict == Verdict::Passed)?;
    let answers: Vec<&str> = value.split(';').collect();
    if answers.len() != batch.len() {
        return None;
    }
    batch.iter().zip(answers).map(|(at, answer)| responses[*at].code(answer)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_tests() {
        assert_eq!(names("assert größe(2, 'x1') == _f(2)\nassert größe(3)"), ["assert", "größe", "x1", "_f"]);
        assert_eq!(names(&(0..99).map(|n| format!("n{n} ")).collect::<String>()).len(), MOST_NAMES);
    }

    #[test]
    fn answers_are_places_in_the_response() {
        let response = Unsanitized::new("é\r\n  def f():\r\n    \treturn 1\r", vec![]);
        assert_eq!(response.text, "é\n  def f():\n    \treturn 1\n");
        assert_eq!(response.code("2:3-11,14-23"), Some("def f():\n\treturn 1\n".into()));
        assert_eq!(response.code("0:3-5"), Some("  \n".into()));
        assert_eq!(response.code(""), Some(String::new()));
        for wrong in ["0:1-2", "0:5-3", "0:0-99", "x:0-1", "0:0", "0:", "0", "0:-1-2", "99999999999999999999:0-0"] {
            assert_eq!(response.code(wrong), None, "{wrong}");
        }
        assert_eq!(less_indented("    a\n  b\n\n\t\tc", 3), " a\nb\n\nc");
    }
}
