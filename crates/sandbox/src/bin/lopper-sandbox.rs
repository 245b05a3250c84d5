//! The sandbox by itself: without arguments it says what protects this machine, with the name of a
//! Python file (and, if wanted, of one with tests) it runs them and prints the outcome as JSON. It
//! is also the helper of this crate's tests; `lopper` is its own.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it speaks to whoever runs it")]

use std::process::ExitCode;

use anyhow::{Context, Result};
use lopper_record::Fault;
use lopper_sandbox::{Policy, Program, Sandbox};

fn main() -> ExitCode {
    lopper_sandbox::child_main();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(if error.is::<Fault>() { 2 } else { 1 })
        }
    }
}

fn run() -> Result<()> {
    let mut files = std::env::args_os().skip(1);
    let sandbox = Sandbox::new(Policy::default())?;
    let Some(source) = files.next() else {
        for line in sandbox.describe() {
            println!("{line}");
        }
        return Ok(());
    };
    let read =
        |path| std::fs::read_to_string(&path).map_err(|e| Fault::new("cannot be read").file(&path).got(e.to_string()));
    let tests = files.next().map(read).transpose()?.unwrap_or_default();
    let outcome = sandbox.run(&Program::new(read(source)?, tests))?;
    println!("{}", serde_json::to_string_pretty(&outcome).context("outcome")?);
    Ok(())
}
