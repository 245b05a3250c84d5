//! Runs Python programs that a model wrote, without giving them this machine.
//!
//! Every program gets processes of its own, apart from everything by namespaces, Landlock, a list of
//! permitted system calls and limits; see `docs/reference/sandbox.md` for what is protected and
//! `design/sandbox.md` for why it is built this way. What a machine does not offer is found out when
//! a [`Sandbox`] is made, and named; where that leaves files, network, other processes or the kernel
//! open, nothing is run unless the policy says so.
//!
//! ```no_run
//! use lopper_sandbox::{Policy, Program, Sandbox, Verdict};
//!
//! fn main() -> anyhow::Result<()> {
//!     lopper_sandbox::child_main(); // first of all: the helper is this program, executed once more
//!     let sandbox = Sandbox::new(Policy::default())?;
//!     let outcome = sandbox.run(&Program::new("def f(x):\n    return x + 1", "assert f(1) == 2"))?;
//!     assert_eq!(outcome.verdict, Verdict::Passed);
//!     Ok(())
//! }
//! ```
//!
//! Linux is what this is for. On other Unix systems nothing but time and output is limited, so
//! programs run only where the policy allows it; elsewhere not at all. Not covered anywhere: holes
//! in the kernel, and what [`Sandbox::gaps`] names. No tensor dependency.

// The conversation with the helper has one side only where there is no helper.
#![cfg_attr(not(target_os = "linux"), allow(dead_code))]

#[cfg(not(unix))]
#[path = "unsupported.rs"]
mod backend;
#[cfg(unix)]
#[path = "unix.rs"]
mod backend;
#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod child;
#[cfg(unix)]
mod job;
#[cfg(unix)]
mod launch;
mod outcome;
mod policy;
#[cfg(target_os = "linux")]
mod probe;
mod protection;
#[cfg(unix)]
mod python;
#[cfg(unix)]
mod report;
mod sandbox;
#[cfg(unix)]
mod watch;

use std::sync::atomic::{AtomicBool, Ordering};

pub use outcome::{End, Exception, ExceptionClass, Outcome, Output, Stage, Verdict};
pub use policy::{Limits, Policy, Program};
pub use protection::{Mechanism, Need, Protection, State};
pub use sandbox::{Cancelled, Sandbox};

/// Whether this program has promised to act as helper.
static HOOKED: AtomicBool = AtomicBool::new(false);

/// To be called first of all in `main`, before any thread is started: when this process was started
/// as a sandbox's helper, it does that job and does not return; otherwise it returns at once.
///
/// A program that does not call this cannot run programs, unless the policy names another helper;
/// [`Sandbox::new`] says so instead of executing a program that would not know what to do.
pub fn child_main() {
    HOOKED.store(true, Ordering::Relaxed);
    #[cfg(target_os = "linux")]
    if std::env::args_os().nth(1).is_some_and(|argument| argument == job::MARKER) {
        child::run();
    }
}
