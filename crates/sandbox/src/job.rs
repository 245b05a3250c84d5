//! The protocol of the helper process. Its standard input is a socket: it receives one job, as JSON after its length,
//! and answers with lines of JSON. When the socket closes, it ends.

use std::io::{Read, Write};
use std::path::PathBuf;

use lopper_record::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::protection::Mechanism;
use crate::python::View;

/// The first argument that turns a process into the helper.
pub(crate) const MARKER: &str = "--lopper-sandbox-helper";

/// The exit status of a helper that failed; its answer has the reason.
pub(crate) const FAILED: i32 = 71;

/// The harness's input, a descriptor of the helper and of the interpreter.
pub(crate) const INPUT: i32 = 3;
/// The pipe of the harness's messages.
pub(crate) const REPORT: i32 = 4;

/// The directory that a program can write, in a file tree of its own.
pub(crate) const PRIVATE: &str = "/tmp";

/// Longest job in bytes; usual ones are a few kilobytes.
const LONGEST: u64 = 16 << 20;

/// Limits, in the kernel's units.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KernelLimits {
    pub cpu_seconds: u64,
    pub memory: u64,
    pub disk: u64,
    pub open_files: u64,
    pub tasks: u64,
}

/// The helper's job: one program, or a probe.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Only find out which mechanisms work: failures are recorded and do not end the job.
    pub probe: bool,
    /// The mechanisms to apply. Unless this is a probe, each must succeed.
    pub mechanisms: Vec<Mechanism>,
    pub command_line: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub view: View,
    /// The writable directory, where there is no file tree of its own.
    pub directory: Option<PathBuf>,
    pub limits: KernelLimits,
    pub allow_processes: bool,
}

/// The result of applying one mechanism.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub mechanism: Mechanism,
    /// A remark, or the error.
    pub result: Result<String, String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The helper has started. Without it, the program does not call `child_main`.
    Hello,
    /// The results of a probe.
    Probed(Vec<Step>),
    /// The program could not be started, for this reason.
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

    /// Whether the program has ended, or never started.
    pub(crate) fn is_last(&self) -> bool {
        !matches!(self, Answer::Hello)
    }

    /// The answers among complete lines; other lines are ignored.
    pub(crate) fn all(bytes: &[u8]) -> Vec<Answer> {
        bytes.split_inclusive(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}
