//! Malicious programs. Each must be contained, must be recorded correctly, and must not affect the next program, which
//! a harmless program after each one shows.
//!
//! Every program runs under several settings with different mechanisms, so that each mechanism is tested without the
//! others. `common` has the limits. All traffic is on this machine's loopback.
//!
//! `cargo test -p lopper-sandbox --test hostile -- --nocapture` prints the outcomes; the table in
//! `docs/reference/sandbox.md` is made from them.

#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "`--nocapture` shows the outcomes")]

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

use common::{NAMESPACES, has};
use lopper_sandbox::{End, Mechanism, Outcome, Policy, Program, Sandbox};
use lopper_testkit::{Feature, skip_unless};

/// A choice of mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All that the machine has: the default policy.
    All,
    /// The same, with programs that can start processes.
    Processes,
    /// Landlock and seccomp only, as in most containers.
    Container,
    /// Namespaces, users and limits only, with programs that can start processes.
    Namespaces,
}

impl Kind {
    const ALL: [Self; 4] = [Self::All, Self::Processes, Self::Container, Self::Namespaces];

    fn policy(self) -> Policy {
        let mut policy = common::policy();
        policy.allow_processes = matches!(self, Self::Processes | Self::Namespaces);
        match self {
            Self::Container => policy.switched_off = NAMESPACES.into_iter().collect(),
            Self::Namespaces => {
                policy.switched_off = BTreeSet::from([Mechanism::Landlock, Mechanism::Seccomp]);
                // The rarely used parts of the kernel are not protected then.
                policy.allow_unprotected = true;
            }
            Self::All | Self::Processes => {}
        }
        policy
    }

    /// What the machine must have for this setting.
    fn feature(self) -> Feature {
        if matches!(self, Self::All | Self::Container) { Feature::Sandbox } else { Feature::Namespaces }
    }
}

struct Setting {
    kind: Kind,
    sandbox: Sandbox,
}

/// The settings that this machine has. The test is skipped under others, or fails if they are required.
#[track_caller]
fn settings() -> impl Iterator<Item = &'static Setting> {
    static SETTINGS: OnceLock<[Option<Setting>; 4]> = OnceLock::new();
    let settings = SETTINGS.get_or_init(|| {
        Kind::ALL.map(|kind| {
            let sandbox = common::try_sandbox(kind.policy())?;
            let complete = kind != Kind::Namespaces || NAMESPACES.iter().all(|m| has(&sandbox, *m));
            complete.then_some(Setting { kind, sandbox })
        })
    });
    settings.iter().zip(Kind::ALL).filter_map(|(setting, kind)| skip_unless(kind.feature(), setting.as_ref()))
}

/// Runs a program under every setting, checks its outcome, and then that the next program runs.
fn everywhere(name: &str, program: &Program, check: impl Fn(&Setting, &Outcome)) {
    settings().for_each(|setting| one(name, program, setting, &check));
}

/// The same under the settings in which a mechanism is active.
fn with(mechanism: Mechanism, name: &str, program: &Program, check: impl Fn(&Setting, &Outcome)) {
    let feature = if NAMESPACES.contains(&mechanism) { Feature::Namespaces } else { Feature::Sandbox };
    let settings: Vec<_> = settings().filter(|setting| has(&setting.sandbox, mechanism)).collect();
    let Some(settings) = skip_unless(feature, (!settings.is_empty()).then_some(settings)) else { return };
    settings.into_iter().for_each(|setting| one(name, program, setting, &check));
}

fn one(name: &str, program: &Program, setting: &Setting, check: impl Fn(&Setting, &Outcome)) {
    let begun = Instant::now();
    let outcome = setting.sandbox.run(program).unwrap_or_else(|e| panic!("{name}, {:?}: {e:#}", setting.kind));
    let took = begun.elapsed();
    let value = outcome.value.clone().unwrap_or_default();
    eprintln!("| {name} | {:?} | {} | {} | {value} |", setting.kind, outcome.verdict.name(), outcome.end.describe());
    // The limit is five seconds, plus three for the end; the rest is for a busy machine.
    assert!(took < Duration::from_secs(30), "{name}, {:?}: {took:?}", setting.kind);
    check(setting, &outcome);
    let next = common::run(&setting.sandbox, "def double(x):\n    return 2 * x", "assert double(4) == 8");
    assert_eq!(next.end, End::Completed, "after {name}, {:?}: {next:?}", setting.kind);
}

/// Code for malicious programs: the result of an attempt in a few words.
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

/// A program that records the results of its attempts in `seen`.
fn attempts(body: &str) -> Program {
    Program::new(format!("{ATTEMPT}\n{body}"), "").value("summary()")
}

/// The results of the attempts; empty if the program did not run to its end.
fn summary(outcome: &Outcome) -> &str {
    outcome.value.as_deref().unwrap_or_default()
}

/// Every attempt failed.
fn nothing_done(setting: &Setting, outcome: &Outcome) {
    assert_eq!(outcome.end, End::Completed, "{:?}: {outcome:?}", setting.kind);
    assert!(!summary(outcome).is_empty(), "{:?}", setting.kind);
    assert!(!summary(outcome).contains("done"), "{:?}: {}", setting.kind, summary(outcome));
}

/// Code that gives the process, and those that it starts, a name that can be found from outside.
fn named(mark: &str) -> String {
    format!("import ctypes\nctypes.CDLL(None).prctl(15, b\"{mark}\", 0, 0, 0)\n")
}

/// Whether there is a process of that name.
fn is_there(mark: &str) -> bool {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|entry| std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.trim_end() == mark))
}

/// Whether there is still a process of that name after a while.
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
