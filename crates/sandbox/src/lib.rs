//! Runs Python programs that a model wrote, isolated from this machine.
//!
//! Every program runs in processes of its own, isolated by namespaces, Landlock, a list of allowed system calls and
//! resource limits; see `docs/reference/sandbox.md` for what is protected and `design/sandbox.md` for the reasons.
//! Creating a [`Sandbox`] tests which mechanisms work on this machine and reports the others; if files, network, other
//! processes or the kernel would not be protected, nothing is run unless the policy allows it.
//!
//! ```no_run
//! use lopper_sandbox::{Policy, Program, Sandbox, Verdict};
//!
//! fn main() -> lopper_record::Result<()> {
//!     lopper_sandbox::child_main(); // at the start: the helper is this program, executed once more
//!     let sandbox = Sandbox::new(Policy::default())?;
//!     let outcome = sandbox.run(&Program::new("def f(x):\n    return x + 1", "assert f(1) == 2"))?;
//!     assert_eq!(outcome.verdict, Verdict::Passed);
//!     Ok(())
//! }
//! ```
//!
//! It is made for Linux. On other Unix systems only time and output are limited, so programs run only if the policy
//! allows it; on other systems not at all. Not covered: vulnerabilities of the kernel, and what [`Sandbox::gaps`]
//! lists.

// Parts of the helper's protocol are unused on systems without it.
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
mod supervise;

use std::sync::atomic::{AtomicBool, Ordering};

pub use outcome::{End, Exception, ExceptionClass, Outcome, Output, Stage, Verdict};
pub use policy::{Limits, Policy, Program};
pub use protection::{Mechanism, Need, Protection, State};
pub use sandbox::Sandbox;

/// Whether this program can act as helper.
static HOOKED: AtomicBool = AtomicBool::new(false);

/// Must be called at the start of `main`, before any thread is started: in a process that was started as a sandbox's
/// helper it does the helper's job and does not return; otherwise it returns at once.
///
/// A program that does not call this cannot run programs unless the policy names another helper; [`Sandbox::new`] then
/// fails.
pub fn child_main() {
    HOOKED.store(true, Ordering::Relaxed);
    #[cfg(target_os = "linux")]
    if std::env::args_os().nth(1).is_some_and(|argument| argument == job::MARKER) {
        child::run();
    }
}
