//! Supervises one program from outside: writes its input, reads its output, and stops it at its limits. One thread per
//! program, waiting in `poll`.

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
use crate::report::{Keys, LONGEST, Report, parse_report};

/// Time limit for the start of the interpreter, which depends on the machine's load and not on the program.
const START: Duration = Duration::from_secs(60);
/// How long to wait for the end of a program that was stopped, or has sent its last message.
const GRACE: Duration = Duration::from_secs(3);
/// How often `cancel` is checked.
const TICK: Duration = Duration::from_millis(50);

/// Why a program was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// It ran too long.
    WallTime,
    /// It wrote too much.
    Output,
    /// It wrote too much into the report's pipe.
    Report,
    /// The caller cancelled it.
    Cancelled,
}

/// The observations of one run.
#[derive(Debug)]
pub(crate) struct RunRecord {
    pub report: Report,
    pub answers: Vec<Answer>,
    pub stopped: Option<StopReason>,
    pub stdout: Output,
    pub stderr: Output,
    pub wall: Duration,
}

/// A pipe that is read.
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

    /// A closed one.
    fn none() -> Self {
        Self { file: None, kept: Vec::new(), most: 0, bytes: 0 }
    }

    /// Reads up to one buffer, so that no pipe starves the others.
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

/// The descriptors that are polled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pipe {
    Stdout,
    Stderr,
    Report,
    Control,
    Input,
}

/// A running program.
struct Supervisor<'a> {
    child: Child,
    control: Option<UnixStream>,
    input: Option<File>,
    unsent: &'a [u8],
    keys: &'a Keys,
    limits: &'a Limits,
    stdout: Source,
    stderr: Source,
    report: Source,
    answers: Source,
    last: Report,
    deadline: Instant,
    stopped: Option<StopReason>,
    /// The program has ended, has sent its last message, or was stopped.
    ending: bool,
}

/// Supervises a program until it ends. `cancel` stops it.
pub(crate) fn supervise(
    running: Running,
    input: &[u8],
    keys: &Keys,
    limits: &Limits,
    cancel: &AtomicBool,
) -> Result<RunRecord> {
    let begun = Instant::now();
    nonblocking(running.input.as_fd())?;
    let answers = match &running.control {
        Some(control) => Source::new(File::from(control.as_fd().try_clone_to_owned()?), LONGEST)?,
        None => Source::none(),
    };
    let mut supervisor = Supervisor {
        child: running.child,
        control: running.control,
        input: Some(running.input),
        unsent: input,
        keys,
        limits,
        stdout: Source::new(running.stdout, limits.output_kept)?,
        stderr: Source::new(running.stderr, limits.output_kept)?,
        report: Source::new(running.report, LONGEST)?,
        answers,
        last: Report::Nothing,
        deadline: begun + START,
        stopped: None,
        ending: false,
    };
    let mut buffer = vec![0; 64 << 10];
    while !supervisor.is_over()? {
        for pipe in supervisor.wait()? {
            supervisor.transfer(pipe, &mut buffer);
        }
        if supervisor.enforce(cancel)? {
            break;
        }
    }
    // The descriptors are closed first, so that the helper ends if it still runs.
    let Supervisor { mut child, control, input, stdout, stderr, report, mut answers, stopped, .. } = supervisor;
    answers.file = None;
    drop((control, input));
    end(&mut child)?;
    Ok(RunRecord {
        report: parse_report(&report.kept, keys),
        answers: Answer::all(&answers.kept),
        stopped,
        stdout: stdout.output(),
        stderr: stderr.output(),
        wall: begun.elapsed(),
    })
}

impl Supervisor<'_> {
    /// Whether the run is over: all pipes are closed, which means that every process with one of them has ended, and so
    /// has the helper.
    fn is_over(&mut self) -> Result<bool> {
        let closed = [&self.stdout, &self.stderr, &self.report, &self.answers].iter().all(|s| s.file.is_none());
        // Without a helper only the process itself shows that it has ended.
        Ok(closed && (self.control.is_some() || self.child.try_wait()?.is_some()))
    }

    /// Waits up to a tick for pipes that can be read or written.
    fn wait(&self) -> Result<Vec<Pipe>> {
        let sources = [
            (&self.stdout.file, Pipe::Stdout, PollFlags::POLLIN),
            (&self.stderr.file, Pipe::Stderr, PollFlags::POLLIN),
            (&self.report.file, Pipe::Report, PollFlags::POLLIN),
            (&self.answers.file, Pipe::Control, PollFlags::POLLIN),
            (&self.input, Pipe::Input, PollFlags::POLLOUT),
        ];
        let open: Vec<_> =
            sources.iter().filter_map(|(file, pipe, flags)| Some((file.as_ref()?, *pipe, *flags))).collect();
        let mut fds: Vec<_> = open.iter().map(|(file, _, flags)| PollFd::new(file.as_fd(), *flags)).collect();
        let wait = self.deadline.saturating_duration_since(Instant::now()).min(TICK) + Duration::from_millis(1);
        match poll(&mut fds, PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(open.iter().zip(&fds).filter(|(_, fd)| fd.any() == Some(true)).map(|((_, pipe, _), _)| *pipe).collect())
    }

    /// Reads or writes what is possible without waiting.
    fn transfer(&mut self, pipe: Pipe, buffer: &mut [u8]) {
        match pipe {
            Pipe::Stdout => self.stdout.read(buffer),
            Pipe::Stderr => self.stderr.read(buffer),
            Pipe::Control => self.answers.read(buffer),
            Pipe::Input => send(&mut self.input, &mut self.unsent),
            Pipe::Report => {
                self.report.read(buffer);
                let started = self.last != Report::Nothing;
                self.last = parse_report(&self.report.kept, self.keys);
                if !started && self.last != Report::Nothing && !self.ending {
                    self.deadline = Instant::now() + self.limits.wall;
                }
            }
        }
    }

    /// Stops the program at its limits. Returns whether its end has been waited for long enough.
    fn enforce(&mut self, cancel: &AtomicBool) -> Result<bool> {
        let late = Instant::now() >= self.deadline;
        let stop = if cancel.load(Ordering::Relaxed) {
            Some(StopReason::Cancelled)
        } else if self.stdout.bytes + self.stderr.bytes > self.limits.output {
            Some(StopReason::Output)
        } else if self.report.bytes > LONGEST as u64 {
            Some(StopReason::Report)
        } else if late && !self.ending {
            Some(StopReason::WallTime)
        } else {
            None
        };
        if self.ending {
            if stop == Some(StopReason::Cancelled) {
                self.stopped = stop;
            }
            // It had time to end by itself.
            if stop.is_some() || late {
                self.hang_up();
            }
            return Ok(late);
        }
        let ended = match &self.control {
            Some(_) => self.answers.file.is_none() || Answer::all(&self.answers.kept).iter().any(Answer::is_last),
            None => self.child.try_wait()?.is_some(),
        };
        if !ended && !self.last.is_last() {
            if stop.is_none() {
                return Ok(false);
            }
            self.stopped = stop;
            if stop == Some(StopReason::Output) {
                // Enough has been read. The report's pipe also shows the end of every process.
                (self.stdout.file, self.stderr.file) = (None, None);
            }
            self.hang_up();
        }
        self.ending = true;
        self.deadline = Instant::now() + GRACE;
        Ok(false)
    }

    /// Ends all processes: the helper does it, and reports what they used.
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

/// Writes as much of the input as possible; closes the pipe after the last byte.
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
        // The reader has closed the pipe.
        Err(_) => *pipe = None,
    }
}

/// Waits for the first process and kills it after a while. The other processes end with it.
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
