//! The protocol of the harness, on the parent's side: the input it gets at the start, and its messages, found among
//! whatever else the program wrote to the same pipe.

use lopper_record::{Context, Result};

use crate::outcome::{Exception, ExceptionClass, Stage};
use crate::policy::Program;

/// More than all messages of the harness together; more bytes come from the program.
pub(crate) const LONGEST: usize = 256 << 10;

/// Digits of a message's length.
const DIGITS: usize = 10;
/// Bytes of a message's kind.
const WORD: usize = 8;

/// The random keys of one run.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    ready: String,
    loaded: String,
    failed: String,
    passed: String,
}

impl Keys {
    /// Four new keys of 128 bits.
    pub(crate) fn new() -> Result<Self> {
        let word = || -> Result<String> {
            let mut bytes = [0_u8; 16];
            getrandom::fill(&mut bytes).context("the system provides no random numbers")?;
            Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
        };
        Ok(Self { ready: word()?, loaded: word()?, failed: word()?, passed: word()? })
    }
}

/// The input that the harness reads before it runs the program.
pub(crate) fn harness_input(keys: &Keys, python_path: &[u8], program: &Program) -> Vec<u8> {
    let value = program.value.as_deref().unwrap_or("''");
    let fields: [&[u8]; 8] = [
        keys.ready.as_bytes(),
        keys.loaded.as_bytes(),
        keys.failed.as_bytes(),
        keys.passed.as_bytes(),
        python_path,
        program.source.as_bytes(),
        program.tests.as_bytes(),
        value.as_bytes(),
    ];
    let mut bytes = Vec::with_capacity(fields.iter().map(|f| f.len() + DIGITS).sum());
    for field in fields {
        bytes.extend_from_slice(format!("{:010}", field.len()).as_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}

/// The harness's last message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// No valid message.
    Nothing,
    /// The interpreter has started.
    Ready,
    /// The program has run to its end.
    Loaded,
    /// Program and tests have run to their end; the value.
    Passed(String),
    /// An exception.
    Failed(Stage, Exception),
}

impl Report {
    /// How far the run has come.
    pub(crate) fn stage(&self) -> Stage {
        match self {
            Report::Nothing => Stage::Start,
            Report::Ready => Stage::Program,
            Report::Loaded | Report::Passed(_) => Stage::Tests,
            Report::Failed(stage, _) => *stage,
        }
    }

    /// Whether more can follow.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Report::Passed(_) | Report::Failed(..))
    }
}

/// The furthest message in the bytes from the pipe. A message counts if it has its key, whatever the program wrote
/// before or after it.
pub(crate) fn parse_report(bytes: &[u8], keys: &Keys) -> Report {
    if let Some((word, body)) = message(bytes, &keys.passed)
        && word == b"passed  "
    {
        return Report::Passed(String::from_utf8_lossy(body).into_owned());
    }
    if let Some((word, body)) = message(bytes, &keys.failed) {
        let stage = if word == b"program " { Stage::Program } else { Stage::Tests };
        return Report::Failed(stage, exception(body, stage));
    }
    if message(bytes, &keys.loaded).is_some() {
        Report::Loaded
    } else if message(bytes, &keys.ready).is_some() {
        Report::Ready
    } else {
        Report::Nothing
    }
}

/// Kind and body of the message with this key, if it is complete.
fn message<'a>(bytes: &'a [u8], key: &str) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(key.len()).position(|window| window == key.as_bytes())?;
    let rest = &bytes[at + key.len()..];
    let word = rest.get(..WORD)?;
    let length: usize = std::str::from_utf8(rest.get(WORD..WORD + DIGITS)?).ok()?.parse().ok()?;
    let body = rest.get(WORD + DIGITS..)?.get(..length)?;
    Some((word, body))
}

/// The exception in a message's body.
fn exception(body: &[u8], stage: Stage) -> Exception {
    let text = String::from_utf8_lossy(body);
    let mut fields = text.split('\0');
    let mut next = || fields.next().unwrap_or_default().to_owned();
    let class = match next().as_str() {
        // A syntax error in the tests is not one of the program.
        "syntax" if stage == Stage::Program => ExceptionClass::Syntax,
        "assertion" => ExceptionClass::Assertion,
        "name" => ExceptionClass::Name,
        "recursion" => ExceptionClass::Recursion,
        "memory" => ExceptionClass::Memory,
        "exit" => ExceptionClass::Exit,
        _ => ExceptionClass::Other,
    };
    Exception { class, kind: next(), message: next(), line: next().parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(key: &str, word: &str, body: &str) -> Vec<u8> {
        format!("{key}{word:8}{:010}{body}", body.len()).into_bytes()
    }

    #[test]
    fn a_message_counts_only_under_its_own_key() {
        let keys = Keys::new().unwrap();
        assert_eq!(parse_report(b"passed  0000000000", &keys), Report::Nothing);
        assert_eq!(parse_report(&framed(&keys.failed, "passed", ""), &keys).stage(), Stage::Tests);
        assert!(!matches!(parse_report(&framed(&keys.failed, "passed", ""), &keys), Report::Passed(_)));
        assert_eq!(parse_report(&framed(&keys.loaded, "passed", ""), &keys), Report::Loaded);
        assert_eq!(parse_report(&framed(&keys.passed, "passed", "7"), &keys), Report::Passed("7".into()));
    }

    #[test]
    fn a_message_is_found_among_other_bytes() {
        let keys = Keys::new().unwrap();
        let mut bytes = b"\xff\x00 nonsense".to_vec();
        bytes.extend(framed(&keys.ready, "ready", ""));
        bytes.extend(framed(&keys.failed, "program", "name\0NameError\0name 'x' is not defined\x003"));
        bytes.extend(b"more");
        let Report::Failed(Stage::Program, exception) = parse_report(&bytes, &keys) else {
            panic!("{:?}", parse_report(&bytes, &keys))
        };
        assert_eq!(exception.class, ExceptionClass::Name);
        assert_eq!(exception.message, "name 'x' is not defined");
        assert_eq!(exception.line, Some(3));
    }

    #[test]
    fn a_message_cut_short_does_not_count() {
        let keys = Keys::new().unwrap();
        let whole = framed(&keys.passed, "passed", "value");
        for length in 0..whole.len() {
            assert_eq!(parse_report(&whole[..length], &keys), Report::Nothing, "{length}");
        }
        let mut too_long = keys.passed.clone().into_bytes();
        too_long.extend(b"passed  9999999999x");
        assert_eq!(parse_report(&too_long, &keys), Report::Nothing);
    }
}
