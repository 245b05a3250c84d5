//! What the caller decides: which Python, what it may read, how much it may use, and whether to go
//! on where the machine cannot protect itself.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protection::Mechanism;

/// How much one program may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall-clock time, from the moment the interpreter is ready to run the program. Well above the
    /// processor time, so that a verdict does not depend on what else the machine does: this limit
    /// is for programs that wait.
    pub wall: Duration,
    /// Processor time of each process, start of the interpreter included; rounded up to seconds.
    pub cpu: Duration,
    /// Address space of each process, in bytes; with a control group also the memory of all.
    pub memory: u64,
    /// Size of the private `/tmp` in bytes, and also the largest size of a single file.
    pub disk: u64,
    /// Open files.
    pub open_files: u64,
    /// Threads, and processes where these are allowed.
    pub tasks: u64,
    /// How much of each of standard output and standard error is kept, in bytes.
    pub output_kept: usize,
    /// How much both together may write before the program is stopped, in bytes.
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
    /// The interpreter; `python3` on the search path where none is given. Version 3.8 or later.
    pub python: Option<PathBuf>,
    /// Whether programs see the packages installed for that interpreter (numpy, say). Files that
    /// run code at start (`.pth`, `sitecustomize`) are not run.
    pub site_packages: bool,
    /// Further directories from which modules can be imported.
    pub python_path: Vec<PathBuf>,
    /// Further files and directories that programs may read.
    pub read_paths: Vec<PathBuf>,
    /// How much a program may use.
    pub limits: Limits,
    /// Whether programs may start other processes. They may not by default: no benchmark needs it,
    /// and a program that is one process is easily stopped.
    pub allow_processes: bool,
    /// Go on where files, network, processes or the kernel are not protected. For people who know
    /// that the machine around Lopper is itself a sandbox.
    pub allow_unprotected: bool,
    /// Mechanisms not to use even where they exist; for tests, which look at each by itself.
    pub switched_off: BTreeSet<Mechanism>,
    /// The program to re-execute as helper; by default the running one, which must call
    /// [`child_main`](crate::child_main) first of all.
    pub helper: Option<PathBuf>,
    /// A control group (version 2) in which groups can be made; looked for where none is given.
    pub cgroup: Option<PathBuf>,
}

/// One program to run, with what is to be checked afterwards.
///
/// All parts run one after another in the same module, as if they were one file; `__name__` is not
/// `"__main__"`, as with the reference implementations of the benchmarks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// What the model wrote.
    pub source: String,
    /// The tests: a program of their own that raises when something is wrong. May be empty.
    pub tests: String,
    /// An expression whose `str` is wanted once the tests have passed.
    pub value: Option<String>,
    /// Processor time for this program, instead of the policy's; three times as much is allowed on
    /// the clock.
    pub time: Option<Duration>,
}

impl Program {
    /// A program and its tests.
    pub fn new(source: impl Into<String>, tests: impl Into<String>) -> Self {
        Self { source: source.into(), tests: tests.into(), ..Self::default() }
    }

    /// Asks for the value of an expression after the tests.
    pub fn value(mut self, expression: impl Into<String>) -> Self {
        self.value = Some(expression.into());
        self
    }

    /// Limits this program's processor time, and the clock to three times as much.
    pub fn time(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }
}
