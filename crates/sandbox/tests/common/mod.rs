//! Sandboxes for the tests. Bombs are bounded before anything is run: at most 512 MiB, 32 tasks and
//! 5 seconds for each program.

#![allow(dead_code)]

use std::time::Duration;

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

/// The policy of these tests.
pub fn policy() -> Policy {
    Policy { limits: limits(), helper: Some(env!("CARGO_BIN_EXE_lopper-sandbox-child").into()), ..Policy::default() }
}

/// A sandbox under this policy, or a visible line and nothing where the machine cannot have one.
pub fn sandbox(policy: Policy) -> Option<Sandbox> {
    match Sandbox::new(policy) {
        Ok(sandbox) => Some(sandbox),
        Err(error) => {
            eprintln!("skipped: {error:#}");
            None
        }
    }
}

/// Runs a program; the sandbox itself must not fail.
pub fn run(sandbox: &Sandbox, source: &str, tests: &str) -> Outcome {
    sandbox.run(&Program::new(source, tests)).unwrap()
}
