//! Using up time, memory and output.

use std::time::Duration;

use lopper_sandbox::{End, ExceptionClass, Mechanism, Program, Verdict};

use crate::{attempts, everywhere, nothing_done, with};

#[test]
fn memory_bomb() {
    let source = "hoard = []\nwhile True:\n    hoard.append(bytearray(1 << 20))\n";
    everywhere("memory bomb", &Program::new(source, ""), |setting, outcome| {
        assert_eq!(outcome.verdict, Verdict::Other, "{outcome:?}");
        assert!(
            matches!(&outcome.end, End::Raised(e) if e.class == ExceptionClass::Memory),
            "{:?}: {outcome:?}",
            setting.kind
        );
        assert!(outcome.peak_memory.unwrap() <= 256 << 20);
    });
}

#[test]
fn memory_bomb_that_goes_on() {
    let source = "hoard = []\nwhile True:\n    try:\n        hoard.append(bytearray(1 << 20))\n    except MemoryError:\n        pass\n";
    let program = Program::new(source, "").time(Duration::from_millis(1500));
    everywhere("memory bomb that goes on", &program, |setting, outcome| {
        assert_eq!(outcome.verdict, Verdict::TimeoutOrRecursion, "{:?}: {outcome:?}", setting.kind);
        assert!(outcome.peak_memory.unwrap() <= 256 << 20);
    });
}

#[test]
fn one_huge_object() {
    everywhere("one huge object", &Program::new("x = 10 ** 12 * 'x'", ""), |_, outcome| {
        assert!(matches!(&outcome.end, End::Raised(e) if e.class == ExceptionClass::Memory), "{outcome:?}");
    });
}

#[test]
fn memory_outside_the_address_space() {
    let program = attempts(
        r#"
import ctypes
libc = ctypes.CDLL(None, use_errno=True)

def memfd():
    fd = os.memfd_create("hoard")
    try:
        for _ in range(1000):
            os.write(fd, b"x" * (1 << 20))
    finally:
        os.close(fd)

def shm():
    if libc.shmget(0, 1 << 30, 0o1600) < 0:
        raise OSError(ctypes.get_errno(), "")

seen["memfd_create"] = attempt(memfd)
seen["System V shared memory"] = attempt(shm)
"#,
    );
    // Of a memory file the limit on the size of files is in the way where the call is permitted;
    // System V memory is a matter of the filter alone.
    with(Mechanism::Seccomp, "memory that no limit counts", &program, nothing_done);
}

#[test]
fn endless_loop() {
    everywhere("endless loop", &Program::new("while True:\n    pass", ""), |setting, outcome| {
        assert_eq!(outcome.verdict, Verdict::TimeoutOrRecursion, "{:?}: {outcome:?}", setting.kind);
    });
}

#[test]
fn endless_sleep() {
    let program = Program::new("import time\ntime.sleep(1000)", "").time(Duration::from_secs(1));
    everywhere("endless sleep", &program, |setting, outcome| {
        assert_eq!(outcome.end, End::WallTime, "{:?}: {outcome:?}", setting.kind);
    });
}

#[test]
fn endless_loop_in_the_tests() {
    let program = Program::new("def f():\n    while True: pass", "f()").time(Duration::from_secs(1));
    everywhere("endless loop when called", &program, |setting, outcome| {
        assert_eq!(outcome.verdict, Verdict::TimeoutOrRecursion, "{:?}: {outcome:?}", setting.kind);
        assert_eq!(outcome.stage, lopper_sandbox::Stage::Tests);
    });
}

#[test]
fn endless_output() {
    for stream in ["stdout", "stderr"] {
        let source = format!("import sys\nwhile True:\n    sys.{stream}.write('x' * 1000)\n");
        everywhere(&format!("endless output ({stream})"), &Program::new(source, ""), |setting, outcome| {
            assert_eq!(outcome.end, End::OutputLimit, "{:?}: {outcome:?}", setting.kind);
            let output = if stream == "stdout" { &outcome.stdout } else { &outcome.stderr };
            assert_eq!(output.text.len(), 4 << 10);
            assert!(output.cut);
            // The limit, what one read adds, and what was in the pipe when it was stopped.
            assert!(output.bytes < (1 << 20) + (256 << 10), "{}", output.bytes);
        });
    }
}

#[test]
fn long_line() {
    everywhere("a line of a million characters", &Program::new("print('x' * 10 ** 6)", ""), |_, outcome| {
        assert_eq!(outcome.end, End::Completed, "{outcome:?}");
        assert_eq!(outcome.stdout.bytes, 1_000_001);
        assert_eq!(outcome.stdout.text.len(), 4 << 10);
    });
}

#[test]
fn output_that_is_no_text() {
    let source = "import os\nos.write(1, b'\\xff\\xfe\\x00 text \\xc3')\nos.write(2, bytes(range(256)))\n";
    everywhere("output that is not UTF-8", &Program::new(source, ""), |_, outcome| {
        assert_eq!(outcome.end, End::Completed, "{outcome:?}");
        assert_eq!(outcome.stdout.text, "\u{fffd}\u{fffd}\0 text \u{fffd}");
        assert_eq!(outcome.stderr.bytes, 256);
    });
}

#[test]
fn deep_recursion() {
    everywhere("deep recursion", &Program::new("def f(n):\n    return f(n + 1)\nf(0)", ""), |_, outcome| {
        assert_eq!(outcome.verdict, Verdict::TimeoutOrRecursion, "{outcome:?}");
    });
}

#[test]
fn recursion_without_a_limit() {
    let source =
        "import sys\nsys.setrecursionlimit(10 ** 9)\nclass A:\n    def __repr__(self): return repr(self)\nrepr(A())";
    everywhere("recursion without a limit", &Program::new(source, ""), |setting, outcome| {
        let contained = match &outcome.end {
            End::Killed(signal) => *signal == 11,
            End::Raised(e) => matches!(e.class, ExceptionClass::Recursion | ExceptionClass::Memory),
            End::CpuTime | End::WallTime => true,
            _ => false,
        };
        assert!(contained, "{:?}: {outcome:?}", setting.kind);
    });
}

#[test]
fn crashing_the_interpreter() {
    let source = "import ctypes\nctypes.string_at(0)";
    everywhere("crashing the interpreter", &Program::new(source, ""), |_, outcome| {
        assert_eq!(outcome.end, End::Killed(11), "{outcome:?}");
    });
}

#[test]
fn open_files() {
    let program = attempts(
        r#"
held = []

def hold():
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))

seen["files without end"] = attempt(hold)
seen["open"] = len(held)
for fd in held:
    os.close(fd)

def raise_limit():
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))

seen["raising the limit"] = attempt(raise_limit)
"#,
    );
    everywhere("too many open files", &program, nothing_done);
}
