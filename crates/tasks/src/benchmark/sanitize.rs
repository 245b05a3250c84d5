//! The program in a response, as EvalPlus's sanitizer finds it: whatever else the response says, and however it dresses
//! its code.
//!
//! What is valid Python is for Python to say, so the interpreter that runs programs also parses responses, in the
//! sandbox and without running anything of them (`sanitize.py`, `design/tasks.md`). It answers with places in the
//! response, which are cut out here. Not covered: a program in several blocks, of which the longest is taken.

use std::time::Duration;

use lopper_record::Result;
use lopper_sandbox::{Outcome, Program, Verdict};
use serde_json::json;
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

    /// The code at the places that the script answered with; none if the answer is not of its form.
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
/// `run` runs programs.
pub(crate) fn sanitized(
    responses: &[Unsanitized],
    run: impl Fn(Vec<Program>) -> Result<Vec<Outcome>>,
) -> Result<Vec<String>> {
    let mut found = vec![String::new(); responses.len()];
    let readable: Vec<usize> = (0..responses.len()).filter(|at| responses[*at].text.len() <= MOST_BYTES).collect();
    // One that exhausts the interpreter is not to take others with it, so what fails together is read alone.
    let mut left: Vec<&[usize]> = readable.chunks(TOGETHER).collect();
    while !left.is_empty() {
        let outcomes = run(left.iter().map(|batch| program(responses, batch)).collect())?;
        let mut failed = Vec::new();
        for (batch, outcome) in left.into_iter().zip(outcomes) {
            match codes(responses, batch, &outcome) {
                Some(codes) => batch.iter().zip(codes).for_each(|(at, code)| found[*at] = code),
                None if batch.len() > 1 => failed.extend(batch.chunks(1)),
                None => {}
            }
        }
        left = failed;
    }
    Ok(found)
}

/// The script's call for a batch. Lists, numbers and texts are written in JSON as they are in Python.
fn program(responses: &[Unsanitized], batch: &[usize]) -> Program {
    let list: Vec<_> = batch.iter().map(|at| json!([responses[*at].text, responses[*at].names])).collect();
    Program::new(SCRIPT, "").value(format!("sanitize({})", json!(list))).time(TIME)
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
    use lopper_sandbox::{End, Output, Stage};

    fn outcome(value: Option<&str>) -> Outcome {
        let output = || Output { text: String::new(), bytes: 0, cut: false };
        Outcome {
            verdict: if value.is_some() { Verdict::Passed } else { Verdict::TimeoutOrRecursion },
            end: if value.is_some() { End::Completed } else { End::CpuTime },
            stage: Stage::Tests,
            value: value.map(str::to_owned),
            stdout: output(),
            stderr: output(),
            wall: Duration::ZERO,
            cpu: None,
            peak_memory: None,
        }
    }

    #[test]
    fn what_cannot_be_read_takes_nothing_with_it() {
        let text = |text: &str| Unsanitized::new(text, vec!["f".into()]);
        let mut responses = vec![text("f = 1"); TOGETHER + 2];
        responses[3] = text("hostile");
        responses[TOGETHER + 1] = text(&" ".repeat(MOST_BYTES + 1));
        let calls = std::cell::RefCell::new(Vec::new());
        let run = |programs: Vec<Program>| {
            calls.borrow_mut().push(programs.len());
            let answer = |program: &Program| {
                let call = program.value.as_deref().unwrap();
                assert_eq!(program.source, SCRIPT);
                if call.contains("hostile") { outcome(None) } else { outcome(Some("0:0-5")) }
            };
            Ok(programs.iter().map(answer).collect())
        };
        let found = sanitized(&responses, run).unwrap();
        for (at, code) in found.iter().enumerate() {
            assert_eq!(code, if at == 3 || at == TOGETHER + 1 { "" } else { "f = 1\n" }, "{at}");
        }
        assert_eq!(*calls.borrow(), [2, TOGETHER]);
    }

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
