//! Watching one program from outside: feeding it its orders, reading what it writes, and stopping
//! it at its limits. One thread per program, waiting in `poll`.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::job::Answer;
use crate::launch::Running;
use crate::outcome::Output;
use crate::policy::Limits;
use crate::report::{Keys, LONGEST, Said, said};

/// How long the interpreter may take to start. Not part of a program's time: it depends on what
/// else the machine does, not on the program.
const START: Duration = Duration::from_secs(60);
/// How long the end of a program that has been stopped, or has said its last word, is waited for.
const GRACE: Duration = Duration::from_secs(3);
/// How often the flag for interruption is looked at.
const TICK: Duration = Duration::from_millis(50);

/// Why a program was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It ran too long.
    WallTime,
    /// It wrote too much.
    Output,
    /// It wrote what is no report where the report goes.
    Report,
    /// The caller wants to stop.
    Cancelled,
}

/// What was seen of a program.
#[derive(Debug)]
pub(crate) struct Seen {
    pub said: Said,
    pub answers: Vec<Answer>,
    pub stopped: Option<Stopped>,
    pub stdout: Output,
    pub stderr: Output,
    pub wall: Duration,
}

/// One pipe that is read.
struct Source {
    file: Option<File>,
    kept: Vec<u8>,
    most: usize,
    bytes: u64,
}

impl Source {
    fn new(file: File, most: usize) -> Result<Self> {
        nonblocking(file.as_fd())?;
        Ok(Self { file: Some(file), kept: Vec::new(), most, bytes: 0 })
    }

    /// Reads what is there, up to a bound, so that no pipe keeps the others waiting.
    fn read(&mut self, buffer: &mut [u8]) {
        let Some(file) = &mut self.file else { return };
        match file.read(buffer) {
            Ok(0) => self.file = None,
            Ok(n) => {
                self.bytes += n as u64;
                let room = self.most - self.kept.len();
                self.kept.extend_from_slice(&buffer[..n.min(room)]);
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.file = None,
        }
    }

    fn output(self) -> Output {
        let cut = self.bytes > self.kept.len() as u64;
        Output { text: String::from_utf8_lossy(&self.kept).into_owned(), bytes: self.bytes, cut }
    }
}

fn nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Which descriptor a poll entry is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Stdout,
    Stderr,
    Report,
    Control,
    Orders,
}

/// Watches a program to its end. `cancel` stops it.
pub(crate) fn watch(
    running: Running,
    orders: &[u8],
    keys: &Keys,
    limits: &Limits,
    cancel: &AtomicBool,
) -> Result<Seen> {
    let begun = Instant::now();
    let Running { mut child, control, stdout, stderr, orders: orders_pipe, report } = running;
    nonblocking(orders_pipe.as_fd())?;
    let mut orders_pipe = Some(orders_pipe);
    let mut unsent = orders;
    let mut stdout = Source::new(stdout, limits.output_kept)?;
    let mut stderr = Source::new(stderr, limits.output_kept)?;
    let mut report = Source::new(report, LONGEST)?;
    let mut control_source = match &control {
        Some(control) => Source::new(File::from(control.as_fd().try_clone_to_owned()?), LONGEST)?,
        None => Source { file: None, kept: Vec::new(), most: 0, bytes: 0 },
    };
    let mut buffer = vec![0; 64 << 10];
    let mut current = Said::Nothing;
    let mut answers: Vec<Answer> = Vec::new();
    let mut stopped = None;
    let mut deadline = begun + START;
    // Set once the program has ended, has said its last word or has been stopped.
    let mut ending = false;

    loop {
        let mut fds = Vec::with_capacity(5);
        let mut what = Vec::with_capacity(5);
        let sources =
            [(&stdout, What::Stdout), (&stderr, What::Stderr), (&report, What::Report), (&control_source, What::Control)];
        for (source, name) in sources {
            if let Some(file) = &source.file {
                fds.push(PollFd::new(file.as_fd(), PollFlags::POLLIN));
                what.push(name);
            }
        }
        if let Some(pipe) = &orders_pipe {
            fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLOUT));
            what.push(What::Orders);
        }
        let pipes_open = what.iter().any(|w| matches!(w, What::Stdout | What::Stderr | What::Report));
        let helper_gone = control_source.file.is_none();
        if !pipes_open && helper_gone {
            // Without a helper nothing but the process itself says that it has ended.
            if control.is_some() || child.try_wait()?.is_some() {
                break;
            }
        }
        let wait = deadline.saturating_duration_since(Instant::now()).min(TICK);
        let timeout = PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<What> =
            fds.iter().zip(&what).filter(|(fd, _)| fd.any() == Some(true)).map(|(_, what)| *what).collect();
        drop(fds);

        for name in ready {
            match name {
                What::Stdout => stdout.read(&mut buffer),
                What::Stderr => stderr.read(&mut buffer),
                What::Control => {
                    control_source.read(&mut buffer);
                    answers = Answer::all(&control_source.kept);
                }
                What::Report => {
                    report.read(&mut buffer);
                    let before = current.stage();
                    current = said(&report.kept, keys);
                    if before == crate::Stage::Start && current.stage() != before && !ending {
                        deadline = Instant::now() + limits.wall;
                    }
                }
                What::Orders => send(&mut orders_pipe, &mut unsent),
            }
        }

        let mut stop = None;
        if stdout.bytes + stderr.bytes > limits.output {
            stop = Some(Stopped::Output);
        } else if report.bytes > LONGEST as u64 {
            stop = Some(Stopped::Report);
        } else if cancel.load(Ordering::Relaxed) {
            stop = Some(Stopped::Cancelled);
        } else if Instant::now() >= deadline && !ending {
            stop = Some(Stopped::WallTime);
        }
        let over = answers.iter().any(|a| matches!(a, Answer::Ended { .. } | Answer::Failed(_) | Answer::Probed(_)))
            || (control.is_some() && control_source.file.is_none())
            || (control.is_none() && child.try_wait()?.is_some());
        if !ending && (over || current.is_last() || stop.is_some()) {
            if !over && !current.is_last() {
                stopped = stop;
                hang_up(control.as_ref(), &child);
            }
            ending = true;
            deadline = Instant::now() + GRACE;
        } else if ending && (stop.is_some() || Instant::now() >= deadline) {
            // It has had its time to end by itself.
            if stop == Some(Stopped::Cancelled) {
                stopped = stop;
            }
            hang_up(control.as_ref(), &child);
            if Instant::now() >= deadline {
                break;
            }
        }
    }
    drop(orders_pipe);
    drop(control);
    drop(control_source.file.take());
    end(&mut child)?;
    let answers = Answer::all(&control_source.kept);
    let said = said(&report.kept, keys);
    Ok(Seen { said, answers, stopped, stdout: stdout.output(), stderr: stderr.output(), wall: begun.elapsed() })
}

/// Writes as much of the orders as goes; closes the pipe after the last.
fn send(pipe: &mut Option<File>, unsent: &mut &[u8]) {
    let Some(file) = pipe else { return };
    match file.write(unsent) {
        Ok(n) => {
            *unsent = &unsent[n..];
            if unsent.is_empty() {
                *pipe = None;
            }
        }
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
        // Nobody reads any more.
        Err(_) => *pipe = None,
    }
}

/// Tells the helper to end everything; it answers once more with what was used.
fn hang_up(control: Option<&std::os::unix::net::UnixStream>, child: &std::process::Child) {
    match control {
        Some(control) => {
            let _ = control.shutdown(Shutdown::Write);
        }
        None => {
            if let Ok(pid) = i32::try_from(child.id()) {
                // The group was made for it.
                let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

/// Waits for the first process, by force in the end. Its own end takes the others with it.
fn end(child: &mut std::process::Child) -> Result<()> {
    let until = Instant::now() + GRACE;
    while child.try_wait()?.is_none() {
        if Instant::now() >= until {
            let _ = child.kill();
            child.wait()?;
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}
