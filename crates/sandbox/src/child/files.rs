//! The file tree of a program: in memory, with the paths that Python needs as read-only bind mounts, a private `/tmp`
//! of bounded size, and three devices. The machine's own tree is unmounted afterwards, so it cannot be reached.
//!
//! As in bubblewrap, the old tree is first moved into a tree in memory, so that any path can be bound, even one below
//! the directory that is mounted over.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};

use crate::job::{Job, PRIVATE};

const NOTHING: Option<&str> = None;

/// The old tree, while the new one is built.
const OLD: &str = "/old";
/// The new tree.
const NEW: &str = "/new";

/// Harmless devices that Python may need.
const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/urandom"];

/// Enters a mount namespace and builds the tree in it.
pub(super) fn enclose(job: &Job) -> Result<String> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Mounts made here must not appear outside.
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).context("/ cannot be made private")?;
    move_old_tree()?;
    in_memory(NEW, "size=1m,nr_inodes=4096,mode=0755")?;
    // Before the readable paths, one of which may be below it.
    let private = new(Path::new(PRIVATE));
    fs::create_dir(&private)?;
    in_memory(&private, &format!("size={},nr_inodes=4096,mode=1777", job.limits.disk))?;
    for path in &job.view.paths {
        bind_read_only(path)?;
    }
    for device in DEVICES {
        bind(Path::new(device))?;
    }
    for (link, target) in &job.view.links {
        let link = new(link);
        fs::create_dir_all(link.parent().unwrap_or(Path::new(NEW))).with_context(|| link.display().to_string())?;
        if link.symlink_metadata().is_err() {
            symlink(target, &link).with_context(|| link.display().to_string())?;
        }
    }
    enter_new_tree()?;
    Ok(String::new())
}

/// A path of the machine, while the tree is built.
fn old(path: &Path) -> PathBuf {
    Path::new(OLD).join(path.strip_prefix("/").unwrap_or(path))
}

/// A path of the new tree, while it is built.
fn new(path: &Path) -> PathBuf {
    Path::new(NEW).join(path.strip_prefix("/").unwrap_or(path))
}

fn move_old_tree() -> Result<()> {
    // Any directory can be mounted over; its contents remain reachable through the old tree.
    let base = ["/tmp", "/var/tmp", "/mnt", "/run"].into_iter().find(|p| Path::new(p).is_dir()).unwrap_or("/tmp");
    in_memory(base, "size=64k,mode=0755")?;
    let base = Path::new(base);
    let (inner_old, inner_new) = (base.join("old"), base.join("new"));
    fs::create_dir(&inner_old)?;
    fs::create_dir(&inner_new)?;
    pivot_root(base, &inner_old).context("the old tree cannot be moved")?;
    chdir("/")?;
    Ok(())
}

/// Makes the new tree the only one.
fn enter_new_tree() -> Result<()> {
    chdir(NEW)?;
    // The old root is stacked on the new one and unmounted.
    pivot_root(".", ".").context("the new tree cannot be entered")?;
    umount2(".", MntFlags::MNT_DETACH).context("the old tree cannot be unmounted")?;
    chdir("/")?;
    // The root itself becomes read-only.
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(NOTHING, "/", NOTHING, flags, NOTHING).context("the new tree cannot be made read-only")?;
    Ok(())
}

fn in_memory(path: impl AsRef<Path>, options: &str) -> Result<()> {
    let path = path.as_ref();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options))
        .with_context(|| format!("tmpfs on {}", path.display()))
}

fn bind_read_only(path: &Path) -> Result<()> {
    let target = bind(path)?;
    seal(&target).with_context(|| format!("{} cannot be made read-only", path.display()))
}

/// Binds a file or directory of the old tree, with all mounts below it.
fn bind(path: &Path) -> Result<PathBuf> {
    let (from, to) = (old(path), new(path));
    let what = || path.display().to_string();
    if from.is_dir() {
        fs::create_dir_all(&to).with_context(what)?;
    } else {
        let parent = to.parent().unwrap_or(Path::new(NEW));
        fs::create_dir_all(parent).with_context(what)?;
        fs::write(&to, "").with_context(what)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o644)).with_context(what)?;
    }
    mount(Some(&from), &to, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)
        .with_context(|| format!("{} cannot be bound", path.display()))?;
    Ok(to)
}

/// Makes a bound tree read-only, with all mounts below it.
fn seal(target: &Path) -> Result<()> {
    let path = CString::new(target.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: a path that ends in a zero byte, and a structure of the given size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    // The call exists since Linux 5.12. The older one changes one mount only and leaves those below it writable, so on
    // an older kernel the namespace is not used.
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("mount_setattr") }
}
