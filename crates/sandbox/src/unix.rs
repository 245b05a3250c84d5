//! Runs programs on Unix systems: with the helper on Linux, without isolation elsewhere.

use std::path::Path;
#[cfg(target_os = "linux")]
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lopper_record::{Fault, Interrupted, Result, bail};
use tempfile::TempDir;

use crate::job::{Answer, Job, KernelLimits, PRIVATE};
use crate::launch::{self, Running};
use crate::outcome::{End, Outcome, Stage};
use crate::policy::{Limits, Policy, Program};
use crate::protection::{Mechanism, Protection};
use crate::python::{Interpreter, environment, joined};
use crate::report::{Keys, Report, harness_input};
use crate::supervise::{RunRecord, StopReason, supervise};

/// Everything that all programs have in common.
#[derive(Debug)]
pub(crate) struct Runner {
    interpreter: Interpreter,
    limits: Limits,
    python_path: Vec<u8>,
    /// The job of a program, without its limits and its directory.
    job: Job,
    #[cfg(target_os = "linux")]
    helper: PathBuf,
    #[cfg(target_os = "linux")]
    cgroup: Option<crate::cgroup::Parent>,
}

impl Runner {
    /// Finds the interpreter and the mechanisms of this runner.
    #[cfg(target_os = "linux")]
    pub(crate) fn new(policy: Policy) -> Result<(Self, Vec<Protection>)> {
        use crate::cgroup;
        use crate::protection::State;

        let helper = match &policy.helper {
            Some(path) => path.clone(),
            // Also works after the program's file has been replaced.
            None if crate::HOOKED.load(Ordering::Relaxed) => PathBuf::from("/proc/self/exe"),
            None => bail!("child_main() must be called in main before a sandbox is made"),
        };
        let mut runner = Self::bare(&policy)?;
        runner.helper = helper;
        let mut protections = crate::probe::probe(&runner.helper, &runner.job, &policy.switched_off)?;
        let group = if policy.switched_off.contains(&Mechanism::Cgroup) {
            State::SwitchedOff
        } else {
            match cgroup::Parent::find(policy.cgroup.as_deref()) {
                Ok(parent) => {
                    runner.cgroup = Some(parent);
                    State::Active(String::new())
                }
                Err(why) => State::Unavailable(why),
            }
        };
        protections.push(Protection { mechanism: Mechanism::Cgroup, state: group });
        let active = protections.iter().filter(|p| p.is_active() && p.mechanism != Mechanism::Cgroup);
        runner.job.mechanisms = active.map(|p| p.mechanism).collect();
        Ok((runner, protections))
    }

    /// Finds the interpreter. There are no mechanisms here.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new(policy: Policy) -> Result<(Self, Vec<Protection>)> {
        use crate::protection::State;

        let missing = |mechanism| Protection { mechanism, state: State::Unavailable("only on Linux".into()) };
        Ok((Self::bare(&policy)?, Mechanism::ALL.map(missing).to_vec()))
    }

    fn bare(policy: &Policy) -> Result<Self> {
        let interpreter = Interpreter::find(policy)?;
        let job = Job {
            probe: false,
            mechanisms: Vec::new(),
            command_line: interpreter.command_line(),
            environment: Vec::new(),
            view: interpreter.view(policy)?,
            directory: None,
            limits: kernel_limits(&policy.limits),
            allow_processes: policy.allow_processes,
        };
        let python_path = joined(&interpreter.python_path(policy));
        let limits = policy.limits.clone();
        Ok(Self {
            interpreter,
            limits,
            python_path,
            job,
            #[cfg(target_os = "linux")]
            helper: PathBuf::new(),
            #[cfg(target_os = "linux")]
            cgroup: None,
        })
    }

    /// The interpreter, for people.
    pub(crate) fn interpreter(&self) -> String {
        format!("{} ({})", self.interpreter.version(), self.interpreter.executable.display())
    }

    /// Runs a small program that checks that the interpreter starts in the sandbox and that the active mechanisms work.
    pub(crate) fn check(&self, protections: &[Protection]) -> Result<()> {
        let active: Vec<_> =
            protections.iter().filter(|p| p.is_active()).map(|p| format!("{:?}", p.mechanism)).collect();
        let tests = format!("check({:?}.split())", active.join(" "));
        let limits = Limits { wall: Duration::from_secs(60), ..self.limits.clone() };
        let program = Program::new(include_str!("check.py"), tests);
        let got = match self.run_with(&program, &limits, &AtomicBool::new(false)) {
            Ok(outcome) if outcome.end == End::Completed => return Ok(()),
            Ok(outcome) => format!("{} {}", outcome.end.describe(), outcome.stderr.text.trim()),
            Err(error) => format!("{error:#}"),
        };
        Err(Fault::new("a first, harmless program did not run correctly in the sandbox")
            .file(&self.interpreter.executable)
            .got(got.trim())
            .hint(
                "the interpreter may need further readable paths (the policy's read_paths) or more memory, or be in a \
                 directory that only root can read (programs run as the user `nobody`)",
            )
            .into())
    }

    /// Runs one program under the policy's limits, or the program's own.
    pub(crate) fn run(&self, program: &Program, cancel: &AtomicBool) -> Result<Outcome> {
        let mut limits = self.limits.clone();
        if let Some(time) = program.time {
            limits.wall = 3 * time;
            // One second for the start of the interpreter, which is not part of the program's time.
            limits.cpu = time + Duration::from_secs(1);
        }
        self.run_with(program, &limits, cancel)
    }

    fn run_with(&self, program: &Program, limits: &Limits, cancel: &AtomicBool) -> Result<Outcome> {
        if cancel.load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        let keys = Keys::new()?;
        let own_tree = self.job.mechanisms.contains(&Mechanism::MountNamespace);
        let as_nobody = self.job.mechanisms.contains(&Mechanism::Unprivileged);
        let directory = if own_tree { None } else { Some(own_directory(as_nobody)?) };
        let path = directory.as_ref().map(TempDir::path);
        let job = Job {
            limits: kernel_limits(limits),
            directory: path.map(Path::to_path_buf),
            environment: environment(
                &path.map_or(PRIVATE.into(), |p| p.to_string_lossy()),
                &self.interpreter.libraries(),
            ),
            ..self.job.clone()
        };
        let started = self.start(&job, limits)?;
        let run = supervise(started.running, &harness_input(&keys, &self.python_path, program), &keys, limits, cancel)?;
        outcome(run, program, limits, || started.group.ran_out_of_memory())
    }

    #[cfg(target_os = "linux")]
    fn start(&self, job: &Job, limits: &Limits) -> Result<Started> {
        let group = self.cgroup.as_ref().map(|parent| parent.group(limits)).transpose()?;
        let add = |pid| group.as_ref().map_or(Ok(()), |group| group.add(pid));
        let running = launch::with_helper(&self.helper, job, add)?;
        Ok(Started { running, group: GroupOrNone(group) })
    }

    #[cfg(not(target_os = "linux"))]
    fn start(&self, job: &Job, _: &Limits) -> Result<Started> {
        Ok(Started { running: launch::without_helper(job)?, group: GroupOrNone })
    }
}

/// A started program and its control group.
struct Started {
    running: Running,
    group: GroupOrNone,
}

#[cfg(target_os = "linux")]
struct GroupOrNone(Option<crate::cgroup::Group>);
#[cfg(not(target_os = "linux"))]
struct GroupOrNone;

impl GroupOrNone {
    fn ran_out_of_memory(&self) -> bool {
        #[cfg(target_os = "linux")]
        return self.0.as_ref().is_some_and(crate::cgroup::Group::ran_out_of_memory);
        #[cfg(not(target_os = "linux"))]
        return false;
    }
}

fn kernel_limits(limits: &Limits) -> KernelLimits {
    KernelLimits {
        cpu_seconds: limits.cpu.as_secs_f64().ceil().max(1.0) as u64,
        memory: limits.memory,
        disk: limits.disk,
        open_files: limits.open_files,
        tasks: limits.tasks,
    }
}

/// A directory on the disk for a program without a file tree of its own; `as_nobody`: for one that runs as another
/// user.
fn own_directory(as_nobody: bool) -> Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("lopper-sandbox-").tempdir()?;
    #[cfg(target_os = "linux")]
    if as_nobody && nix::unistd::geteuid().is_root() {
        let nobody = Some(crate::child::NOBODY);
        // In a container without that user, the program keeps Lopper's.
        let _ = std::os::unix::fs::chown(directory.path(), nobody, nobody);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = as_nobody;
    Ok(directory)
}

/// The outcome of a run.
fn outcome(run: RunRecord, program: &Program, limits: &Limits, out_of_memory: impl Fn() -> bool) -> Result<Outcome> {
    if run.stopped == Some(StopReason::Cancelled) {
        return Err(Interrupted.into());
    }
    let mut ended = None;
    for answer in &run.answers {
        match answer {
            Answer::Failed(why) => bail!("the sandbox cannot be set up: {why}"),
            Answer::Ended { status, signal, cpu_micros, peak_kib } => {
                ended = Some((*status, *signal, Duration::from_micros(*cpu_micros), peak_kib * 1024));
            }
            Answer::Hello | Answer::Probed(_) => {}
        }
    }
    let stage = run.report.stage();
    let mut value = None;
    let end = match (run.report, run.stopped, ended) {
        // An exception after it was stopped (because of a closed pipe, for example) does not count.
        (_, Some(StopReason::WallTime), _) => End::WallTime,
        (_, Some(StopReason::Output), _) => End::OutputLimit,
        (_, Some(StopReason::Report), _) => End::BrokenReport,
        (Report::Passed(text), ..) => {
            value = program.value.is_some().then_some(text);
            End::Completed
        }
        (Report::Failed(_, exception), ..) => End::Raised(exception),
        (_, _, _) if out_of_memory() => End::OutOfMemory,
        (_, _, Some((_, Some(signal), cpu, _))) if is_cpu_limit(signal, cpu, limits) => End::CpuTime,
        (_, _, Some((_, Some(signal), ..))) => End::Killed(signal),
        (_, _, Some((Some(status), ..))) => End::Exited(status),
        (..) => {
            bail!("the sandbox's helper ended before the program did: {}", run.stderr.text.trim());
        }
    };
    if stage == Stage::Start && run.stopped == Some(StopReason::WallTime) {
        bail!("the interpreter did not start in the sandbox: {}", run.stderr.text.trim());
    }
    Ok(Outcome {
        verdict: end.verdict(),
        end,
        stage,
        value,
        stdout: run.stdout,
        stderr: run.stderr,
        wall: run.wall,
        cpu: ended.map(|e| e.2),
        peak_memory: ended.map(|e| e.3),
    })
}

/// Whether a signal is that of the limit on processor time: SIGXCPU, or SIGKILL a second later.
fn is_cpu_limit(signal: i32, cpu: Duration, limits: &Limits) -> bool {
    use nix::sys::signal::Signal;
    signal == Signal::SIGXCPU as i32 || (signal == Signal::SIGKILL as i32 && cpu >= limits.cpu)
}
