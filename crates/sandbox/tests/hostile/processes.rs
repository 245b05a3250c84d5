//! Too many processes, processes left behind, and those of others.

use lopper_sandbox::{End, Mechanism, Program, Verdict};

use crate::{Kind, attempts, everywhere, named, nothing_done, remains, summary, with};

#[test]
fn fork_bomb() {
    let mark = "sb-forkbomb";
    let source = format!("{}import os\nwhile True:\n    os.fork()\n", named(mark));
    everywhere("fork bomb", &Program::new(source, ""), |setting, outcome| {
        assert_eq!(outcome.verdict, Verdict::Other, "{:?}: {outcome:?}", setting.kind);
        assert!(matches!(&outcome.end, End::Raised(e) if e.kind == "PermissionError" || e.kind == "BlockingIOError"));
        assert!(!remains(mark), "{:?}", setting.kind);
    });
}

#[test]
fn fork_bomb_that_hides_its_errors() {
    let mark = "sb-forkbomb2";
    let source = format!(
        "{}import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n",
        named(mark)
    );
    let program = Program::new(source, "").time(std::time::Duration::from_millis(1500));
    everywhere("fork bomb that goes on", &program, |setting, outcome| {
        assert_eq!(outcome.verdict, Verdict::TimeoutOrRecursion, "{:?}: {outcome:?}", setting.kind);
        assert!(!remains(mark), "{:?}", setting.kind);
    });
}

#[test]
fn thread_bomb() {
    let program = attempts(
        r#"
import threading, time
started = 0

def bomb():
    global started
    while True:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        started += 1

threading.stack_size(64 << 10)
seen["threads without end"] = attempt(bomb)
seen["threads"] = started
"#,
    );
    // Without a user namespace only memory limits the number of threads.
    with(Mechanism::UserNamespace, "thread bomb", &program, |setting, outcome| {
        nothing_done(setting, outcome);
        assert!(summary(outcome).contains("RuntimeError"), "{}", summary(outcome));
        let count: usize = summary(outcome).rsplit(": ").next().unwrap().parse().unwrap();
        assert!((1..=16).contains(&count), "{count}");
    });
}

#[test]
fn some_threads_are_fine() {
    let source = "import threading\ndone = []\nthreads = [threading.Thread(target=done.append, args=(i,)) for i in range(4)]\n\
                  for t in threads: t.start()\nfor t in threads: t.join()\n";
    everywhere("four threads", &Program::new(source, "assert sorted(done) == [0, 1, 2, 3]"), |setting, outcome| {
        assert_eq!(outcome.end, End::Completed, "{:?}", setting.kind);
    });
}

#[test]
fn leaving_processes_behind() {
    let mark = "sb-daemon";
    let source = format!(
        r#"{}
import os, time

def daemon():
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    for fd in range(3):
        os.close(fd)
    time.sleep(60)
    os._exit(0)

for _ in range(3):
    daemon()
time.sleep(0.2)
"#,
        named(mark)
    );
    everywhere("leaving processes behind", &Program::new(source, ""), |setting, outcome| {
        match setting.kind {
            // They are started, and die with the program.
            Kind::Processes | Kind::Namespaces => assert_eq!(outcome.end, End::Completed, "{outcome:?}"),
            _ => assert!(matches!(&outcome.end, End::Raised(e) if e.kind == "PermissionError"), "{outcome:?}"),
        }
        assert!(!remains(mark), "{:?}", setting.kind);
    });
}

#[test]
fn killing_others() {
    let own = std::process::id();
    let program = attempts(&format!(
        r#"
import signal
seen["its parent"] = attempt(os.kill, os.getppid(), signal.SIGKILL)
seen["process 1"] = attempt(os.kill, 1, signal.SIGKILL)
seen["Lopper"] = attempt(os.kill, {own}, signal.SIGKILL)
# Outside a process namespace only asked for, in case a fault of the sandbox would allow it.
seen["everything"] = attempt(os.kill, -1, signal.SIGKILL if os.getpid() < 10 else 0)
seen["its parent's group"] = attempt(os.killpg, os.getpgid(os.getppid()) or 1, signal.SIGKILL)
seen["stopping its parent"] = attempt(os.kill, os.getppid(), signal.SIGSTOP)
"#
    ));
    everywhere("killing the parent", &program, |setting, outcome| {
        assert_eq!(outcome.end, End::Completed, "{:?}: {outcome:?}", setting.kind);
        assert!(!summary(outcome).contains("Lopper: done"), "{}", summary(outcome));
        if matches!(setting.kind, Kind::All | Kind::Container) {
            nothing_done(setting, outcome);
        }
    });
}

#[test]
fn ignoring_signals() {
    let source = r#"
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    pass
"#;
    everywhere("ignoring every signal", &Program::new(source, ""), |setting, outcome| {
        assert_eq!(outcome.verdict, Verdict::TimeoutOrRecursion, "{:?}: {outcome:?}", setting.kind);
    });
}

#[test]
fn executing_a_shell() {
    let program = attempts(
        r##"
import subprocess
seen["execve /bin/sh"] = attempt(os.execv, "/bin/sh", ["sh", "-c", "echo out"])
seen["execve /usr/bin/env"] = attempt(os.execv, "/usr/bin/env", ["env"])
seen["subprocess"] = attempt(subprocess.run, ["/bin/sh", "-c", "echo out"])
seen["os.system"] = "refused" if os.system("echo out") != 0 else "done"
copy = os.path.join(os.environ["TMPDIR"], "program")

def own():
    with open(copy, "wb") as file:
        file.write(b"#!/bin/sh\necho out\n")
    os.chmod(copy, 0o755)
    os.execv(copy, [copy])

seen["a program of its own"] = attempt(own)
"##,
    );
    everywhere("executing a shell", &program, |setting, outcome| {
        nothing_done(setting, outcome);
        assert_eq!(outcome.stdout.text, "", "{:?}", setting.kind);
    });
}

#[test]
fn executing_python_again() {
    let source = "import os, sys\nos.execv(sys.executable, [sys.executable, '-S', '-c', 'print(\"again\")'])";
    everywhere("executing Python again", &Program::new(source, ""), |setting, outcome| {
        // It runs with the same mechanisms, and is no longer the program with the tests.
        assert_eq!(outcome.end, End::Exited(0), "{:?}: {outcome:?}", setting.kind);
    });
}

/// Lopper itself is killed, so it cannot clean up.
#[test]
fn nothing_outlives_lopper() {
    if crate::settings().next().is_none() {
        return;
    }
    let mark = "sb-orphan";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("program.py");
    std::fs::write(&file, format!("{}while True: pass", named(mark))).unwrap();
    let mut lopper = std::process::Command::new(env!("CARGO_BIN_EXE_lopper-sandbox"));
    // If the program's directory is on the disk, a killed Lopper leaves it behind: in this directory.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let lopper = lopper.arg(&file).env("TMPDIR", dir.path());
    let mut lopper = lopper.stdout(std::process::Stdio::null()).spawn().unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !crate::is_there(mark) {
        assert!(std::time::Instant::now() < until && lopper.try_wait().unwrap().is_none(), "it did not start");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    lopper.kill().unwrap();
    lopper.wait().unwrap();
    assert!(!remains(mark));
}
