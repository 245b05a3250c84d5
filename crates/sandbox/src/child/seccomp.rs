//! The list of allowed system calls. Any other call fails with `EPERM`, so that a program gets an exception and
//! continues.
//!
//! A list of allowed rather than forbidden calls, because the kernel gets new ones every year. It has what CPython, its
//! standard library and numpy use to compute, read, write in `/tmp`, wait, and start threads. Deliberately not allowed:
//! sockets (except pairs within the process, which asyncio needs), new processes (unless the policy allows them),
//! `ptrace` and `process_vm_*`, mounts, `chroot` and namespaces, keys, BPF, `perf_event_open`, `io_uring` (whose
//! operations a filter cannot see), `userfaultfd`, modules, clocks, System V IPC, `memfd_create` (files without a
//! limit), file handles, and signals to other processes.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::job::Job;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The numbers of calls.
macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// Calls that are allowed with any arguments, on every architecture.
const PLAIN: &[i64] = calls! {
    // Reading and writing open files.
    SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev SYS_lseek SYS_close
    SYS_close_range SYS_dup SYS_dup3 SYS_pipe2 SYS_fcntl SYS_flock SYS_fsync SYS_fdatasync SYS_sendfile
    SYS_copy_file_range SYS_fadvise64
    // Files by name; mount namespace and Landlock restrict which.
    SYS_openat SYS_newfstatat SYS_fstat SYS_statx SYS_statfs SYS_fstatfs SYS_faccessat SYS_faccessat2 SYS_getdents64
    SYS_readlinkat SYS_mkdirat SYS_unlinkat SYS_renameat2 SYS_linkat SYS_symlinkat SYS_truncate SYS_ftruncate
    SYS_fallocate SYS_fchmod SYS_fchmodat SYS_utimensat SYS_umask SYS_chdir SYS_fchdir SYS_getcwd SYS_getxattr
    SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr
    // Memory.
    SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_madvise SYS_mincore SYS_msync SYS_brk SYS_membarrier
    // Threads.
    SYS_futex SYS_set_robust_list SYS_set_tid_address SYS_rseq SYS_gettid SYS_sched_yield SYS_sched_getaffinity
    SYS_sched_getparam SYS_sched_getscheduler SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_getcpu
    // Time.
    SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday SYS_getitimer SYS_setitimer
    SYS_times SYS_timer_create SYS_timer_settime SYS_timer_gettime SYS_timer_delete SYS_timerfd_create
    SYS_timerfd_settime SYS_timerfd_gettime
    // Waiting.
    SYS_ppoll SYS_pselect6 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_eventfd2 SYS_wait4 SYS_waitid
    // The process's own signals.
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigpending SYS_rt_sigsuspend SYS_rt_sigtimedwait
    SYS_sigaltstack SYS_restart_syscall
    // Information about the process.
    SYS_getpid SYS_getppid SYS_getpgid SYS_getsid SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getgroups
    SYS_getresuid SYS_getresgid SYS_getrusage SYS_getrlimit SYS_setrlimit SYS_getpriority SYS_sysinfo SYS_uname
    SYS_getrandom
    // Sockets connected within the process.
    SYS_recvfrom SYS_shutdown SYS_getsockopt SYS_getsockname SYS_getpeername
    // Starts the interpreter. Nothing else can be executed.
    SYS_execve SYS_exit SYS_exit_group
};

/// Older variants of some of them, on x86-64 only.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = calls! {
    SYS_open SYS_creat SYS_stat SYS_lstat SYS_access SYS_getdents SYS_readlink SYS_mkdir SYS_rmdir SYS_unlink
    SYS_rename SYS_renameat SYS_link SYS_symlink SYS_chmod SYS_utime SYS_utimes SYS_futimesat SYS_dup2 SYS_pipe
    SYS_poll SYS_select SYS_epoll_create SYS_epoll_wait SYS_eventfd SYS_alarm SYS_pause SYS_time SYS_getpgrp
    SYS_arch_prctl
};
/// 64-bit ARM has only `renameat` of them.
#[cfg(target_arch = "aarch64")]
const OLDER: &[i64] = &[libc::SYS_renameat];
/// Other architectures have none of them.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OLDER: &[i64] = &[];

/// Flags of `clone` that create a namespace.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// Installs the filter. `alone`: whether the process namespace hides other processes.
pub(super) fn restrict(job: &Job, alone: bool) -> Result<String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| anyhow!("{e}"))?;
    // `clone3` has its flags behind a pointer. If it does not exist, the C library uses `clone`, whose flags a filter
    // can see. Of two filters the stricter result counts, so the list itself allows it. This filter is installed first,
    // because the list forbids installing another.
    let absent = Rules::from([(libc::SYS_clone3, Vec::new())]);
    install(absent, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), arch)?;
    let mut allowed = allowed(job.allow_processes, alone)?;
    allowed.insert(libc::SYS_clone3, Vec::new());
    install(allowed, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, arch)?;
    Ok(String::new())
}

fn install(rules: Rules, otherwise: SeccompAction, matched: SeccompAction, arch: TargetArch) -> Result<()> {
    let filter = SeccompFilter::new(rules, otherwise, matched, arch).map_err(|e| anyhow!("{e}"))?;
    let program: BpfProgram = filter.try_into().map_err(|e| anyhow!("{e}"))?;
    seccompiler::apply_filter(&program).map_err(|e| anyhow!("{e}"))
}

fn allowed(allow_processes: bool, alone: bool) -> Result<Rules> {
    let mut rules: Rules = PLAIN.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    let own = u64::from(std::process::id());

    let threads = libc::CLONE_THREAD as u64;
    if allow_processes {
        rules.insert(libc::SYS_clone, vec![when(&[(0, Op::MaskedEq(NAMESPACES), 0)])?]);
        for call in [libc::SYS_setsid, libc::SYS_setpgid] {
            rules.insert(call, Vec::new());
        }
        #[cfg(target_arch = "x86_64")]
        for call in [libc::SYS_fork, libc::SYS_vfork] {
            rules.insert(call, Vec::new());
        }
    } else {
        rules.insert(libc::SYS_clone, vec![when(&[(0, Op::MaskedEq(NAMESPACES | threads), threads)])?]);
    }
    for call in [libc::SYS_kill, libc::SYS_tgkill] {
        let anybody = allow_processes && alone;
        rules.insert(call, if anybody { Vec::new() } else { vec![when(&[(0, Op::Eq, own)])?] });
    }
    // Its own limits, which it can only lower.
    rules.insert(libc::SYS_prlimit64, vec![when(&[(0, Op::Eq, 0)])?, when(&[(0, Op::Eq, own)])?]);
    let mut names = Vec::new();
    for option in [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA] {
        names.push(when(&[(0, Op::Eq, option as u64)])?);
    }
    rules.insert(libc::SYS_prctl, names);
    // Queries about terminals, and flags of descriptors; no input into terminals.
    let mut ioctls = Vec::new();
    for request in [libc::TCGETS, libc::TIOCGWINSZ, libc::FIONREAD, libc::FIONBIO, libc::FIOCLEX, libc::FIONCLEX] {
        // These constants have another type with musl.
        #[allow(clippy::unnecessary_cast)]
        ioctls.push(when(&[(1, Op::Eq, request as u64)])?);
    }
    rules.insert(libc::SYS_ioctl, ioctls);
    // Pairs of connected sockets, and sending without an address.
    rules.insert(libc::SYS_socketpair, vec![when(&[(0, Op::Eq, libc::AF_UNIX as u64)])?]);
    let nowhere = SeccompCondition::new(4, Len::Qword, Op::Eq, 0).map_err(|e| anyhow!("{e}"))?;
    rules.insert(libc::SYS_sendto, vec![SeccompRule::new(vec![nowhere]).map_err(|e| anyhow!("{e}"))?]);
    Ok(rules)
}

/// A rule over 32-bit arguments.
fn when(conditions: &[(u8, Op, u64)]) -> Result<SeccompRule> {
    let conditions: Result<Vec<_>, _> = conditions
        .iter()
        .map(|(index, op, value)| SeccompCondition::new(*index, Len::Dword, op.clone(), *value))
        .collect();
    SeccompRule::new(conditions.map_err(|e| anyhow!("{e}"))?).map_err(|e| anyhow!("{e}"))
}
