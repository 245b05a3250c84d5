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

/// Calls that are allowed with any arguments, on every architecture.
const PLAIN: &[i64] = &[
    // Reading and writing open files.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    libc::SYS_fadvise64,
    // Files by name; mount namespace and Landlock restrict which.
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_getcwd,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // Threads.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_getcpu,
    // Time.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_times,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_delete,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    // Waiting.
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // The process's own signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Information about the process.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getrusage,
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
    libc::SYS_getpriority,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getrandom,
    // Sockets connected within the process.
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    // Starts the interpreter. Nothing else can be executed.
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Older variants of some of them, on x86-64 only.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_getdents,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_chmod,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_time,
    libc::SYS_getpgrp,
    libc::SYS_arch_prctl,
];
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
    if allow_processes && alone {
        for call in [libc::SYS_kill, libc::SYS_tgkill] {
            rules.insert(call, Vec::new());
        }
    } else {
        for call in [libc::SYS_kill, libc::SYS_tgkill] {
            rules.insert(call, vec![when(&[(0, Op::Eq, own)])?]);
        }
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
