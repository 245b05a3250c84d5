//! An error that is the user's to mend: it names the input, what was expected, what was found,
//! and a hint. The command line prints it in full and exits with status 2; every other error
//! exits with 1.

use std::fmt;
use std::path::{Path, PathBuf};

/// A fault in what the user gave: a file, an argument, a study file.
///
/// Travels inside [`Error`](crate::Error), whose `fault` gives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong, in one sentence without a trailing full stop.
    pub message: String,
    /// The file or directory at fault, where there is one.
    pub file: Option<PathBuf>,
    /// What would have been right.
    pub expected: Option<String>,
    /// What was found.
    pub got: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault with this message and nothing else yet.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// Names the file at fault.
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.file = Some(path.as_ref().to_path_buf());
        self
    }

    /// Says what would have been right.
    pub fn expected(mut self, text: impl Into<String>) -> Self {
        self.expected = Some(text.into());
        self
    }

    /// Says what was found.
    pub fn got(mut self, text: impl Into<String>) -> Self {
        self.got = Some(text.into());
        self
    }

    /// Says what to do about it.
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(path) = &self.file {
            write!(f, "\n  file: {}", path.display())?;
        }
        for (label, text) in [("expected", &self.expected), ("got", &self.got), ("hint", &self.hint)] {
            if let Some(text) = text {
                write!(f, "\n  {label}: {text}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
