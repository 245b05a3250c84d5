//! The helper: a new process with one thread that sets up the sandbox around itself and then becomes the interpreter.
//!
//! In a fork of a process with several threads, such as Lopper, little is safe. So Lopper executes itself once more
//! with a private first argument, which leads to [`run`]. It creates three processes:
//!
//! 1. the *outer* one enters the namespaces and waits;
//! 2. the *init* process of the new process namespace (number 1 there) builds the file tree, waits for the program, and
//!    ends as soon as the program or Lopper ends; the kernel then ends everything else in the namespace;
//! 3. the *program* drops its rights and executes Python.

mod files;
mod init;
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

use crate::job::{Answer, FAILED, INPUT, Job, REPORT, Step};
use crate::protection::Mechanism;

pub(crate) use namespaces::NOBODY;

/// The job, the socket to the parent, and the mechanisms tried so far.
struct Helper {
    job: Job,
    control: UnixStream,
    steps: Vec<Step>,
}

/// A required step failed; the parent has been sent the reason.
#[derive(Debug)]
struct Stop;

impl Helper {
    /// Sends an answer; errors are ignored.
    fn answer(&mut self, answer: &Answer) {
        let _ = self.control.write_all(answer.line().as_bytes());
    }

    /// Sends the reason why the program is not started.
    fn fail(&mut self, what: &str, why: impl std::fmt::Display) -> Stop {
        self.answer(&Answer::Failed(format!("{what}: {why}")));
        Stop
    }

    /// Applies a mechanism if the job has it, and returns whether it is active.
    ///
    /// # Errors
    /// If it failed and this is not a probe.
    fn apply(&mut self, mechanism: Mechanism, action: impl FnOnce(&Job) -> Result<String>) -> Result<bool, Stop> {
        if !self.job.mechanisms.contains(&mechanism) {
            return Ok(false);
        }
        let result = action(&self.job).map_err(|e| format!("{e:#}"));
        if let (Err(why), false) = (&result, self.job.probe) {
            let why = why.clone();
            return Err(self.fail(mechanism.describe().0, why));
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

/// Exits without running exit handlers.
fn exit(status: i32) -> ! {
    // SAFETY: `_exit` takes any status and does not return.
    unsafe { libc::_exit(status) }
}

fn start() -> Result<i32, Stop> {
    // SAFETY: the parent made descriptor 0 the control socket, and nothing else uses it. Below, `/dev/null` replaces
    // it.
    let inherited = unsafe { UnixStream::from_raw_fd(0) };
    let control = match inherited.try_clone() {
        // The copy is closed when the interpreter is executed.
        Ok(copy) => copy,
        Err(_) => return Err(Stop),
    };
    // Files created for the program must be readable to it, whatever the caller's umask is.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let Ok(job) = Job::read(&mut &inherited) else { return Err(Stop) };
    let mut helper = Helper { job, control, steps: Vec::new() };
    helper.answer(&Answer::Hello);
    if let Err(e) = stdin_is_null(inherited.into()) {
        return Err(helper.fail("standard input", e));
    }

    let privileged = namespaces::enter(&mut helper)?;
    // From here on no other process of this user can inspect this one. (Not before, because the files in `/proc` that
    // map a namespace's users would become inaccessible, too.)
    let _ = prctl::set_dumpable(false);

    // SAFETY: this process has one thread.
    match unsafe { fork() } {
        Err(e) => Err(helper.fail("fork", e)),
        Ok(ForkResult::Child) => init::run(helper, privileged),
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

/// Replaces standard input by `/dev/null`.
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
        // Before Linux 5.9. The helper has few open files, all below this number.
        for fd in first..256 {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

/// Drops all rights and becomes the interpreter.
fn become_program(mut helper: Helper, privileged: bool, proc: Option<File>) -> Stop {
    if let Err(stop) = drop_rights(&mut helper, privileged, proc) {
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
        return helper.fail("command line", "it contains a zero byte");
    };
    match nix::unistd::execve(&arguments[0], &arguments, &environment) {
        Err(e) => helper.fail(&format!("{} cannot be executed", helper.job.command_line[0]), e),
    }
}

fn drop_rights(helper: &mut Helper, privileged: bool, proc: Option<File>) -> Result<(), Stop> {
    reset_signals();
    // Its own session: without a terminal, and with a process group that can be killed.
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
    close_others(helper.control.as_raw_fd());
    let alone = helper.active(Mechanism::PidNamespace);
    helper.apply(Mechanism::Seccomp, |job| seccomp::restrict(job, alone))?;
    Ok(())
}

/// Restores the default action of every signal. Rust ignores SIGPIPE, and that is inherited.
fn reset_signals() {
    for number in 1..=64 {
        // SAFETY: the default action is valid for every signal; for those that cannot be changed the call fails without
        // effect.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let _ = nix::sys::signal::SigSet::all().thread_unblock();
}

/// Lets the interpreter inherit its five descriptors and no other.
fn close_others(control: i32) {
    for fd in [0, 1, 2, INPUT, REPORT] {
        // SAFETY: sets descriptor flags; for a closed descriptor the call fails.
        unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    }
    for fd in REPORT + 1..256 {
        if fd != control {
            // SAFETY: nothing uses these any more.
            unsafe { libc::close(fd) };
        }
    }
}
