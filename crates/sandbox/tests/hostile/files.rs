//! Reading and writing what is not the program's.

use std::fs;

use lopper_sandbox::{End, Mechanism};

use crate::{attempts, everywhere, nothing_done, summary, with};

#[test]
fn reading_outside() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "the secret").unwrap();
    // Readable to everybody on this machine, so that nothing but the sandbox is in the way.
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let home = std::env::var("HOME").ok().filter(|home| home != "/tmp").unwrap_or("/root".into());
    let program = attempts(&format!(
        r#"
def read(path):
    with open(path, "rb") as file:
        return file.read(40)

seen["/etc/passwd"] = attempt(read, "/etc/passwd")
seen["a readable file elsewhere"] = attempt(read, {secret:?})
seen["home directory"] = attempt(os.listdir, {home:?})
seen["/"] = "hidden" if not os.path.exists("/etc/passwd") else attempt(os.listdir, "/")
seen["/dev/mem"] = attempt(read, "/dev/mem")
seen["/sys"] = attempt(os.listdir, "/sys")
"#
    ));
    everywhere("reading outside", &program, nothing_done);
}

#[test]
fn reading_the_environment() {
    // Cargo sets this for tests, so it is in the environment of the process that runs the sandbox.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let program = attempts(
        r#"
def read(path):
    with open(path, "rb") as file:
        return file.read(4000)

seen["/proc/self/environ"] = attempt(read, "/proc/self/environ")
seen["/proc/1/environ"] = attempt(read, "/proc/1/environ")
seen["the parent's"] = attempt(read, f"/proc/{os.getppid()}/environ")
seen["own variables"] = " ".join(sorted(os.environ))
"#,
    );
    everywhere("reading the parent's environment", &program, |setting, outcome| {
        nothing_done(setting, outcome);
        assert!(!summary(outcome).contains("CARGO"), "{}", summary(outcome));
    });
}

#[test]
fn writing_outside() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let made = dir.path().join("made");
    let kept = dir.path().join("kept");
    fs::write(&kept, "as it was").unwrap();
    fs::set_permissions(&kept, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let program = attempts(&format!(
        r#"
import json

def write(path):
    with open(path, "w") as file:
        file.write("made by a hostile program")

seen["a writable directory elsewhere"] = attempt(write, {made:?})
seen["a writable file elsewhere"] = attempt(write, {kept:?})
seen["removing it"] = attempt(os.remove, {kept:?})
seen["/"] = attempt(write, "/made")
seen["/usr/lib"] = attempt(write, "/usr/lib/made")
seen["Python's library"] = attempt(write, json.__file__)
seen["/dev/shm"] = attempt(write, "/dev/shm/made")
seen["/etc"] = attempt(os.mkdir, "/etc/made")
"#
    ));
    everywhere("writing outside", &program, |setting, outcome| {
        nothing_done(setting, outcome);
        assert!(!made.exists());
        assert_eq!(fs::read_to_string(&kept).unwrap(), "as it was");
    });
}

#[test]
fn links() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "the secret").unwrap();
    let program = attempts(&format!(
        r#"
os.chdir(os.environ["TMPDIR"])

def through(target):
    os.symlink(target, "link")
    try:
        with open("link") as file:
            return file.read(40)
    finally:
        os.remove("link")

def write_through(target):
    os.symlink(target, "link")
    try:
        with open("link", "w") as file:
            file.write("made")
    finally:
        os.remove("link")

seen["symbolic link to /etc/passwd"] = attempt(through, "/etc/passwd")
seen["upwards"] = attempt(through, "../" * 20 + "etc/passwd")
seen["to a file elsewhere"] = attempt(through, {secret:?})
seen["writing through a link"] = attempt(write_through, {secret:?})
seen["hard link"] = attempt(os.link, {secret:?}, "hard")
seen["moving in"] = attempt(os.rename, {secret:?}, "moved")
seen["chdir upwards"] = attempt(lambda: (os.chdir("../" * 20), open("etc/passwd").read(10))[1])
"#
    ));
    everywhere("links and ways up", &program, |setting, outcome| {
        nothing_done(setting, outcome);
        assert_eq!(fs::read_to_string(&secret).unwrap(), "the secret");
    });
}

#[test]
fn huge_file() {
    let program = attempts(
        r#"
import tempfile
written = 0

def fill():
    global written
    with open(os.path.join(os.environ["TMPDIR"], "huge"), "wb", buffering=0) as file:
        while True:
            written += file.write(b"x" * (1 << 20))

seen["a file without end"] = attempt(fill)
seen["MiB"] = written >> 20
seen["sparse"] = attempt(lambda: os.truncate(os.path.join(os.environ["TMPDIR"], "huge"), 1 << 40))
"#,
    );
    everywhere("huge file", &program, |setting, outcome| {
        nothing_done(setting, outcome);
        assert!(summary(outcome).contains("MiB: 8") || summary(outcome).contains("MiB: 7"), "{}", summary(outcome));
    });
}

#[test]
fn filling_the_disk() {
    let program = attempts(
        r#"
def fill():
    for number in range(100):
        with open(os.path.join(os.environ["TMPDIR"], f"part{number}"), "wb", buffering=0) as file:
            file.write(b"x" * (1 << 20))
        seen["MiB"] = number + 1

def many():
    for number in range(20000):
        open(os.path.join(os.environ["TMPDIR"], f"empty{number}"), "wb").close()

seen["many files of 1 MiB"] = attempt(fill)
for number in range(100):
    attempt(os.remove, os.path.join(os.environ["TMPDIR"], f"part{number}"))
seen["very many empty files"] = attempt(many)
"#,
    );
    // Without a file tree of its own the sum is not limited; see `Sandbox::gaps`.
    with(Mechanism::MountNamespace, "filling the disk", &program, |setting, outcome| {
        nothing_done(setting, outcome);
        assert!(summary(outcome).contains("ENOSPC"), "{}", summary(outcome));
    });
}

#[test]
fn nothing_written_is_left_for_the_next() {
    let write = "import os\nopen(os.path.join(os.environ['TMPDIR'], 'note'), 'w').close()";
    let look = "import os\nassert not os.path.exists(os.path.join(os.environ['TMPDIR'], 'note'))";
    everywhere("a note for the next program", &lopper_sandbox::Program::new(write, ""), |setting, outcome| {
        assert_eq!(outcome.end, End::Completed);
        let next = crate::common::run(&setting.sandbox, look, "");
        assert_eq!(next.end, End::Completed, "{next:?}");
    });
}
