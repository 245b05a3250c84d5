//! Drops rights: user, capabilities, limits of the process.

use std::fs::File;

use anyhow::{Context, Result};
use caps::CapSet;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::namespaces::{NOBODY, map};
use super::{Helper, Stop};
use crate::job::Job;
use crate::protection::Mechanism;

/// Becomes `nobody`, enters a user namespace unless that is done, and drops every capability. `proc` is the outer
/// `/proc`. Changes the working directory.
pub(super) fn drop(helper: &mut Helper, privileged: bool, proc: Option<File>) -> Result<(), Stop> {
    let wanted = helper.job.mechanisms.contains(&Mechanism::Unprivileged);
    if privileged {
        if wanted && let Err(e) = become_nobody() {
            return Err(helper.fail("nobody", format!("{e:#}")));
        }
        // Created by `nobody`, this namespace has no more rights than that user. Task limits count per user and
        // namespace; without it they would count all programs that run in parallel.
        helper.apply(Mechanism::UserNamespace, |_| {
            let proc = proc.context("there is no /proc")?;
            let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
            // The files written next belong to root while the process is not dumpable.
            prctl::set_dumpable(true)?;
            unshare(CloneFlags::CLONE_NEWUSER)?;
            // There is no `/proc` in the new tree, so use the old one.
            nix::unistd::fchdir(&proc)?;
            map("self", uid, gid)?;
            prctl::set_dumpable(false)?;
            Ok(String::new())
        })?;
    }
    helper.apply(Mechanism::Unprivileged, |_| {
        // Root without the rights for namespaces, as in most containers, is still root; in a container without other
        // users it must remain so, without capabilities.
        let mut note = String::new();
        if !privileged && nix::unistd::geteuid().is_root() && become_nobody().is_err() {
            note.push_str("but as root, because there is no other user");
        }
        for set in [CapSet::Ambient, CapSet::Bounding] {
            // An ordinary user cannot clear the second, and gains nothing from it because of no-new-privileges.
            let _ = caps::clear(None, set);
        }
        for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
            caps::clear(None, set).with_context(|| format!("{set:?}"))?;
        }
        Ok(note)
    })?;
    Ok(())
}

/// Changes the user irrevocably.
fn become_nobody() -> Result<()> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    // Before the user changes, because it needs a capability.
    let _ = caps::clear(None, CapSet::Bounding);
    setgroups(&[]).context("groups")?;
    setresgid(gid, gid, gid).context("group")?;
    setresuid(uid, uid, uid).context("user")?;
    Ok(())
}

/// Sets the limits of the process.
pub(super) fn limit(job: &Job) -> Result<String> {
    let limits = &job.limits;
    let set = |resource, soft, hard| setrlimit(resource, soft, hard).with_context(|| format!("{resource:?}"));
    // SIGXCPU at the limit, SIGKILL a second later.
    set(Resource::RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1)?;
    set(Resource::RLIMIT_AS, limits.memory, limits.memory)?;
    set(Resource::RLIMIT_FSIZE, limits.disk, limits.disk)?;
    set(Resource::RLIMIT_NOFILE, limits.open_files, limits.open_files)?;
    set(Resource::RLIMIT_CORE, 0, 0)?;
    set(Resource::RLIMIT_MEMLOCK, 0, 0)?;
    set(Resource::RLIMIT_MSGQUEUE, 0, 0)?;
    set(Resource::RLIMIT_NICE, 0, 0)?;
    set(Resource::RLIMIT_RTPRIO, 0, 0)?;
    set(Resource::RLIMIT_STACK, 8 << 20, 8 << 20)?;
    let counted_apart = job.mechanisms.contains(&Mechanism::UserNamespace);
    if counted_apart {
        set(Resource::RLIMIT_NPROC, limits.tasks, limits.tasks)?;
    }
    Ok(if counted_apart { String::new() } else { "tasks not counted".into() })
}
