//! Systems that are not Unix: nothing is run.

use std::sync::atomic::AtomicBool;

use anyhow::Result;
use lopper_record::Fault;

use crate::outcome::Outcome;
use crate::policy::{Policy, Program};
use crate::protection::Protection;

/// What cannot be made here.
#[derive(Debug)]
pub(crate) enum Machine {}

impl Machine {
    pub(crate) fn new(_: Policy) -> Result<(Self, Vec<Protection>)> {
        let hint = "run it on Linux, or leave out the tasks that run a model's code";
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
