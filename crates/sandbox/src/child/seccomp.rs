//! The list of permitted system calls. What is not on it fails with `EPERM`, as if a right were
//! missing, so a program that tries gets an exception and the run goes on.
//!
//! A list of what is allowed rather than of what is forbidden: the kernel gets new calls every
//! year. On it is what CPython, its standard library and numpy use when they compute, read, write
//! in `/tmp`, wait, and start threads. Deliberately not on it: sockets (but pairs within the
//! process, which asyncio needs), new processes (unless the policy allows them), `ptrace` and
//! `process_vm_*`, mounts, `chroot` and namespaces, keys, BPF, `perf_event_open`, `io_uring` (whose
//! operations a filter cannot see), `userfaultfd`, modules, clocks, System V IPC, `memfd_create`
//! (files that no limit counts), handles of files, and signals to other processes.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::job::Job;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls that are permitted whatever their arguments, on every architecture.
const PLAIN: &[i64] = &[
    // Reading and writing what is open.
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
    // Files by name; which ones is for the mount namespace and Landlock to say.
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
    // Signals of the process's own.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Who and what one is.
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
    // Sockets that are already connected within the process.
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    // How the interpreter itself is started. There is nothing else to execute in the view.
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The older names of some of them, which only x86-64 has.
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
/// Other architectures have none of them (64-bit ARM keeps `renameat`).
#[cfg(target_arch = "aarch64")]
const OLDER: &[i64] = &[libc::SYS_renameat];
/// Other architectures have none of them.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OLDER: &[i64] = &[];

/// Flags of `clone` that make a namespace.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// Installs the filter. `alone`: whether other processes cannot be seen anyway.
pub(super) fn restrict(job: &Job, alone: bool) -> Result<String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| anyhow!("{e}"))?;
    // `clone3` hides its flags behind a pointer. Told that it does not exist, the C library falls
    // back to `clone`, whose flags can be seen. Of two filters the stricter answer counts, so the
    // list itself lets it through. This one comes first: the list forbids installing another.
    let absent = Rules::from([(libc::SYS_clone3, Vec::new())]);
    install(absent, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), arch)?;
    let mut permitted = permitted(job.allow_processes, alone)?;
    permitted.insert(libc::SYS_clone3, Vec::new());
    install(permitted, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, arch)?;
    Ok(String::new())
}

fn install(rules: Rules, otherwise: SeccompAction, matched: SeccompAction, arch: TargetArch) -> Result<()> {
    let filter = SeccompFilter::new(rules, otherwise, matched, arch).map_err(|e| anyhow!("{e}"))?;
    let program: BpfProgram = filter.try_into().map_err(|e| anyhow!("{e}"))?;
    seccompiler::apply_filter(&program).map_err(|e| anyhow!("{e}"))
}

fn permitted(allow_processes: bool, alone: bool) -> Result<Rules> {
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
    // Limits: its own, which it can only lower.
    rules.insert(libc::SYS_prlimit64, vec![when(&[(0, Op::Eq, 0)])?, when(&[(0, Op::Eq, own)])?]);
    let mut names = Vec::new();
    for option in [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA] {
        names.push(when(&[(0, Op::Eq, option as u64)])?);
    }
    rules.insert(libc::SYS_prctl, names);
    // Asking whether something is a terminal, and flags of descriptors; no typing into terminals.
    let mut ioctls = Vec::new();
    for request in [libc::TCGETS, libc::TIOCGWINSZ, libc::FIONREAD, libc::FIONBIO, libc::FIOCLEX, libc::FIONCLEX] {
        // The type of these constants is another one with musl.
        #[allow(clippy::unnecessary_cast)]
        ioctls.push(when(&[(1, Op::Eq, request as u64)])?);
    }
    rules.insert(libc::SYS_ioctl, ioctls);
    // A pair of sockets connected with each other, and sending without naming an address.
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
