//! Outcomes of programs, in the classes of arXiv 2602.01997: passed, assertion error, bracket or unterminated literal,
//! other syntax error, name not defined, timeout or recursion depth, other.
//!
//! The class follows from how the run ended and from Python's own exception, which the harness reports separately from
//! the program's output. Bracket errors differ from other syntax errors only in CPython's message; the messages of
//! versions 3.8 to 3.13 are known here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The class of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Program and tests ran to their end.
    Passed,
    /// An assertion of the tests or of the program failed.
    AssertionError,
    /// An unmatched bracket, or a string that is not closed.
    BracketSyntax,
    /// Any other syntax or indentation error.
    OtherSyntax,
    /// A name that is not defined.
    NameNotDefined,
    /// Too slow, or recursion too deep.
    TimeoutOrRecursion,
    /// Anything else; [`End`] says what.
    Other,
}

impl Verdict {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Verdict; 7] = [
        Verdict::Passed,
        Verdict::AssertionError,
        Verdict::BracketSyntax,
        Verdict::OtherSyntax,
        Verdict::NameNotDefined,
        Verdict::TimeoutOrRecursion,
        Verdict::Other,
    ];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::AssertionError => "assertion error",
            Verdict::BracketSyntax => "bracket or unterminated literal",
            Verdict::OtherSyntax => "other syntax error",
            Verdict::NameNotDefined => "name not defined",
            Verdict::TimeoutOrRecursion => "timeout or recursion depth",
            Verdict::Other => "other",
        }
    }
}

/// The last stage that a run reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The interpreter had not reported that it is ready.
    Start,
    /// The program was being compiled or run.
    Program,
    /// The tests were being compiled or run, or the value computed.
    Tests,
}

/// The class of a Python exception: the builtin that it is an instance of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExceptionClass {
    /// The source did not compile. A `SyntaxError` raised in any other way is [`Self::Other`].
    Syntax,
    /// `AssertionError`.
    Assertion,
    /// `NameError` itself; `UnboundLocalError`, where the name is defined, is [`Self::Other`].
    Name,
    /// `RecursionError`.
    Recursion,
    /// `MemoryError`.
    Memory,
    /// `SystemExit`.
    Exit,
    /// Any other.
    Other,
}

/// A Python exception.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// Its class, which determines the verdict.
    pub class: ExceptionClass,
    /// The name of its type.
    pub kind: String,
    /// Its text; cut at 2000 characters.
    pub message: String,
    /// The last line of the program (in the stage of the tests: of the tests) in its traceback.
    pub line: Option<u32>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Program and tests ran to their end.
    Completed,
    /// An exception that nothing caught.
    Raised(Exception),
    /// The process exited with this status before the tests had ended (by `os._exit`, for example).
    Exited(i32),
    /// The process was killed by this signal.
    Killed(i32),
    /// Stopped at the limit on wall-clock time.
    WallTime,
    /// Stopped at the limit on processor time.
    CpuTime,
    /// The kernel killed it because the control group's memory was used up.
    OutOfMemory,
    /// Stopped because it wrote too much.
    OutputLimit,
    /// Stopped because it flooded the pipe of the harness's report.
    BrokenReport,
}

impl End {
    /// The class of this end.
    pub fn verdict(&self) -> Verdict {
        match self {
            End::Completed => Verdict::Passed,
            End::WallTime | End::CpuTime => Verdict::TimeoutOrRecursion,
            End::Raised(exception) => match exception.class {
                ExceptionClass::Assertion => Verdict::AssertionError,
                ExceptionClass::Name => Verdict::NameNotDefined,
                ExceptionClass::Recursion => Verdict::TimeoutOrRecursion,
                ExceptionClass::Syntax if is_bracket(&exception.message) => Verdict::BracketSyntax,
                ExceptionClass::Syntax => Verdict::OtherSyntax,
                ExceptionClass::Memory | ExceptionClass::Exit | ExceptionClass::Other => Verdict::Other,
            },
            _ => Verdict::Other,
        }
    }

    /// A description in one line.
    pub fn describe(&self) -> String {
        match self {
            End::Completed => "ran to the end".into(),
            End::Raised(e) => match (e.class, e.line) {
                (ExceptionClass::Memory, _) => format!("memory used up: {}: {}", e.kind, e.message),
                (ExceptionClass::Exit, _) => format!("exited before the tests had ended: {}: {}", e.kind, e.message),
                (_, Some(line)) => format!("{}: {} (line {line})", e.kind, e.message),
                (_, None) => format!("{}: {}", e.kind, e.message),
            },
            End::Exited(status) => format!("exited with status {status} before the tests had ended"),
            End::Killed(signal) => format!("killed by signal {signal} ({})", signal_name(*signal)),
            End::WallTime => "stopped at the limit on wall-clock time".into(),
            End::CpuTime => "stopped at the limit on processor time".into(),
            End::OutOfMemory => "memory used up: killed by the kernel".into(),
            End::OutputLimit => "stopped because it wrote too much".into(),
            End::BrokenReport => "stopped because it wrote into the harness's report".into(),
        }
    }
}

/// The output of a program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The beginning; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Bytes that were read in all.
    pub bytes: u64,
    /// Whether `text` is shorter than the output.
    pub cut: bool,
}

/// The outcome of one program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The class.
    pub verdict: Verdict,
    /// How the run ended.
    pub end: End,
    /// The last stage that it reached.
    pub stage: Stage,
    /// The value of [`Program::value`](crate::Program::value), cut at 16384 characters.
    pub value: Option<String>,
    /// Standard output.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
    /// Wall-clock time, including the setup of the sandbox.
    pub wall: Duration,
    /// Processor time, if known.
    pub cpu: Option<Duration>,
    /// Peak resident memory in bytes, if known.
    pub peak_memory: Option<u64>,
}

/// Whether CPython's message is about an unmatched bracket or an unterminated literal.
fn is_bracket(message: &str) -> bool {
    const MARKS: [&str; 12] = [
        "was never closed",
        "unmatched '",
        "does not match opening parenthesis",
        "unterminated",
        "EOL while scanning string literal",
        "EOF while scanning triple-quoted string literal",
        // Up to 3.9: the only message for a bracket that is open at the end of the file.
        "unexpected EOF while parsing",
        "f-string: expecting '}'",
        "expecting '}', or format specs",
        "f-string: single '}' is not allowed",
        "f-string: unmatched",
        "too many nested parentheses",
    ];
    MARKS.iter().any(|mark| message.contains(mark))
}

/// The name of a signal, for messages.
fn signal_name(signal: i32) -> String {
    #[cfg(unix)]
    if let Ok(signal) = nix::sys::signal::Signal::try_from(signal) {
        return signal.as_str().to_owned();
    }
    format!("signal {signal}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(class: ExceptionClass, message: &str) -> Verdict {
        End::Raised(Exception { class, kind: "E".into(), message: message.into(), line: None }).verdict()
    }

    #[test]
    fn messages_of_unclosed_things_are_brackets() {
        // The messages of CPython 3.8 to 3.13; tests/run.rs has the test against real interpreters.
        for message in [
            "'(' was never closed",
            "unmatched ')'",
            "closing parenthesis ')' does not match opening parenthesis '['",
            "closing parenthesis ')' does not match opening parenthesis '[' on line 1",
            "unterminated string literal (detected at line 1)",
            "unterminated triple-quoted string literal (detected at line 3)",
            "unterminated f-string literal (detected at line 1)",
            "EOL while scanning string literal",
            "unexpected EOF while parsing",
            "f-string: expecting '}'",
        ] {
            assert_eq!(raised(ExceptionClass::Syntax, message), Verdict::BracketSyntax, "{message}");
        }
        for message in ["invalid syntax", "expected ':'", "unexpected indent", "expected an indented block"] {
            assert_eq!(raised(ExceptionClass::Syntax, message), Verdict::OtherSyntax, "{message}");
        }
    }

    #[test]
    fn ends_have_the_classes_of_the_paper() {
        assert_eq!(End::Completed.verdict(), Verdict::Passed);
        assert_eq!(raised(ExceptionClass::Assertion, ""), Verdict::AssertionError);
        assert_eq!(raised(ExceptionClass::Name, ""), Verdict::NameNotDefined);
        assert_eq!(raised(ExceptionClass::Recursion, ""), Verdict::TimeoutOrRecursion);
        assert_eq!(End::CpuTime.verdict(), Verdict::TimeoutOrRecursion);
        // Such a message in another exception does not count.
        assert_eq!(raised(ExceptionClass::Other, "'(' was never closed"), Verdict::Other);
        for end in [End::Exited(0), End::Killed(9), End::OutOfMemory, End::OutputLimit, End::BrokenReport] {
            assert_eq!(end.verdict(), Verdict::Other, "{end:?}");
        }
    }
}
