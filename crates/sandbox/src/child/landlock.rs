//! Landlock: the same restrictions on files as the mount namespace, from another part of the kernel; where that
//! namespace is refused, as in most containers, the only ones.
//!
//! The access rights are those of ABI version 6, with which this was tested; an older kernel enforces those it knows.

use std::path::Path;

use anyhow::{Result, bail};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};

use crate::job::{Job, PRIVATE};

const VERSION: ABI = ABI::V6;

/// Restricts this process. `own_tree`: whether it is in a file tree of its own.
pub(super) fn restrict(job: &Job, own_tree: bool) -> Result<String> {
    let view = &job.view;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    // Written files cannot be executed, and devices cannot be created.
    let write = AccessFs::from_all(VERSION)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock | AccessFs::IoctlDev);
    let directory = match &job.directory {
        Some(path) if !own_tree => path.as_path(),
        _ => Path::new(PRIVATE),
    };
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(VERSION))?
        .handle_access(AccessNet::from_all(VERSION))?
        .scope(Scope::from_all(VERSION))?
        .create()?
        .add_rules(path_beneath_rules(&view.paths, read))?
        .add_rules(path_beneath_rules(&view.executables, AccessFs::ReadFile | AccessFs::Execute))?
        .add_rules(path_beneath_rules(["/dev/zero", "/dev/urandom"], AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(["/dev/null"], device))?
        .add_rules(path_beneath_rules([directory], write))?
        .restrict_self()?;
    let version = match status.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            kernel_abi.map_or_else(|| effective_abi.to_string(), |v| v.to_string())
        }
        LandlockStatus::NotEnabled => bail!("the kernel has it, but it was not enabled at boot"),
        LandlockStatus::NotImplemented => bail!("the kernel does not have it (before Linux 5.13)"),
    };
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(format!("version {version}")),
        RulesetStatus::PartiallyEnforced => {
            Ok(format!("version {version}, without the access rights of newer kernels"))
        }
        RulesetStatus::NotEnforced => bail!("nothing of it is enforced"),
    }
}
