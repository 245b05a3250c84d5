//! Systems that are not Unix: programs are not run.

use std::sync::atomic::AtomicBool;

use lopper_record::{Fault, Result};

use crate::outcome::Outcome;
use crate::policy::{Policy, Program};
use crate::protection::Protection;

/// Cannot be created on these systems.
#[derive(Debug)]
pub(crate) enum Runner {}

impl Runner {
    pub(crate) fn new(_: Policy) -> Result<(Self, Vec<Protection>)> {
        let hint = "use Linux, or leave out the tasks that run a model's code";
        Err(Fault::new("programs that a model wrote cannot be run on this system").hint(hint).into())
    }

    pub(crate) fn interpreter(&self) -> String {
        match *self {}
    }

    pub(crate) fn check(&self, _: &[Protection]) -> Result<()> {
        match *self {}
    }

    pub(crate) fn run(&self, _: &Program, _: &AtomicBool) -> Result<Outcome> {
        match *self {}
    }
}
