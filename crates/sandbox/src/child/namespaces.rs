//! Namespaces, entered one by one, so that each one that the machine refuses is reported and the others are used.

use std::fs;

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, getegid, geteuid};

use super::{Helper, Stop};
use crate::protection::Mechanism;

/// The ids of `nobody` and `nogroup`: the program's inside the sandbox and, if Lopper runs as root, outside.
pub(crate) const NOBODY: u32 = 65534;

/// Enters the job's namespaces. Returns whether the process has the rights of root outside any user namespace; in that
/// case only the program itself enters one, later.
pub(super) fn enter(helper: &mut Helper) -> Result<bool, Stop> {
    let privileged = geteuid().is_root() && has_admin();
    if !privileged {
        helper.apply(Mechanism::UserNamespace, |_| own_users())?;
    }
    let each = [
        (Mechanism::NetworkNamespace, CloneFlags::CLONE_NEWNET),
        (Mechanism::IpcNamespace, CloneFlags::CLONE_NEWIPC),
        (Mechanism::PidNamespace, CloneFlags::CLONE_NEWPID),
    ];
    for (mechanism, flag) in each {
        helper.apply(mechanism, |_| plain(flag))?;
    }
    helper.apply(Mechanism::UtsNamespace, |_| {
        plain(CloneFlags::CLONE_NEWUTS)?;
        nix::unistd::sethostname("sandbox").context("the host name cannot be set")?;
        Ok(String::new())
    })?;
    Ok(privileged)
}

fn plain(flag: CloneFlags) -> Result<String> {
    unshare(flag)?;
    Ok(String::new())
}

/// Whether the process can create namespaces without a user namespace.
fn has_admin() -> bool {
    caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_ADMIN).unwrap_or(false)
}

/// A user namespace in which the caller is `nobody`, with all rights until they are dropped.
fn own_users() -> Result<String> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| match e {
        Errno::ENOSPC => anyhow!("the system's limit on user namespaces is reached, or zero"),
        e => e.into(),
    })?;
    map("/proc/self", uid, gid)?;
    // Some systems allow the namespace but remove the rights in it.
    if !has_admin() {
        bail!("the system grants no rights in it");
    }
    Ok(String::new())
}

/// Maps `nobody` of this process's user namespace to a user outside.
pub(super) fn map(proc: &str, uid: Uid, gid: Gid) -> Result<()> {
    let write = |name: &str, text: String| {
        let path = format!("{proc}/{name}");
        fs::write(&path, text).with_context(|| path.clone())
    };
    write("setgroups", "deny".into())?;
    write("uid_map", format!("{NOBODY} {uid} 1"))?;
    write("gid_map", format!("{NOBODY} {gid} 1"))
}
