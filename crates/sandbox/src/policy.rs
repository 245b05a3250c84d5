//! The caller's settings: interpreter, readable paths, limits, and whether to run programs without full isolation.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protection::Mechanism;

/// Resource limits of one program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall-clock time from the start of the program. Well above the processor time, so that verdicts do not depend on
    /// the machine's load: this limit is for programs that wait.
    pub wall: Duration,
    /// Processor time of each process, including the start of the interpreter; rounded up to seconds.
    pub cpu: Duration,
    /// Address space of each process in bytes; with a control group, also the memory of all of them together.
    pub memory: u64,
    /// Size of the private `/tmp` in bytes, and also the largest size of a single file.
    pub disk: u64,
    /// Open files.
    pub open_files: u64,
    /// Threads, and processes if these are allowed.
    pub tasks: u64,
    /// Bytes that are kept of each of standard output and standard error.
    pub output_kept: usize,
    /// Bytes that both together may write before the program is stopped.
    pub output: u64,
}

impl Default for Limits {
    /// Enough for the tests of HumanEval+ and MBPP+, numpy included.
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(60),
            cpu: Duration::from_secs(20),
            memory: 1 << 30,
            disk: 32 << 20,
            open_files: 64,
            tasks: 32,
            output_kept: 64 << 10,
            output: 16 << 20,
        }
    }
}

/// How programs are run. The default is the safe one.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The interpreter, version 3.8 or later; `python3` on the search path by default.
    pub python: Option<PathBuf>,
    /// Whether programs can import the packages installed for that interpreter (numpy, for example). Files that run
    /// code at start (`.pth`, `sitecustomize`) are not run.
    pub site_packages: bool,
    /// Further directories from which modules can be imported.
    pub python_path: Vec<PathBuf>,
    /// Further files and directories that programs can read.
    pub read_paths: Vec<PathBuf>,
    /// Resource limits.
    pub limits: Limits,
    /// Whether programs can start other processes. No benchmark needs it, and a single process is easily stopped.
    pub allow_processes: bool,
    /// Run programs even if files, network, processes or the kernel are not protected; for machines that are themselves
    /// a sandbox.
    pub allow_unprotected: bool,
    /// Mechanisms that are not used; for tests, which check each one alone.
    pub switched_off: BTreeSet<Mechanism>,
    /// The program to execute as helper; by default the running one, which must call [`child_main`](crate::child_main)
    /// at the start of `main`.
    pub helper: Option<PathBuf>,
    /// A control group (version 2) in which groups can be created; by default one is searched.
    pub cgroup: Option<PathBuf>,
}

/// A program and its tests.
///
/// All parts run one after another in the same module, as if they were one file; `__name__` is not `"__main__"`, as in
/// the benchmarks' reference implementations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// The code that the model wrote.
    pub source: String,
    /// The tests: code that raises an exception if something is wrong. May be empty.
    pub tests: String,
    /// An expression to evaluate after the tests; the outcome has its `str`.
    pub value: Option<String>,
    /// Processor time of this program, instead of the policy's; the wall-clock limit is three times as much.
    pub time: Option<Duration>,
}

impl Program {
    /// A program and its tests.
    pub fn new(source: impl Into<String>, tests: impl Into<String>) -> Self {
        Self { source: source.into(), tests: tests.into(), ..Self::default() }
    }

    /// Evaluates an expression after the tests.
    pub fn value(mut self, expression: impl Into<String>) -> Self {
        self.value = Some(expression.into());
        self
    }

    /// Limits this program's processor time, and wall-clock time to three times as much.
    pub fn time(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }
}
