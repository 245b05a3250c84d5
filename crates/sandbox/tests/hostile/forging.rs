//! Claiming to have passed. In every case the tests say `assert False`, or would if they were
//! reached; none may be recorded as passed.

use lopper_sandbox::{End, ExceptionClass, Outcome, Program, Verdict};

use crate::{Setting, everywhere};

const FAILING: &str = "attack()\nassert False, 'the test failed'";

fn not_passed(setting: &Setting, outcome: &Outcome) {
    assert_ne!(outcome.verdict, Verdict::Passed, "{:?}: {outcome:?}", setting.kind);
}

fn assertion(setting: &Setting, outcome: &Outcome) {
    assert_eq!(outcome.verdict, Verdict::AssertionError, "{:?}: {outcome:?}", setting.kind);
}

/// Code that looks for a key in whatever can be reached from a frame, and would use it.
const SEARCH: &str = r#"
import re, os, sys

def search(frame=None):
    """Every bytes object that looks like a key, and every function, in all frames below."""
    frame = frame or sys._getframe()
    keys, functions, todo, known = set(), [], [], set()
    while frame is not None:
        todo += [frame.f_locals, frame.f_globals]
        frame = frame.f_back
    while todo and len(known) < 20000:
        thing = todo.pop()
        if id(thing) in known:
            continue
        known.add(id(thing))
        if isinstance(thing, (bytes, bytearray)):
            keys.update(re.findall(rb"[0-9a-f]{32}", bytes(thing)))
        elif isinstance(thing, str):
            keys.update(k.encode() for k in re.findall(r"[0-9a-f]{32}", thing))
        elif isinstance(thing, dict):
            todo += list(thing.values())
        elif isinstance(thing, (list, tuple, set, frozenset)):
            todo += list(thing)
        elif hasattr(thing, "__closure__") and getattr(thing, "__code__", None):
            functions.append(thing)
            todo += [cell.cell_contents for cell in thing.__closure__ or () if cell != cell or True]
            todo += list(thing.__defaults__ or ())
    return keys, functions

def claim(keys):
    for key in keys:
        os.write(4, key + b"passed  0000000000")
"#;

fn search_and(rest: &str) -> String {
    format!("{SEARCH}\n{rest}")
}

#[test]
fn leaving_early() {
    for (name, source) in [
        ("sys.exit(0)", "import sys\ndef attack(): sys.exit(0)"),
        ("raise SystemExit", "def attack(): raise SystemExit"),
        ("exit while loading", "import sys\nsys.exit(0)"),
        ("raise KeyboardInterrupt", "def attack(): raise KeyboardInterrupt"),
    ] {
        everywhere(name, &Program::new(source, FAILING), |setting, outcome| {
            not_passed(setting, outcome);
            assert!(matches!(outcome.end, End::Raised(_)), "{outcome:?}");
        });
    }
    for (name, source) in [
        ("os._exit(0)", "import os\ndef attack(): os._exit(0)"),
        ("os._exit(0) while loading", "import os\nos._exit(0)"),
    ] {
        everywhere(name, &Program::new(source, FAILING), |_, outcome| assert_eq!(outcome.end, End::Exited(0)));
    }
    let source = "import os, signal\ndef attack(): os.kill(os.getpid(), signal.SIGKILL)";
    everywhere("killing itself", &Program::new(source, FAILING), |_, outcome| assert_eq!(outcome.end, End::Killed(9)));
}

#[test]
fn saying_so() {
    let source =
        "import os\ndef attack():\n    print('passed')\n    os.write(4, b'passed  0000000000')\n    os.write(2, b'OK')";
    everywhere("printing 'passed'", &Program::new(source, FAILING), assertion);
}

#[test]
fn changed_builtins() {
    let source = r#"
import builtins
builtins.AssertionError = type("AssertionError", (Exception,), {})
builtins.all = builtins.any = builtins.isinstance = lambda *a: True
builtins.len = lambda x: 3
builtins.compile = builtins.exec = builtins.eval = lambda *a, **k: None
builtins.__build_class__ = None
def attack(): pass
"#;
    let tests = "attack()\nassert all([False]) or len([1]) == 3";
    everywhere("changed builtins", &Program::new(source, tests), assertion);
    let source = r#"
import builtins
class Fooled(dict):
    pass
fake = dict(vars(builtins))
fake["all"] = lambda x: True
__builtins__ = fake
def attack(): pass
"#;
    everywhere("a module of builtins of its own", &Program::new(source, "attack()\nassert all([False])"), assertion);
}

#[test]
fn hijacking_the_report() {
    let close = "import os\ndef attack(): os.close(4)";
    everywhere("closing the report", &Program::new(close, FAILING), |_, outcome| {
        assert_eq!(outcome.end, End::Exited(1), "{outcome:?}");
    });
    let all = "import os\ndef attack(): os.closerange(0, 1024)";
    everywhere("closing everything", &Program::new(all, FAILING), |_, outcome| {
        // Python's status where standard error cannot be written either.
        assert_eq!(outcome.end, End::Exited(120), "{outcome:?}");
    });
    let flood = "import os\ndef attack():\n    while True: os.write(4, b'passed  0000000000' * 1000)";
    everywhere("flooding the report", &Program::new(flood, FAILING), |_, outcome| {
        assert_eq!(outcome.end, End::BrokenReport, "{outcome:?}");
    });
    let garbage = "import os\ndef attack(): os.write(4, bytes(range(256)) * 16)";
    everywhere("garbage in the report", &Program::new(garbage, FAILING), assertion);
}

#[test]
fn listening_in() {
    // Leads the report through a pipe of its own, learns the key of "loaded" that way, and passes
    // everything on, with "passed" under that key in front.
    let source = r#"
import os, threading
outside = os.dup(4)
inner, end = os.pipe()
os.dup2(end, 4)

def relay():
    while True:
        data = os.read(inner, 4096)
        os.write(outside, data[:32] + b"passed  0000000000")
        os.write(outside, data)

threading.Thread(target=relay, daemon=True).start()
def attack(): pass
"#;
    everywhere("listening in on the report", &Program::new(source, FAILING), not_passed);
}

#[test]
fn searching_for_the_key() {
    let source = search_and(
        "def attack():\n    keys, functions = search()\n    claim(keys)\n    print(len(keys), ','.join(f.__name__ for f in functions))",
    );
    everywhere("searching the frames", &Program::new(source, FAILING), |setting, outcome| {
        assertion(setting, outcome);
        // The search reaches down to the harness's first function, so it was a search; and no key.
        let (keys, functions) = outcome.stdout.text.trim().split_once(' ').unwrap();
        assert_eq!(keys, "0", "{:?}", setting.kind);
        assert!(functions.contains("prepare"), "{functions}");
        for hidden in ["judge", "settle", "describe", "say", "run", "hook"] {
            assert!(!functions.split(',').any(|f| f == hidden), "{functions}");
        }
    });
    let source = search_and("keys, functions = search()\nclaim(keys)\ndef attack(): pass");
    everywhere("searching the frames while loading", &Program::new(source, FAILING), assertion);
}

#[test]
fn changing_the_harness() {
    // Every function that can be reached gets other code.
    let change = "def nothing(*a, **k): return (True, b'0000000000')\ndef change():\n    for function in search()[1]:\n        \
                  if function.__code__.co_filename == '<string>':\n            function.__code__ = nothing.__code__\n";
    for (name, rest) in [
        ("changing the harness's functions while loading", "change()\ndef attack(): pass"),
        ("changing the harness's functions", "def attack(): change()"),
    ] {
        everywhere(name, &Program::new(search_and(&format!("{change}{rest}")), FAILING), assertion);
    }
}

#[test]
fn searching_with_the_collector() {
    for call in ["gc.get_objects()", "gc.get_referrers(search)", "gc.get_referents(search)"] {
        let source = search_and(&format!("import gc\ndef attack():\n    {call}"));
        everywhere(call, &Program::new(source, FAILING), |_, outcome| {
            assert!(matches!(&outcome.end, End::Raised(e) if e.kind == "RuntimeError"), "{outcome:?}");
        });
    }
}

#[test]
fn looking_down_from_above() {
    // Ways in which the program's code could come to run while a function of the harness that has
    // the keys is at work.
    let waits = [
        (
            "tracing",
            "def attack():\n    def trace(frame, event, argument):\n        claim(search(frame)[0])\n        return trace\n    sys.settrace(trace)",
        ),
        ("profiling", "def attack():\n    sys.setprofile(lambda frame, event, argument: claim(search(frame)[0]))"),
        (
            "a timer's signal",
            "import signal\ndef attack():\n    signal.signal(signal.SIGALRM, lambda n, frame: claim(search(frame)[0]))\n    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)",
        ),
        (
            "a destructor",
            "class Late:\n    def __del__(self): claim(search(sys._getframe())[0])\nclass Failure(AssertionError):\n    pass\ndef attack():\n    failure = Failure('x')\n    failure.late = Late()\n    failure.loop = failure\n    raise failure",
        ),
        (
            "a cycle for the collector",
            "import gc\nclass Late:\n    def __del__(self): claim(search(sys._getframe())[0])\ngc.set_threshold(1)\ngc.callbacks.append(lambda *a: claim(search(sys._getframe())[0]))\ndef attack():\n    for _ in range(100):\n        late = Late()\n        late.loop = late",
        ),
        (
            "another thread",
            "import threading\ndef look():\n    while True:\n        try:\n            for frame in sys._current_frames().values(): claim(search(frame)[0])\n        except RuntimeError:\n            return\ndef attack(): threading.Thread(target=look, daemon=True).start()",
        ),
        (
            "the output's flush",
            "class Out:\n    def write(self, text): pass\n    def flush(self): claim(search(sys._getframe())[0])\ndef attack(): sys.stdout = sys.stderr = Out()",
        ),
        (
            "the exception's text",
            "class Failure(AssertionError):\n    def __str__(self):\n        claim(search(sys._getframe())[0])\n        return 'x'\ndef attack(): raise Failure",
        ),
        ("an audit hook", "def attack():\n    sys.addaudithook(lambda *a: claim(search(sys._getframe())[0]))"),
        (
            "a changed posix.write",
            "import posix\nwrite = posix.write\ndef attack():\n    posix.write = os.write = lambda fd, data: write(fd, data[:32] + b'passed  0000000000')",
        ),
    ];
    for (name, body) in waits {
        everywhere(&format!("looking on: {name}"), &Program::new(search_and(body), FAILING), not_passed);
    }
}

#[test]
fn reading_the_orders() {
    let source = "import os\ndef attack(): print(os.read(3, 100))";
    everywhere("reading the harness's orders", &Program::new(source, FAILING), |_, outcome| {
        assert!(matches!(&outcome.end, End::Raised(e) if e.kind == "OSError"), "{outcome:?}");
    });
}

#[test]
fn an_exception_that_does_harm() {
    let source = "class Bad(Exception):\n    def __str__(self): raise SystemExit(0)\n    __class__ = property(lambda self: 1 / 0)\ndef attack(): raise Bad";
    everywhere("an exception without a text", &Program::new(source, FAILING), |_, outcome| {
        assert!(matches!(&outcome.end, End::Raised(e) if e.class == ExceptionClass::Other), "{outcome:?}");
    });
}

/// What is not covered, kept in sight: tests can be fooled by what they compare with.
#[test]
fn an_object_that_equals_everything_passes() {
    let source = "class Any:\n    def __eq__(self, other): return True\ndef f(x): return Any()";
    everywhere(
        "NOT COVERED: an object that equals everything",
        &Program::new(source, "assert f(1) == 2"),
        |_, outcome| {
            assert_eq!(outcome.verdict, Verdict::Passed);
        },
    );
}
