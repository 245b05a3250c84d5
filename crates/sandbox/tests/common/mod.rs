//! Sandboxes for the tests, with limits below 512 MiB, 32 tasks and 5 seconds for each program.

#![allow(dead_code)]

use lopper_sandbox::{Limits, Mechanism, Outcome, Policy, Program, Sandbox};
use lopper_testkit::{Feature, skip_unless};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The mechanisms of [`Feature::Namespaces`].
pub const NAMESPACES: [Mechanism; 6] = [
    Mechanism::UserNamespace,
    Mechanism::MountNamespace,
    Mechanism::PidNamespace,
    Mechanism::NetworkNamespace,
    Mechanism::IpcNamespace,
    Mechanism::UtsNamespace,
];

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

/// A sandbox under this policy; `None`, with the reason on stderr, if the machine has no Python or cannot isolate it.
/// Any other failure is one of the test.
pub fn try_sandbox(policy: Policy) -> Option<Sandbox> {
    let error = match Sandbox::new(policy) {
        Ok(sandbox) => return Some(sandbox),
        Err(error) => error,
    };
    let fault = error.fault().map(|f| f.message.clone()).unwrap_or_default();
    let lacking = ["cannot be started", "cannot isolate"].iter().any(|m| fault.contains(m));
    assert!(lacking, "{error:#}");
    // `eprintln!` would be captured.
    let _ = writeln!(std::io::stderr(), "{error:#}");
    None
}

/// A sandbox under this policy; without one the test is skipped, or fails if it is required.
#[track_caller]
pub fn sandbox(policy: Policy) -> Option<Sandbox> {
    // Programs with other processes need a namespace that ends them all.
    let feature = if policy.allow_processes { Feature::Namespaces } else { Feature::Sandbox };
    skip_unless(feature, try_sandbox(policy))
}

/// Whether a mechanism is active.
pub fn has(sandbox: &Sandbox, mechanism: Mechanism) -> bool {
    sandbox.protections().iter().any(|p| p.mechanism == mechanism && p.is_active())
}

/// Runs a program; the sandbox itself must not fail.
pub fn run(sandbox: &Sandbox, source: &str, tests: &str) -> Outcome {
    sandbox.run(&Program::new(source, tests)).unwrap()
}
