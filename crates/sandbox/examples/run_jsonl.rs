//! Runs many programs: each line of standard input is `{"source": …, "tests": …}`. Prints one line for every program
//! that did not pass, then the number of programs with each verdict.
//!
//! `cargo run -p lopper-sandbox --example run_jsonl PYTHON < programs.jsonl`
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use lopper_sandbox::{Policy, Program, Sandbox, Verdict, child_main};

fn main() -> anyhow::Result<()> {
    child_main();
    let python = std::env::args_os().nth(1).map(Into::into);
    let sandbox = Sandbox::new(Policy { python, site_packages: true, ..Policy::default() })?;
    let mut programs = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let row: BTreeMap<String, String> = serde_json::from_str(&line?)?;
        let text = |name: &str| row.get(name).cloned().unwrap_or_default();
        programs.push(Program::new(text("source"), text("tests")));
    }
    let begun = Instant::now();
    let outcomes = sandbox.run_all(programs, 0, &AtomicBool::new(false), |_, _| ())?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, outcome) in outcomes.iter().enumerate() {
        *counts.entry(outcome.verdict.name()).or_default() += 1;
        if outcome.verdict != Verdict::Passed {
            println!("{index}: {}", outcome.end.describe());
        }
    }
    println!("{} programs in {seconds:.1} s: {counts:?}", outcomes.len());
    Ok(())
}
