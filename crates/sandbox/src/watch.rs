//! Watching one program from outside: feeding it its orders, reading what it writes, and stopping
//! it at its limits. One thread per program, waiting in `poll`.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

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

    /// One that is closed.
    fn none() -> Self {
        Self { file: None, kept: Vec::new(), most: 0, bytes: 0 }
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

/// Which descriptor an entry of the poll is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Stdout,
    Stderr,
    Report,
    Control,
    Orders,
}

/// Everything that is known of a program while it runs.
struct Watch<'a> {
    child: Child,
    control: Option<UnixStream>,
    orders: Option<File>,
    unsent: &'a [u8],
    keys: &'a Keys,
    limits: &'a Limits,
    stdout: Source,
    stderr: Source,
    report: Source,
    answers: Source,
    said: Said,
    deadline: Instant,
    stopped: Option<Stopped>,
    /// The program has ended, has said its last word or has been stopped.
    ending: bool,
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
    nonblocking(running.orders.as_fd())?;
    let answers = match &running.control {
        Some(control) => Source::new(File::from(control.as_fd().try_clone_to_owned()?), LONGEST)?,
        None => Source::none(),
    };
    let mut watch = Watch {
        child: running.child,
        control: running.control,
        orders: Some(running.orders),
        unsent: orders,
        keys,
        limits,
        stdout: Source::new(running.stdout, limits.output_kept)?,
        stderr: Source::new(running.stderr, limits.output_kept)?,
        report: Source::new(running.report, LONGEST)?,
        answers,
        said: Said::Nothing,
        deadline: begun + START,
        stopped: None,
        ending: false,
    };
    let mut buffer = vec![0; 64 << 10];
    while !watch.is_over()? {
        for what in watch.wait()? {
            watch.read(what, &mut buffer);
        }
        if watch.act(cancel)? {
            break;
        }
    }
    // The descriptors go first: the helper ends, if it still has not, when it is hung up on.
    let Watch { mut child, control, orders, stdout, stderr, report, mut answers, stopped, .. } = watch;
    answers.file = None;
    drop((control, orders));
    end(&mut child)?;
    Ok(Seen {
        said: said(&report.kept, keys),
        answers: Answer::all(&answers.kept),
        stopped,
        stdout: stdout.output(),
        stderr: stderr.output(),
        wall: begun.elapsed(),
    })
}

impl Watch<'_> {
    /// Whether nothing more can come: all pipes are closed, which is so only when every process
    /// that had them is gone, and so is the helper.
    fn is_over(&mut self) -> Result<bool> {
        let closed = [&self.stdout, &self.stderr, &self.report, &self.answers].iter().all(|s| s.file.is_none());
        // Without a helper nothing but the process itself says that it has ended.
        Ok(closed && (self.control.is_some() || self.child.try_wait()?.is_some()))
    }

    /// Waits until something can be read or written, or for a moment.
    fn wait(&self) -> Result<Vec<What>> {
        let sources = [
            (&self.stdout.file, What::Stdout, PollFlags::POLLIN),
            (&self.stderr.file, What::Stderr, PollFlags::POLLIN),
            (&self.report.file, What::Report, PollFlags::POLLIN),
            (&self.answers.file, What::Control, PollFlags::POLLIN),
            (&self.orders, What::Orders, PollFlags::POLLOUT),
        ];
        let open: Vec<_> =
            sources.iter().filter_map(|(file, what, flags)| Some((file.as_ref()?, *what, *flags))).collect();
        let mut fds: Vec<_> = open.iter().map(|(file, _, flags)| PollFd::new(file.as_fd(), *flags)).collect();
        let wait = self.deadline.saturating_duration_since(Instant::now()).min(TICK) + Duration::from_millis(1);
        match poll(&mut fds, PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(open.iter().zip(&fds).filter(|(_, fd)| fd.any() == Some(true)).map(|((_, what, _), _)| *what).collect())
    }

    /// Reads or writes what there is.
    fn read(&mut self, what: What, buffer: &mut [u8]) {
        match what {
            What::Stdout => self.stdout.read(buffer),
            What::Stderr => self.stderr.read(buffer),
            What::Control => self.answers.read(buffer),
            What::Orders => send(&mut self.orders, &mut self.unsent),
            What::Report => {
                self.report.read(buffer);
                let started = self.said != Said::Nothing;
                self.said = said(&self.report.kept, self.keys);
                if !started && self.said != Said::Nothing && !self.ending {
                    self.deadline = Instant::now() + self.limits.wall;
                }
            }
        }
    }

    /// Stops the program where it must be. Says whether it has been waited for long enough.
    fn act(&mut self, cancel: &AtomicBool) -> Result<bool> {
        let late = Instant::now() >= self.deadline;
        let stop = if cancel.load(Ordering::Relaxed) {
            Some(Stopped::Cancelled)
        } else if self.stdout.bytes + self.stderr.bytes > self.limits.output {
            Some(Stopped::Output)
        } else if self.report.bytes > LONGEST as u64 {
            Some(Stopped::Report)
        } else if late && !self.ending {
            Some(Stopped::WallTime)
        } else {
            None
        };
        if self.ending {
            if stop == Some(Stopped::Cancelled) {
                self.stopped = stop;
            }
            // It has had its time to end by itself.
            if stop.is_some() || late {
                self.hang_up();
            }
            return Ok(late);
        }
        let ended = match &self.control {
            Some(_) => self.answers.file.is_none() || Answer::all(&self.answers.kept).iter().any(Answer::is_last),
            None => self.child.try_wait()?.is_some(),
        };
        if !ended && !self.said.is_last() {
            if stop.is_none() {
                return Ok(false);
            }
            self.stopped = stop;
            if stop == Some(Stopped::Output) {
                // Enough has been read. That every process is gone shows in the report's pipe, too.
                (self.stdout.file, self.stderr.file) = (None, None);
            }
            self.hang_up();
        }
        self.ending = true;
        self.deadline = Instant::now() + GRACE;
        Ok(false)
    }

    /// Has everything ended: the helper does it, and answers once more with what was used.
    fn hang_up(&self) {
        match &self.control {
            Some(control) => {
                let _ = control.shutdown(Shutdown::Write);
            }
            None => {
                if let Ok(pid) = i32::try_from(self.child.id()) {
                    // A process group was made for it.
                    let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
        }
    }
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

/// Waits for the first process, by force in the end. Its own end takes the others with it.
fn end(child: &mut Child) -> Result<()> {
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
