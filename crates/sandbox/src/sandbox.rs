//! The sandbox: created once, which tests the mechanisms of this machine; then runs any number of programs, in sequence
//! or in parallel.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lopper_record::{Error, Fault, Result};

use crate::backend::Runner;
use crate::outcome::Outcome;
use crate::policy::{Policy, Program};
use crate::protection::{Protection, gaps, uncovered};

/// Runs programs. Each has its own interpreter, and nothing of it is left for the next.
#[derive(Debug)]
pub struct Sandbox {
    runner: Runner,
    protections: Vec<Protection>,
    gaps: Vec<String>,
}

impl Sandbox {
    /// Finds the interpreter and the mechanisms of this machine, and runs one small program to check that all of them
    /// work.
    ///
    /// # Errors
    /// A [`Fault`] if the interpreter does not work, if a path of the policy does not exist, and if files, network,
    /// other processes, the kernel or resources would not be protected, unless [`Policy::allow_unprotected`] is set.
    pub fn new(policy: Policy) -> Result<Self> {
        let allow_processes = policy.allow_processes;
        let allow_unprotected = policy.allow_unprotected;
        let (runner, protections) = Runner::new(policy)?;
        let open = uncovered(&protections, allow_processes);
        if !open.is_empty() && !allow_unprotected {
            let names: Vec<_> = open.iter().map(|need| need.name()).collect();
            let missing: Vec<_> = protections.iter().filter(|p| !p.is_active()).map(Protection::line).collect();
            return Err(Fault::new("this machine cannot isolate programs that a model wrote")
                .expected(
                    "files, network, other processes, the kernel and resources each protected in at least one way",
                )
                .got(format!("not protected: {}; {}", names.join(", "), missing.join("; ")))
                .hint(
                    "run on Linux with user namespaces, Landlock and seccomp (docs/reference/sandbox.md), or allow \
                     unprotected runs on a machine without anything of value",
                )
                .into());
        }
        let gaps = gaps(&protections, allow_processes);
        let sandbox = Self { runner, protections, gaps };
        sandbox.runner.check(&sandbox.protections)?;
        Ok(sandbox)
    }

    /// All mechanisms, active or not.
    pub fn protections(&self) -> &[Protection] {
        &self.protections
    }

    /// Descriptions of what is not protected.
    pub fn gaps(&self) -> &[String] {
        &self.gaps
    }

    /// What a user should know before a model's code is run: the interpreter, the mechanisms, the gaps; one line each.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = vec![format!("programs run in {}", self.runner.interpreter())];
        lines.extend(self.protections.iter().map(Protection::line));
        lines.extend(self.gaps.iter().map(|gap| format!("not covered: {gap}")));
        lines
    }

    /// Runs one program.
    ///
    /// # Errors
    /// Only where the sandbox itself fails; whatever the program does is an [`Outcome`].
    pub fn run(&self, program: &Program) -> Result<Outcome> {
        self.runner.run(program, &AtomicBool::new(false))
    }

    /// Runs programs, up to `parallelism` at a time (0: one for each core), and returns their
    /// outcomes in the order of the programs. `progress` is told of each as it ends, from whichever
    /// thread ran it, so that it can be recorded at once.
    ///
    /// # Errors
    /// [`Error::Interrupted`] soon after `cancel` becomes true, with every program ended; and the first
    /// failure of the sandbox itself.
    pub fn run_all<I>(
        &self,
        programs: I,
        parallelism: usize,
        cancel: &AtomicBool,
        progress: impl Fn(usize, &Outcome) + Sync,
    ) -> Result<Vec<Outcome>>
    where
        I: IntoIterator<Item = Program>,
        I::IntoIter: Send,
    {
        let threads = match parallelism {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let queue = Mutex::new(programs.into_iter().enumerate());
        let done: Mutex<Vec<(usize, Outcome)>> = Mutex::new(Vec::new());
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let failed = AtomicUsize::new(0);
        let worker = || {
            while failed.load(Ordering::Relaxed) == 0 {
                let Some((index, program)) = lock(&queue).next() else { return };
                match self.runner.run(&program, cancel) {
                    Ok(outcome) => {
                        progress(index, &outcome);
                        lock(&done).push((index, outcome));
                    }
                    Err(error) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                        lock(&failure).get_or_insert(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(worker);
            }
            worker();
        });
        if let Some(error) = lock(&failure).take() {
            return Err(error);
        }
        let mut outcomes = std::mem::take(&mut *lock(&done));
        outcomes.sort_by_key(|(index, _)| *index);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }
}

/// The lock, also after a panic elsewhere: what it guards is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
