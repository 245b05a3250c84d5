//! Ordinary programs: the classes of their outcomes, their output, and many in parallel.

#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "`--nocapture` shows the protections")]

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{has, policy, run, sandbox};
use lopper_sandbox::{End, ExceptionClass, Mechanism, Policy, Program, Sandbox, Stage, Verdict};
use lopper_testkit::{Feature, skip_unless};

#[test]
fn outcomes_have_the_classes_of_the_paper() {
    let Some(sandbox) = sandbox(policy()) else { return };
    let cases = [
        ("def f(x):\n    return x + 1", "assert f(1) == 2", Verdict::Passed, Stage::Tests),
        ("def f(x):\n    return x", "assert f(1) == 2, 'off by one'", Verdict::AssertionError, Stage::Tests),
        ("assert False", "", Verdict::AssertionError, Stage::Program),
        ("def f(x:\n    return x", "", Verdict::BracketSyntax, Stage::Program),
        ("x = [1, 2", "", Verdict::BracketSyntax, Stage::Program),
        ("x = (1, 2]", "", Verdict::BracketSyntax, Stage::Program),
        ("x = 1)", "", Verdict::BracketSyntax, Stage::Program),
        ("x = 'abc", "", Verdict::BracketSyntax, Stage::Program),
        ("x = '''abc\n", "", Verdict::BracketSyntax, Stage::Program),
        ("x = f'{1'", "", Verdict::BracketSyntax, Stage::Program),
        ("def f(x)\n    return x", "", Verdict::OtherSyntax, Stage::Program),
        ("def f(x):\nreturn x", "", Verdict::OtherSyntax, Stage::Program),
        ("  x = 1\n y = 2", "", Verdict::OtherSyntax, Stage::Program),
        ("Here is the function you asked for:", "", Verdict::OtherSyntax, Stage::Program),
        ("def f(x):\n    return y", "f(1)", Verdict::NameNotDefined, Stage::Tests),
        ("", "f(1)", Verdict::NameNotDefined, Stage::Tests),
        ("def f(n):\n    return f(n)", "f(1)", Verdict::TimeoutOrRecursion, Stage::Tests),
        ("def f():\n    x += 1", "f()", Verdict::Other, Stage::Tests),
        ("1 / 0", "", Verdict::Other, Stage::Program),
        ("import no_such_module", "", Verdict::Other, Stage::Program),
        ("eval('(')", "", Verdict::Other, Stage::Program),
        ("x = '\0'", "", Verdict::Other, Stage::Program),
        ("raise TimeoutError", "", Verdict::Other, Stage::Program),
        // Tests that do not compile say nothing about the program.
        ("x = 1", "assert (x == 1", Verdict::Other, Stage::Tests),
    ];
    for (source, tests, verdict, stage) in cases {
        let outcome = run(&sandbox, source, tests);
        // Before 3.12 a zero byte was a ValueError, since then it is a syntax error.
        let zero = source.contains('\0') && outcome.verdict == Verdict::OtherSyntax;
        assert!(outcome.verdict == verdict || zero, "{source:?}: {outcome:?}");
        assert_eq!(outcome.stage, stage, "{source:?}: {outcome:?}");
    }
}

#[test]
fn an_exception_has_its_line() {
    let Some(sandbox) = sandbox(policy()) else { return };
    let outcome = run(&sandbox, "def f():\n    a = 1\n    return a + None", "\n\nf()");
    let End::Raised(exception) = outcome.end else { panic!("{outcome:?}") };
    assert_eq!(exception.class, ExceptionClass::Other);
    assert_eq!(exception.kind, "TypeError");
    assert_eq!(exception.line, Some(3));
    assert!(exception.message.contains("NoneType"), "{exception:?}");
}

#[test]
fn program_and_tests_are_one_module() {
    let Some(sandbox) = sandbox(policy()) else { return };
    let source = "from dataclasses import dataclass\nimport pickle, sys\n@dataclass\nclass P:\n    x: 'int' = 1\n\
                  abs = lambda x: 'shadowed'\nif __name__ == '__main__':\n    input()\n";
    // A name that the program shadows is shadowed in the tests, as when both are one file.
    let tests = "assert P() == pickle.loads(pickle.dumps(P()))\nassert abs(1) == 'shadowed'\n\
                 assert sys.modules[__name__].P is P\nimport asyncio\nasync def g(): return 5\nassert asyncio.run(g()) == 5\n";
    assert_eq!(run(&sandbox, source, tests).end, End::Completed);
}

#[test]
fn a_value_and_the_output_are_kept() {
    let Some(sandbox) = sandbox(policy()) else { return };
    let program =
        Program::new("import sys\nprint('out')\nprint('err', file=sys.stderr)\ndef solution(): return 6 * 7", "");
    let outcome = sandbox.run(&program.clone().value("solution()")).unwrap();
    assert_eq!(outcome.value.as_deref(), Some("42"));
    assert_eq!((outcome.stdout.text.as_str(), outcome.stderr.text.as_str()), ("out\n", "err\n"));
    assert!(outcome.cpu.unwrap() > Duration::ZERO && outcome.peak_memory.unwrap() > 1 << 20);
    // Without an expression there is no value, and one that raises is a failure.
    assert_eq!(sandbox.run(&program).unwrap().value, None);
    let outcome = sandbox.run(&Program::new("", "").value("1 / 0")).unwrap();
    assert_eq!(outcome.verdict, Verdict::Other);
    // Text that is not UTF-8, and a lot of it.
    let outcome = sandbox.run(&Program::new("x = '\\ud800\\0é' + 'y' * 100000", "").value("x")).unwrap();
    assert!(outcome.value.unwrap().starts_with("\\ud800?éyyy"));
}

#[test]
fn long_programs_and_tests_arrive_whole() {
    let Some(sandbox) = sandbox(policy()) else { return };
    // Far beyond what a pipe holds.
    let source = format!("{}x = 1\n", "# é a line of the program\n".repeat(40_000));
    let tests = format!("{}assert x == 1\n", "# a line of the tests\n".repeat(40_000));
    let outcome = run(&sandbox, &source, &tests);
    assert_eq!(outcome.end, End::Completed, "{:?}", outcome.end);
}

#[test]
fn the_same_program_has_the_same_output() {
    let Some(sandbox) = sandbox(policy()) else { return };
    let source = "print(list({'a', 'b', 'c', 'd', 'e', 'f'}), hash('x'))";
    let first = run(&sandbox, source, "").stdout.text;
    for _ in 0..3 {
        assert_eq!(run(&sandbox, source, "").stdout.text, first);
    }
}

#[test]
fn many_at_a_time_keep_their_order() {
    let Some(sandbox) = sandbox(policy()) else { return };
    let count = 24;
    let programs = (0..count)
        .map(|i| Program::new(format!("import time\ntime.sleep({})", (i % 3) as f64 * 0.05), "").value(i.to_string()));
    let seen = Mutex::new(BTreeSet::new());
    let outcomes = sandbox
        .run_all(programs, 6, &AtomicBool::new(false), |index, outcome| {
            assert_eq!(outcome.value, Some(index.to_string()));
            assert!(seen.lock().unwrap().insert(index));
        })
        .unwrap();
    let values: Vec<_> = outcomes.into_iter().map(|o| o.value.unwrap()).collect();
    assert_eq!(values, (0..count).map(|i| i.to_string()).collect::<Vec<_>>());
    assert_eq!(seen.into_inner().unwrap().len(), count);
}

#[test]
fn bombs_do_not_disturb_their_neighbours() {
    let Some(sandbox) = sandbox(Policy { allow_processes: true, ..policy() }) else { return };
    let bombs = [
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "x = []\nwhile True: x.append(bytearray(1 << 20))",
        "while True: print('x' * 1000)",
    ];
    let programs = (0..12).map(|i| match i % 4 {
        3 => {
            Program::new("import os\nif os.fork() == 0: os._exit(3)\nx = os.WEXITSTATUS(os.wait()[1])", "assert x == 3")
        }
        n => Program::new(bombs[n], "").time(Duration::from_secs(1)),
    });
    let outcomes = sandbox.run_all(programs, 4, &AtomicBool::new(false), |_, _| ()).unwrap();
    for (i, outcome) in outcomes.iter().enumerate() {
        let expected = match i % 4 {
            0 => vec![Verdict::TimeoutOrRecursion],
            // On a busy machine time may be up before memory is.
            1 | 2 => vec![Verdict::Other, Verdict::TimeoutOrRecursion],
            _ => vec![Verdict::Passed],
        };
        assert!(expected.contains(&outcome.verdict), "{i}: {outcome:?}");
    }
}

#[test]
fn cancelling_ends_everything_soon() {
    let Some(sandbox) = sandbox(policy()) else { return };
    let cancel = AtomicBool::new(false);
    let begun = Instant::now();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(500));
            cancel.store(true, Ordering::Relaxed);
        });
        let programs = std::iter::repeat_with(|| Program::new("import time\ntime.sleep(4)", ""));
        sandbox.run_all(programs, 3, &cancel, |_, _| ())
    });
    assert!(result.unwrap_err().is_interrupted());
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn nothing_is_left_in_this_process() {
    let Some(sandbox) = sandbox(policy()) else { return };
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let own = std::process::id();
    // Only this test's own thread is counted: others in this process have children, too.
    let thread = thread_id();
    let children = move || {
        std::fs::read_to_string(format!("/proc/{own}/task/{thread}/children"))
            .map(|c| c.split_whitespace().count())
            .unwrap_or(0)
    };
    let programs = ["x = 1", "import os\nos._exit(3)", "while True: pass", "while True: print('x' * 1000)"];
    let mut fewest = usize::MAX;
    for round in 0..3 {
        for source in programs {
            sandbox.run(&Program::new(source, "").time(Duration::from_millis(300))).unwrap();
        }
        assert_eq!(children(), 0, "round {round}");
        fewest = fewest.min(descriptors());
    }
    // Parallel tests have a few open descriptors each; a leak of four for each of twelve programs would be more.
    assert!(descriptors() < fewest + 40, "{} descriptors, {fewest} before", descriptors());
}

fn thread_id() -> String {
    std::fs::read_link("/proc/thread-self").unwrap().file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn modules_in_the_python_path_can_be_imported() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(dir.path().join("helper.py"), "answer = 42\n").unwrap();
    let given = Policy { python_path: vec![dir.path().to_path_buf()], ..policy() };
    let Some(sandbox) = sandbox(given) else { return };
    assert_eq!(run(&sandbox, "from helper import answer", "assert answer == 42").end, End::Completed);
    let source = format!("open({:?}, 'w')", dir.path().join("helper.py"));
    assert!(matches!(run(&sandbox, &source, "").end, End::Raised(_)));
}

#[test]
fn numpy_runs_where_it_is_installed() {
    // Whichever interpreter comes first, be it in root's own directory.
    let given = Policy { site_packages: true, python: None, ..policy() };
    let Some(sandbox) = sandbox(given) else { return };
    let source = "import numpy as np\ndef f(n): return float((np.ones((n, n)) @ np.ones((n, n))).sum())";
    let outcome = run(&sandbox, source, "assert f(50) == 125000.0\nassert np.allclose(1.0, 1.0 + 1e-12)");
    let missing = matches!(&outcome.end, End::Raised(e) if e.kind == "ModuleNotFoundError");
    let Some(outcome) = skip_unless(Feature::Numpy, (!missing).then_some(outcome)) else { return };
    assert_eq!(outcome.end, End::Completed, "{outcome:?}");
}

#[test]
fn a_machine_without_isolation_is_refused() {
    let all: BTreeSet<_> = Mechanism::ALL.into_iter().collect();
    let bare = Policy { switched_off: all.clone(), ..policy() };
    let python = Sandbox::new(Policy { allow_unprotected: true, ..policy() });
    let started = python.as_ref().map_or_else(|error| !error.to_string().contains("cannot be started"), |_| true);
    if skip_unless(Feature::Sandbox, started.then_some(())).is_none() {
        return;
    }
    let sandbox = python.unwrap();
    let error = Sandbox::new(bare.clone()).expect_err("a machine without any mechanism is refused");
    let fault = error.fault().expect("a fault of the machine");
    for need in ["files", "network", "other processes", "kernel", "memory"] {
        assert!(fault.got.as_ref().unwrap().contains(need), "{fault}");
    }
    // Either of the two mechanisms for files is sufficient if the machine has it; none is not.
    for on in [Some(Mechanism::MountNamespace), Some(Mechanism::Landlock), None] {
        let files = [Mechanism::MountNamespace, Mechanism::Landlock];
        let switched_off = files.into_iter().filter(|m| Some(*m) != on).collect();
        let refused = Sandbox::new(Policy { switched_off, ..policy() }).err();
        let enough = on.is_some_and(|m| has(&sandbox, m)) && has(&sandbox, Mechanism::Seccomp);
        assert_eq!(refused.is_none(), enough, "{on:?}: {refused:?}");
    }
    // If the policy allows it, programs run, and the gaps are reported.
    let sandbox = Sandbox::new(Policy { allow_unprotected: true, ..bare }).unwrap();
    assert_eq!(sandbox.gaps().iter().filter(|gap| gap.starts_with("NOT PROTECTED")).count(), 5);
    assert_eq!(run(&sandbox, "x = 1", "assert x == 1").end, End::Completed);
    let endless = sandbox.run(&Program::new("while True: pass", "").time(Duration::from_secs(1))).unwrap();
    assert_eq!(endless.end, End::WallTime);
}

#[test]
fn each_mechanism_can_be_missing_by_itself() {
    for mechanism in Mechanism::ALL {
        let given = Policy { switched_off: [mechanism].into(), allow_unprotected: true, ..policy() };
        let Some(sandbox) = sandbox(given) else { return };
        let outcome = run(&sandbox, "x = 1", "assert x == 1");
        assert_eq!(outcome.end, End::Completed, "without {mechanism:?}: {outcome:?}");
    }
}

#[test]
fn every_protection_is_described() {
    let Some(sandbox) = sandbox(policy()) else { return };
    let lines = sandbox.describe();
    assert!(lines[0].contains("Python 3."), "{lines:?}");
    assert_eq!(lines.len(), 1 + Mechanism::ALL.len() + sandbox.gaps().len());
    for line in lines {
        println!("{line}");
    }
}

#[test]
fn other_programs_are_not_helpers() {
    // Neither a program that does not know the marker nor a missing one is taken for a helper.
    let error = Sandbox::new(Policy { helper: Some("/bin/true".into()), ..policy() }).unwrap_err();
    assert!(error.to_string().contains("child_main") || error.to_string().contains("helper"), "{error:#}");
    assert!(Sandbox::new(Policy { helper: Some("/nonexistent".into()), ..policy() }).is_err());
    // This test binary does not call `child_main`, which is known without executing it.
    let error = Sandbox::new(Policy { helper: None, ..policy() }).unwrap_err();
    assert!(error.to_string().contains("child_main"), "{error:#}");
}

#[test]
fn missing_paths_are_faults() {
    let missing = PathBuf::from("/nonexistent/packages");
    for given in [
        Policy { read_paths: vec![missing.clone()], ..policy() },
        Policy { python_path: vec![missing.clone()], ..policy() },
        Policy { python: Some(missing.clone()), ..policy() },
        Policy { read_paths: vec!["/".into()], ..policy() },
    ] {
        let error = Sandbox::new(given).unwrap_err();
        assert!(error.fault().is_some(), "{error:#}");
    }
}
