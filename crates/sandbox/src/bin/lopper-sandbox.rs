//! Without arguments, prints which mechanisms work on this machine. `lopper-sandbox PROGRAM.py [TESTS.py]` runs a
//! program and its tests, and prints the outcome as JSON. Also the helper of this crate's tests.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its results")]

use std::process::ExitCode;

use lopper_record::{Context, Fault, Result};
use lopper_sandbox::{Policy, Program, Sandbox};

fn main() -> ExitCode {
    lopper_sandbox::child_main();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(if error.fault().is_some() { 2 } else { 1 })
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
