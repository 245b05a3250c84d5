//! The init process of the new process namespace: builds the file tree, starts the program, waits.
//!
//! It ends when the program does, when Lopper closes its end of the control socket (also by being killed), or when the
//! outer process ends. The kernel then kills everything else in the namespace, and nothing in it can prevent that:
//! process 1 is immune to signals from inside. Python is not process 1 itself, because some signals would then have no
//! effect on it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, Pid, fork};

use super::{Helper, Stop, become_program, close_from, exit, files};
use crate::job::{Answer, FAILED};
use crate::protection::Mechanism;

/// Does this and exits.
pub(super) fn run(mut helper: Helper, privileged: bool) -> ! {
    match work(&mut helper, privileged) {
        Ok(()) => exit(0),
        Err(Stop) => exit(FAILED),
    }
}

fn work(helper: &mut Helper, privileged: bool) -> Result<(), Stop> {
    // In case the outer process is killed. (If it already was, the control socket is closed.)
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    // The program may need the outer `/proc` after the file tree has changed.
    let proc = File::open("/proc").ok();
    helper.apply(Mechanism::MountNamespace, files::enclose)?;

    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    let children = mask
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK))
        .map_err(|e| helper.fail("signals", e))?;
    let copy = Helper {
        job: helper.job.clone(),
        control: helper.control.try_clone().map_err(|e| helper.fail("control socket", e))?,
        steps: helper.steps.clone(),
    };
    // SAFETY: this process has one thread.
    match unsafe { fork() } {
        Err(e) => Err(helper.fail("fork", e)),
        Ok(ForkResult::Child) => {
            let Stop = become_program(copy, privileged, proc);
            exit(FAILED)
        }
        Ok(ForkResult::Parent { child }) => {
            drop((copy, proc));
            wait(helper, &children, child);
            Ok(())
        }
    }
}

/// Waits until the program ends or Lopper closes the socket.
fn wait(helper: &mut Helper, children: &SignalFd, program: Pid) {
    // Only the program keeps the pipes, so that they close with it.
    let keep = [helper.control.as_raw_fd(), children.as_fd().as_raw_fd()];
    for fd in 1..64 {
        if !keep.contains(&fd) {
            // SAFETY: nothing here uses any other descriptor.
            unsafe { libc::close(fd) };
        }
    }
    close_from(64);
    loop {
        match wait_for_event(helper, children) {
            Event::HungUp => break,
            Event::Children => {
                if let Some(ended) = reap(program) {
                    helper.answer(&ended);
                    return;
                }
            }
        }
    }
    // Kill the program and its group. In a process namespace everything else ends with this process.
    for target in [program, Pid::from_raw(-program.as_raw())] {
        let _ = kill(target, Signal::SIGKILL);
    }
    // Wait a moment for the resources that it used.
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        if let Some(ended) = reap(program) {
            helper.answer(&ended);
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An event.
enum Event {
    Children,
    HungUp,
}

/// Waits until a child ends or Lopper closes the socket.
fn wait_for_event(helper: &Helper, children: &SignalFd) -> Event {
    let mut fds =
        [PollFd::new(children.as_fd(), PollFlags::POLLIN), PollFd::new(helper.control.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(_) => return Event::HungUp,
    }
    // Lopper sends nothing after the job, so any event on the socket means that it was closed.
    if fds[1].any() == Some(true) {
        return Event::HungUp;
    }
    while let Ok(Some(_)) = children.read_signal() {}
    Event::Children
}

/// Reaps children that have ended, including orphans; returns the answer if the program is among them.
fn reap(program: Pid) -> Option<Answer> {
    loop {
        let mut status = 0;
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: both point to memory of the right type that outlives the call.
        let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
        if pid <= 0 {
            return None;
        }
        if pid != program.as_raw() {
            continue;
        }
        // SAFETY: all zero bytes are a valid value, and the call has filled it.
        let usage = unsafe { usage.assume_init() };
        let micros = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000).as_micros() as u64;
        return Some(Answer::Ended {
            status: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
            cpu_micros: micros(usage.ru_utime) + micros(usage.ru_stime),
            peak_kib: usage.ru_maxrss as u64,
        });
    }
}
