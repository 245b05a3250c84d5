//! Sandboxes for the tests. Bombs are bounded before anything is run: at most 512 MiB, 32 tasks and
//! 5 seconds for each program.

#![allow(dead_code)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lopper_record::Fault;
use lopper_sandbox::{Limits, Outcome, Policy, Program, Sandbox};

/// Limits under which every program of these tests runs.
pub fn limits() -> Limits {
    Limits {
        wall: Duration::from_secs(5),
        cpu: Duration::from_secs(3),
        memory: 256 << 20,
        disk: 8 << 20,
        open_files: 48,
        tasks: 16,
        output_kept: 4 << 10,
        output: 1 << 20,
    }
}

/// The interpreter: `python3` on the search path, or the system's where that one lies in a directory
/// that others may not enter, since without a file tree of its own a program of root's runs as `nobody`.
fn python() -> Option<PathBuf> {
    let found =
        Command::new("python3").args(["-c", "import os, sys; print(os.path.realpath(sys.executable))"]).output();
    let path = String::from_utf8(found.ok()?.stdout).ok()?;
    let system = PathBuf::from("/usr/bin/python3");
    let entered =
        |directory: &Path| std::fs::metadata(directory).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
    let open = Path::new(path.trim()).ancestors().skip(1).all(entered);
    (!open && system.exists()).then_some(system)
}

/// The policy of these tests.
pub fn policy() -> Policy {
    Policy {
        python: python(),
        limits: limits(),
        helper: Some(env!("CARGO_BIN_EXE_lopper-sandbox").into()),
        ..Policy::default()
    }
}

/// A sandbox under this policy, or a visible line and nothing where the machine has no Python or
/// lacks what protects it. Any other failure is a failure of the test.
pub fn sandbox(policy: Policy) -> Option<Sandbox> {
    let error = match Sandbox::new(policy) {
        Ok(sandbox) => return Some(sandbox),
        Err(error) => error,
    };
    let fault = error.downcast_ref::<Fault>().map(|f| f.message.clone()).unwrap_or_default();
    let lacking = ["cannot be started", "cannot protect itself"].iter().any(|m| fault.contains(m));
    assert!(lacking, "{error:#}");
    eprintln!("skipped: {error:#}");
    None
}

/// Runs a program; the sandbox itself must not fail.
pub fn run(sandbox: &Sandbox, source: &str, tests: &str) -> Outcome {
    sandbox.run(&Program::new(source, tests)).unwrap()
}
