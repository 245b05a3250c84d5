//! The cost of the sandbox: programs per second, compared with the same interpreter without it.
//!
//! `cargo run --release -p lopper-sandbox --example throughput [PYTHON]`; a second argument names a
//! module that every program imports (numpy, for example).

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use lopper_sandbox::{Policy, Program, Sandbox, Verdict, child_main};

const PROGRAMS: usize = 60;

#[allow(clippy::print_stdout)]
fn main() -> anyhow::Result<()> {
    child_main();
    let python = std::env::args().nth(1).unwrap_or("python3".into());
    let module = std::env::args().nth(2);
    let policy = Policy { python: Some(python.clone().into()), site_packages: module.is_some(), ..Policy::default() };
    let sandbox = Sandbox::new(policy)?;
    let source = module.as_ref().map_or(String::new(), |m| format!("import {m}\n"));
    let program = Program::new(format!("{source}def f(x):\n    return x + 1"), "assert f(1) == 2");
    let bare = format!("{source}def f(x):\n    return x + 1\nassert f(1) == 2");
    let flags: &[&str] = if module.is_some() { &["-I", "-B", "-c"] } else { &["-I", "-S", "-B", "-c"] };
    // Twice, to show the variance.
    for _ in 0..2 {
        for parallelism in [1, 2] {
            let begun = Instant::now();
            let programs = std::iter::repeat_n(program.clone(), PROGRAMS);
            let outcomes = sandbox.run_all(programs, parallelism, &AtomicBool::new(false), |_, _| ())?;
            assert!(outcomes.iter().all(|o| o.verdict == Verdict::Passed), "{:?}", outcomes[0]);
            let sandboxed = PROGRAMS as f64 / begun.elapsed().as_secs_f64();

            let begun = Instant::now();
            let next = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..parallelism {
                    scope.spawn(|| {
                        while next.fetch_add(1, Ordering::Relaxed) < PROGRAMS {
                            let mut command = Command::new(&python);
                            command.args(flags).arg(&bare).stdin(Stdio::null()).env("OPENBLAS_NUM_THREADS", "1");
                            assert!(command.status().is_ok_and(|status| status.success()));
                        }
                    });
                }
            });
            let started_bare = PROGRAMS as f64 / begun.elapsed().as_secs_f64();
            println!(
                "{parallelism} at a time: {sandboxed:.1} programs/s in the sandbox, {started_bare:.1} bare, ratio {:.2}",
                sandboxed / started_bare
            );
        }
    }
    Ok(())
}
