# The first program in a new sandbox: checks that the active mechanisms work.
import errno
import os


def refused(action, *wanted):
    try:
        action()
    except OSError as error:
        return error.errno in wanted
    return False


def check(active):
    with open(os.path.join(os.environ["TMPDIR"], "written"), "w") as file:
        file.write("something")
    if "MountNamespace" in active:
        assert not os.path.exists("/proc/self"), "the machine's /proc is there"
        assert not os.path.exists("/etc/passwd"), "the machine's /etc is there"
        assert refused(lambda: os.mkdir("/made"), errno.EROFS, errno.EACCES, errno.EPERM), "/ can be written"
    if "Landlock" in active:
        assert refused(lambda: os.listdir("/"), errno.EACCES), "/ can be listed"
    if "Seccomp" in active:
        import _socket
        assert refused(lambda: _socket.socket(), errno.EPERM), "sockets can be made"
        assert refused(lambda: os.kill(1, 0), errno.EPERM), "signals can be sent"
    elif "NetworkNamespace" in active:
        import _socket
        made = _socket.socket()
        assert refused(lambda: made.connect(("127.0.0.1", 9)), errno.ENETUNREACH, errno.EACCES), "there is a network"
    if "PidNamespace" in active:
        assert os.getpid() < 10, "process numbers are the machine's"
    if "Unprivileged" in active:
        written = os.path.join(os.environ["TMPDIR"], "written")
        assert refused(lambda: os.chown(written, 1, 1), errno.EPERM, errno.EINVAL), "the program has rights of root"
    if "UtsNamespace" in active:
        assert os.uname().nodename == "sandbox", "the host name is the machine's"
    if "ResourceLimits" in active:
        import resource
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0), "limits are not set"
