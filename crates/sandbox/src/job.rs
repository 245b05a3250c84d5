//! What the helper process is told, and what it answers. Both travel over its standard input, a
//! socket: one job as JSON behind its length, answers as one line of JSON each. That the socket
//! closes is also how the helper learns that it is to end.

use std::io::{Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::protection::Mechanism;
use crate::python::View;

/// The first argument that turns a process into the helper.
pub(crate) const MARKER: &str = "--lopper-sandbox-helper";

/// The exit status of a helper that could not do its job; what went wrong is in its answer.
pub(crate) const FAILED: i32 = 71;

/// Descriptors of the helper and of the interpreter.
pub(crate) const ORDERS: i32 = 3;
/// The pipe for the harness's report.
pub(crate) const REPORT: i32 = 4;

/// The directory that a program may write, in a file tree of its own.
pub(crate) const PRIVATE: &str = "/tmp";

/// A job is a few kilobytes; a length beyond this is not one.
const LONGEST: u64 = 16 << 20;

/// Limits as the kernel takes them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KernelLimits {
    pub cpu_seconds: u64,
    pub memory: u64,
    pub disk: u64,
    pub open_files: u64,
    pub tasks: u64,
}

/// Everything that the helper needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Only find out which mechanisms work: a failure is noted and the next one tried.
    pub probe: bool,
    /// What to apply; in a real run each of them must succeed.
    pub mechanisms: Vec<Mechanism>,
    pub command_line: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub view: View,
    /// The directory to write in where there is no file tree of its own.
    pub directory: Option<PathBuf>,
    pub limits: KernelLimits,
    pub allow_processes: bool,
}

/// How one mechanism fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub mechanism: Mechanism,
    /// A remark, or what went wrong.
    pub result: Result<String, String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The helper is at work. Its absence shows a program that does not call `child_main`.
    Hello,
    /// What a probe found.
    Probed(Vec<Step>),
    /// The program was not started, for this reason.
    Failed(String),
    /// The program has ended.
    Ended { status: Option<i32>, signal: Option<i32>, cpu_micros: u64, peak_kib: u64 },
}

impl Job {
    /// Sends the job.
    pub(crate) fn write(&self, to: &mut impl Write) -> Result<()> {
        let bytes = serde_json::to_vec(self).context("a path is not valid UTF-8")?;
        to.write_all(&(bytes.len() as u64).to_le_bytes())?;
        to.write_all(&bytes)?;
        Ok(())
    }

    /// Receives a job.
    pub(crate) fn read(from: &mut impl Read) -> Result<Self> {
        let mut length = [0; 8];
        from.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST {
            bail!("no job is {length} bytes long");
        }
        let mut bytes = Vec::new();
        from.take(length).read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}

impl Answer {
    /// The answer as a line.
    pub(crate) fn line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("answers hold nothing that JSON cannot");
        line.push('\n');
        line
    }

    /// Whether the program runs no longer, or never did.
    pub(crate) fn is_last(&self) -> bool {
        !matches!(self, Answer::Hello)
    }

    /// The answers in complete lines; others are not ours and are skipped.
    pub(crate) fn all(bytes: &[u8]) -> Vec<Answer> {
        bytes.split_inclusive(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}
