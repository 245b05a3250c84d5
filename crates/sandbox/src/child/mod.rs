//! The helper: a fresh process with one thread that builds the sandbox around itself and then
//! becomes the interpreter.
//!
//! Forking a process with several threads, as Lopper is, leaves a child in which little may be
//! done. So Lopper executes itself once more with a private first argument; [`run`] is what happens
//! then. Three processes come of it:
//!
//! 1. the *outer* one enters the namespaces and waits;
//! 2. the *first* one of the new process namespace (its number is 1 there) builds the file tree,
//!    waits for the program, and ends as soon as the program or Lopper ends; with it the kernel ends
//!    everything else in the namespace;
//! 3. the *program* gives up its rights and executes Python.

mod files;
mod first;
mod landlock;
mod namespaces;
mod rights;
mod seccomp;

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use nix::sys::prctl;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::job::{Answer, FAILED, Job, ORDERS, REPORT, Step};
use crate::protection::Mechanism;

pub(crate) use namespaces::NOBODY;

/// The job, the line to the parent, and what has been tried.
struct Helper {
    job: Job,
    control: UnixStream,
    steps: Vec<Step>,
}

/// A step that had to succeed and did not. What went wrong has been answered.
#[derive(Debug)]
struct Stop;

impl Helper {
    /// Sends an answer. Whether anybody listens does not matter here.
    fn answer(&mut self, answer: &Answer) {
        let _ = self.control.write_all(answer.line().as_bytes());
    }

    /// Says why the program is not started.
    fn fail(&mut self, what: &str, why: impl std::fmt::Display) -> Stop {
        self.answer(&Answer::Failed(format!("{what}: {why}")));
        Stop
    }

    /// Applies a mechanism if the job asks for it. Says whether it is in force; where it must be
    /// and is not, the helper stops.
    fn apply(&mut self, mechanism: Mechanism, action: impl FnOnce(&Job) -> Result<String>) -> Result<bool, Stop> {
        if !self.job.mechanisms.contains(&mechanism) {
            return Ok(false);
        }
        let result = action(&self.job).map_err(|e| format!("{e:#}"));
        if let (Err(why), false) = (&result, self.job.probe) {
            let why = why.clone();
            return Err(self.fail(mechanism.name(), why));
        }
        let active = result.is_ok();
        self.steps.push(Step { mechanism, result });
        Ok(active)
    }

    /// Whether a mechanism has been applied.
    fn active(&self, mechanism: Mechanism) -> bool {
        self.steps.iter().any(|s| s.mechanism == mechanism && s.result.is_ok())
    }
}

/// Does the helper's job and ends the process.
pub(crate) fn run() -> ! {
    let status = match start() {
        Ok(status) => status,
        Err(Stop) => FAILED,
    };
    exit(status)
}

/// Ends at once, without anything that is run at the end of a process.
fn exit(status: i32) -> ! {
    // SAFETY: `_exit` takes any status and does not return.
    unsafe { libc::_exit(status) }
}

fn start() -> Result<i32, Stop> {
    // SAFETY: the parent made descriptor 0 the control socket, and nothing else uses it. It moves
    // out of the way below, where `/dev/null` takes its place.
    let inherited = unsafe { UnixStream::from_raw_fd(0) };
    let control = match inherited.try_clone() {
        // The copy is closed when the interpreter is executed; the original is replaced by then.
        Ok(copy) => copy,
        Err(_) => return Err(Stop),
    };
    // What is made for the program must be readable to it, whatever the caller's mask says.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let Ok(job) = Job::read(&mut &inherited) else { return Err(Stop) };
    let mut helper = Helper { job, control, steps: Vec::new() };
    helper.answer(&Answer::Hello);
    if let Err(e) = stdin_is_null(inherited.into()) {
        return Err(helper.fail("standard input", e));
    }

    let privileged = namespaces::enter(&mut helper)?;
    // From here on no other process of this user may look into this one. (Not before: the kernel
    // shuts the files in `/proc` that name the users of a namespace against us, too.)
    let _ = prctl::set_dumpable(false);

    // SAFETY: this process has one thread.
    match unsafe { fork() } {
        Err(e) => Err(helper.fail("fork", e)),
        Ok(ForkResult::Child) => first::run(helper, privileged),
        Ok(ForkResult::Parent { child }) => {
            close_from(1);
            loop {
                match waitpid(child, None) {
                    Ok(WaitStatus::Exited(_, status)) => return Ok(status),
                    Err(nix::errno::Errno::EINTR) => {}
                    Ok(_) | Err(_) => return Ok(FAILED),
                }
            }
        }
    }
}

/// Puts `/dev/null` in the place of standard input.
fn stdin_is_null(old: OwnedFd) -> Result<()> {
    let null = File::open("/dev/null").context("/dev/null")?;
    nix::unistd::dup2_stdin(null.as_fd())?;
    // Descriptor 0 is open and stays so until this process ends.
    std::mem::forget(old);
    Ok(())
}

/// Closes every descriptor from this one on.
fn close_from(first: i32) {
    // SAFETY: nothing in this process uses these descriptors afterwards.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    if done != 0 {
        // Before Linux 5.9. The helper opens few files, so that this reaches them all.
        for fd in first..256 {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

/// The last part: gives up every right and becomes the interpreter.
fn become_program(mut helper: Helper, privileged: bool, proc: Option<File>) -> Stop {
    if let Err(stop) = give_up(&mut helper, privileged, proc) {
        return stop;
    }
    if helper.job.probe {
        let steps = helper.steps.clone();
        helper.answer(&Answer::Probed(steps));
        exit(0);
    }
    let text = |s: &String| CString::new(s.as_bytes());
    let arguments: Result<Vec<_>, _> = helper.job.command_line.iter().map(text).collect();
    let environment: Result<Vec<_>, _> =
        helper.job.environment.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect();
    let (Ok(arguments), Ok(environment)) = (arguments, environment) else {
        return helper.fail("command line", "it holds a zero byte");
    };
    match nix::unistd::execve(&arguments[0], &arguments, &environment) {
        Err(e) => helper.fail(&format!("{} cannot be executed", helper.job.command_line[0]), e),
    }
}

fn give_up(helper: &mut Helper, privileged: bool, proc: Option<File>) -> Result<(), Stop> {
    reset_signals();
    // A session of its own: no terminal, and a process group that can be ended as one.
    let _ = nix::unistd::setsid();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    rights::drop(helper, privileged, proc)?;
    let directory = match &helper.job.directory {
        Some(path) if !helper.active(Mechanism::MountNamespace) => path.clone(),
        _ => crate::job::PRIVATE.into(),
    };
    if let Err(e) = std::env::set_current_dir(&directory)
        && !helper.job.probe
    {
        return Err(helper.fail("the program's directory", e));
    }
    helper.apply(Mechanism::ResourceLimits, rights::limit)?;
    helper.apply(Mechanism::NoNewPrivileges, |_| {
        prctl::set_no_new_privs()?;
        Ok(String::new())
    })?;
    let files = helper.active(Mechanism::MountNamespace);
    helper.apply(Mechanism::Landlock, |job| landlock::restrict(job, files))?;
    mark_rest(helper.control.as_raw_fd());
    let alone = helper.active(Mechanism::PidNamespace);
    helper.apply(Mechanism::Seccomp, |job| seccomp::restrict(job, alone))?;
    Ok(())
}

/// Every signal as a new process has it. Rust ignores SIGPIPE, and ignoring is inherited.
fn reset_signals() {
    for number in 1..=64 {
        // SAFETY: the default action is a valid one for every signal; those that cannot be
        // changed are refused without effect.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let _ = nix::sys::signal::SigSet::all().thread_unblock();
}

/// Sees to it that the interpreter inherits its five descriptors and no other.
fn mark_rest(control: i32) {
    for fd in [0, 1, 2, ORDERS, REPORT] {
        // SAFETY: plain descriptor flags; a descriptor that is not open is refused.
        unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    }
    for fd in REPORT + 1..256 {
        if fd != control {
            // SAFETY: nothing uses these any more.
            unsafe { libc::close(fd) };
        }
    }
}
