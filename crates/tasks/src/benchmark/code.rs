//! Running what a model wrote, through the sandbox; and the classes of outcomes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lopper_record::Result;
use lopper_sandbox::{Outcome, Policy, Program, Sandbox, Verdict};

/// A sandbox that the user has allowed, and the flag that stops it.
pub struct CodeRunner {
    sandbox: Sandbox,
    cancel: Arc<AtomicBool>,
}

impl CodeRunner {
    /// Makes the sandbox. Programs see the packages installed for the interpreter, since the tests of
    /// HumanEval+ and MBPP+ import numpy. Runs end soon after `cancel` becomes true.
    ///
    /// # Errors
    /// Those of [`Sandbox::new`]: above all a machine that cannot protect itself.
    pub fn new(policy: Policy, cancel: Arc<AtomicBool>) -> Result<Self> {
        Ok(Self { sandbox: Sandbox::new(Policy { site_packages: true, ..policy })?, cancel })
    }

    /// What protects this machine and what does not, a line each.
    pub fn describe(&self) -> Vec<String> {
        self.sandbox.describe()
    }

    /// The first of `packages` that programs cannot import.
    pub(crate) fn lacks<'a>(&self, packages: &'a [String]) -> Result<Option<&'a str>> {
        for package in packages {
            let named = package.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
            if !named || self.sandbox.run(&Program::new(format!("import {package}"), ""))?.verdict != Verdict::Passed {
                return Ok(Some(package));
            }
        }
        Ok(None)
    }

    /// Runs programs, as many at a time as there are cores.
    pub(crate) fn run(&self, programs: Vec<Program>) -> Result<Vec<Outcome>> {
        self.sandbox.run_all(programs, 0, &self.cancel, |_, _| ())
    }
}

/// The class of an outcome, as the pocket model's programs are classified too.
pub(crate) fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::AssertionError => "assertion",
        Verdict::BracketSyntax => "bracket_or_literal",
        Verdict::OtherSyntax => "other_syntax",
        Verdict::NameNotDefined => "name_not_defined",
        Verdict::TimeoutOrRecursion => "timeout",
        Verdict::Other => "other",
    }
}
