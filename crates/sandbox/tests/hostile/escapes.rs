//! System calls that have no place in a program, made directly.

use lopper_sandbox::Mechanism;

use crate::{Kind, attempts, everywhere, nothing_done, summary, with};

#[test]
fn direct_system_calls() {
    let program = attempts(
        r#"
import ctypes
libc = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)

NEWUSER, NEWNS, NEWNET = 0x10000000, 0x20000, 0x40000000
seen["mount"] = attempt(call, "mount", b"none", b"/tmp", b"tmpfs", 0, 0)
seen["mount /proc"] = attempt(call, "mount", b"proc", b"/tmp", b"proc", 0, 0)
seen["umount"] = attempt(call, "umount2", b"/tmp", 2)
seen["remount writable"] = attempt(call, "mount", b"none", b"/usr/lib", b"none", 32 | 4096, 0)
seen["chroot"] = attempt(os.chroot, "/tmp")
seen["setuid"] = attempt(os.setuid, 0)
seen["setgroups"] = attempt(os.setgroups, [0])
seen["host name"] = attempt(call, "sethostname", b"x", 1)
seen["clock"] = attempt(call, "settimeofday", ctypes.create_string_buffer(16), 0)
seen["reboot"] = attempt(call, "reboot", 0)
seen["swapoff"] = attempt(call, "swapoff", b"/dev/null")
seen["kernel log"] = attempt(call, "klogctl", 3, ctypes.create_string_buffer(64), 64)
seen["mknod"] = attempt(lambda: os.mknod(os.path.join(os.environ["TMPDIR"], "mem"), 0o20600, os.makedev(1, 1)))
seen["open by handle"] = attempt(call, "open_by_handle_at", -100, ctypes.create_string_buffer(128), 0)
seen["unshare mount"] = attempt(call, "unshare", NEWNS)
seen["unshare network"] = attempt(call, "unshare", NEWNET)
seen["unshare user"] = attempt(call, "unshare", NEWUSER)
"#,
    );
    everywhere("direct system calls", &program, |setting, outcome| {
        assert_eq!(outcome.end, lopper_sandbox::End::Completed, "{:?}: {outcome:?}", setting.kind);
        let text = summary(outcome);
        if setting.kind == Kind::Namespaces {
            // Where nothing forbids the call, a user may make a user namespace, and gains nothing.
            assert!(!text.replace("unshare user: done", "").contains("done"), "{text}");
        } else {
            nothing_done(setting, outcome);
        }
    });
}

#[test]
fn tracing() {
    let own = std::process::id();
    let program = attempts(&format!(
        r#"
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long

def ptrace(request, pid):
    if libc.ptrace(request, pid, None, None) == -1:
        raise OSError(ctypes.get_errno(), "")

def peek(pid):
    local, remote = (ctypes.c_size_t * 2)(), (ctypes.c_size_t * 2)(0x400000, 8)
    local[0], local[1] = ctypes.addressof(ctypes.create_string_buffer(8)), 8
    if libc.process_vm_readv(pid, local, 1, remote, 1, 0) == -1:
        raise OSError(ctypes.get_errno(), "")

seen["attach to its parent"] = attempt(ptrace, 16, os.getppid())
seen["seize process 1"] = attempt(ptrace, 0x4206, 1)
seen["attach to Lopper"] = attempt(ptrace, 16, {own})
seen["reading its parent's memory"] = attempt(peek, os.getppid())
seen["/proc/1/mem"] = attempt(open, "/proc/1/mem", "rb")
"#
    ));
    everywhere("ptrace", &program, nothing_done);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn system_calls_by_number() {
    let program = attempts(
        r#"
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def call(number, *arguments):
    if libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments]) == -1:
        raise OSError(ctypes.get_errno(), "")

for name, number, arguments in [
    ("bpf", 321, (0, 0, 0)), ("perf_event_open", 298, (0, 0, -1, -1, 0)), ("io_uring_setup", 425, (1, 0)),
    ("userfaultfd", 323, (0,)), ("keyctl", 250, (0, -3, 0)), ("add_key", 248, (0, 0, 0, 0, 0)),
    ("kexec_load", 246, (0, 0, 0, 0)), ("init_module", 175, (0, 0, 0)), ("setns", 308, (0, 0)),
    ("clone3", 435, (0, 0)), ("clone with a namespace", 56, (0x10000000 | 17, 0, 0, 0, 0)),
    ("pidfd_open", 434, (1, 0)), ("open_tree", 428, (-100, 0, 0)), ("fsopen", 430, (0, 0)),
    ("socket, 32-bit numbering (x32)", 0x40000000 + 41, (1, 1, 0)), ("memfd_secret", 447, (0,)),
    ("landlock_create_ruleset", 444, (0, 0, 1)), ("process_madvise", 440, (1, 0, 0, 0, 0)),
    ("seccomp", 317, (1, 0, 0)), ("personality", 135, (0x0040000,)), ("swapon", 167, (0, 0)),
]:
    seen[name] = attempt(call, number, *arguments)
"#,
    );
    with(Mechanism::Seccomp, "rarely used system calls", &program, nothing_done);
}
