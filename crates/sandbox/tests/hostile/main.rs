//! Programs that mean harm. Each must be contained, must be recorded as what it was, and must leave
//! the sandbox as able to run the next program as before; a harmless program after each one shows
//! that.
//!
//! Every program runs under several settings, in each of which other protections are in force, so
//! that each of them is seen to hold by itself and not only behind another one. Bombs are bounded:
//! see `common`. All traffic stays on this machine's loopback.
//!
//! `cargo test -p lopper-sandbox --test hostile -- --nocapture` prints what was seen; the table in
//! `docs/reference/sandbox.md` is written from it.

#![cfg(target_os = "linux")]
// What is skipped must be seen.
#![allow(clippy::print_stderr, clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;

mod escapes;
mod files;
mod forging;
mod network;
mod processes;
mod resources;

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use lopper_sandbox::{End, Mechanism, Outcome, Policy, Program, Sandbox};

/// Which protections are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All that the machine has, the default policy.
    All,
    /// The same, but programs may start processes.
    Processes,
    /// Landlock and seccomp only, as in most containers.
    Container,
    /// Namespaces, users and limits only; programs may start processes.
    Namespaces,
}

struct Setting {
    kind: Kind,
    sandbox: Sandbox,
}

const NAMESPACES: [Mechanism; 6] = [
    Mechanism::UserNamespace,
    Mechanism::MountNamespace,
    Mechanism::PidNamespace,
    Mechanism::NetworkNamespace,
    Mechanism::IpcNamespace,
    Mechanism::UtsNamespace,
];

fn settings() -> &'static [Setting] {
    static SETTINGS: OnceLock<Vec<Setting>> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let policy = |kind: Kind| -> Policy {
            let mut policy = common::policy();
            policy.allow_processes = matches!(kind, Kind::Processes | Kind::Namespaces);
            match kind {
                Kind::Container => policy.switched_off = NAMESPACES.into_iter().collect(),
                Kind::Namespaces => {
                    policy.switched_off = BTreeSet::from([Mechanism::Landlock, Mechanism::Seccomp]);
                    // It is the kernel's rarely used parts that are open then.
                    policy.allow_unprotected = true;
                }
                Kind::All | Kind::Processes => {}
            }
            policy
        };
        let mut settings = Vec::new();
        for kind in [Kind::All, Kind::Processes, Kind::Container, Kind::Namespaces] {
            let Some(sandbox) = common::sandbox(policy(kind)) else { continue };
            let active = |m: &Mechanism| sandbox.protections().iter().any(|p| p.mechanism == *m && p.is_active());
            if kind == Kind::Namespaces && !NAMESPACES.iter().all(active) {
                eprintln!("skipped: {kind:?}: this machine does not give all namespaces");
                continue;
            }
            settings.push(Setting { kind, sandbox });
        }
        settings
    })
}

/// Runs a program under every setting, checks its outcome, and sees that the next program runs.
fn everywhere(name: &str, program: &Program, check: impl Fn(&Setting, &Outcome)) {
    for setting in settings() {
        one(name, program, setting, &check);
    }
}

/// The same under the settings in which a mechanism is in force.
fn with(mechanism: Mechanism, name: &str, program: &Program, check: impl Fn(&Setting, &Outcome)) {
    for setting in settings() {
        if setting.sandbox.protections().iter().any(|p| p.mechanism == mechanism && p.is_active()) {
            one(name, program, setting, &check);
        } else {
            eprintln!("skipped: {name}, {:?}: no {}", setting.kind, mechanism.name());
        }
    }
}

fn one(name: &str, program: &Program, setting: &Setting, check: impl Fn(&Setting, &Outcome)) {
    let begun = Instant::now();
    let outcome = setting.sandbox.run(program).unwrap_or_else(|e| panic!("{name}, {:?}: {e:#}", setting.kind));
    let took = begun.elapsed();
    let value = outcome.value.clone().unwrap_or_default();
    eprintln!("| {name} | {:?} | {} | {} | {value} |", setting.kind, outcome.verdict.name(), outcome.end.describe());
    // Five seconds are allowed, and three of grace; the rest is for a machine that is busy.
    assert!(took < Duration::from_secs(30), "{name}, {:?}: {took:?}", setting.kind);
    check(setting, &outcome);
    let next = common::run(&setting.sandbox, "def double(x):\n    return 2 * x", "assert double(4) == 8");
    assert_eq!(next.end, End::Completed, "after {name}, {:?}: {next:?}", setting.kind);
}

/// Code that every hostile program may use: what became of an attempt, in a few words.
const ATTEMPT: &str = r#"
import errno, os, sys

def attempt(action, *arguments):
    try:
        result = action(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, "error")
    except BaseException as error:
        return type(error).__name__
    return "done" if result is None else f"done: {str(result)[:60]}"

seen = {}

def summary():
    return "; ".join(f"{name}: {result}" for name, result in seen.items())
"#;

/// A program that tries things and remembers in `seen` what became of each.
fn attempts(body: &str) -> Program {
    Program::new(format!("{ATTEMPT}\n{body}"), "").value("summary()")
}

/// The text that became of attempts; empty if the program did not run to its end.
fn summary(outcome: &Outcome) -> &str {
    outcome.value.as_deref().unwrap_or_default()
}

/// Every attempt failed.
fn nothing_done(setting: &Setting, outcome: &Outcome) {
    assert_eq!(outcome.end, End::Completed, "{:?}: {outcome:?}", setting.kind);
    assert!(!summary(outcome).is_empty(), "{:?}", setting.kind);
    assert!(!summary(outcome).contains("done"), "{:?}: {}", setting.kind, summary(outcome));
}

/// Code that gives the process, and all that it starts, a name that can be found from outside.
fn named(mark: &str) -> String {
    format!("import ctypes\nctypes.CDLL(None).prctl(15, b\"{mark}\", 0, 0, 0)\n")
}

/// Whether a process of that name is there.
fn is_there(mark: &str) -> bool {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|entry| std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.trim_end() == mark))
}

/// Whether a process of that name is still there after a while.
fn remains(mark: &str) -> bool {
    let until = Instant::now() + Duration::from_secs(3);
    while is_there(mark) {
        if Instant::now() > until {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
