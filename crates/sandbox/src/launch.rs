//! Starts one program: its pipes and its first process.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use command_fds::{CommandFdExt, FdMapping};

use crate::job::{INPUT, Job, MARKER, REPORT};

/// A started program. No other process inherits these descriptors.
#[derive(Debug)]
pub(crate) struct Running {
    pub child: Child,
    /// The socket to the helper; none if the interpreter is started without one.
    pub control: Option<UnixStream>,
    pub stdout: File,
    pub stderr: File,
    pub input: File,
    pub report: File,
}

/// Starts the helper with a job.
pub(crate) fn with_helper(helper: &Path, job: &Job, before: impl FnOnce(u32) -> io::Result<()>) -> Result<Running> {
    let (mut control, theirs) = UnixStream::pair()?;
    let mut command = Command::new(helper);
    command.arg(MARKER).stdin(Stdio::from(OwnedFd::from(theirs))).env_clear();
    // Ctrl-C interrupts Lopper, which then ends its programs itself.
    command.process_group(0);
    // Needed to load the helper; the interpreter does not get them.
    for name in ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let mut running = start(command)?;
    let prepared = before(running.child.id()).context("control group").and_then(|()| Ok(job.write(&mut control)?));
    if let Err(e) = prepared {
        // Without a job the helper ends.
        drop(control);
        let _ = running.child.wait();
        return Err(e.context("the job cannot be sent to the sandbox's helper"));
    }
    running.control = Some(control);
    Ok(running)
}

/// Starts the interpreter without a helper, on systems without any of the mechanisms.
#[cfg(not(target_os = "linux"))]
pub(crate) fn without_helper(job: &Job) -> Result<Running> {
    let mut command = Command::new(&job.command_line[0]);
    command.args(&job.command_line[1..]).stdin(Stdio::null()).env_clear().envs(job.environment.iter().cloned());
    command.process_group(0);
    if let Some(directory) = &job.directory {
        command.current_dir(directory);
    }
    start(command)
}

/// Adds the pipes and starts the process.
fn start(mut command: Command) -> Result<Running> {
    let (stdout, their_stdout) = io::pipe()?;
    let (stderr, their_stderr) = io::pipe()?;
    let (their_input, input) = io::pipe()?;
    let (report, their_report) = io::pipe()?;
    command.stdout(their_stdout).stderr(their_stderr);
    command.fd_mappings(vec![
        FdMapping { parent_fd: their_input.into(), child_fd: INPUT },
        FdMapping { parent_fd: their_report.into(), child_fd: REPORT },
    ])?;
    let child = command.spawn().with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    // `command` is dropped here and closes the other ends, so that only the child has them.
    Ok(Running {
        child,
        control: None,
        stdout: File::from(OwnedFd::from(stdout)),
        stderr: File::from(OwnedFd::from(stderr)),
        input: File::from(OwnedFd::from(input)),
        report: File::from(OwnedFd::from(report)),
    })
}
