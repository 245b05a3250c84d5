//! The file tree: a small one in memory, into which the paths that Python needs are bound
//! read-only, with a private `/tmp` of bounded size and three devices. The machine's own tree is
//! taken away afterwards, so there is nothing to climb back to.
//!
//! As in bubblewrap, the old tree is first put aside within a tree in memory, so that a path to be
//! bound may lie anywhere, also beneath the directory that is mounted over.

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

/// Where the old and the new tree lie while the new one is built.
const OLD: &str = "/old";
const NEW: &str = "/new";

/// Devices that are harmless and that Python may want.
const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/urandom"];

/// Enters a mount namespace and builds the tree in it.
pub(super) fn enclose(job: &Job) -> Result<String> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // What is mounted here must not appear outside.
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).context("/ cannot be made private")?;
    put_old_tree_aside()?;
    in_memory(NEW, "size=1m,nr_inodes=4096,mode=0755")?;
    // Before the paths that are read, for one of these may lie beneath it.
    let private = new(Path::new(PRIVATE));
    fs::create_dir(&private)?;
    in_memory(&private, &format!("size={},nr_inodes=4096,mode=1777", job.limits.disk))?;
    for path in &job.view.paths {
        bind_read_only(path)?;
    }
    for device in DEVICES {
        bind(Path::new(device))?;
    }
    for (place, target) in &job.view.links {
        let place = new(place);
        fs::create_dir_all(place.parent().unwrap_or(Path::new(NEW))).with_context(|| place.display().to_string())?;
        if place.symlink_metadata().is_err() {
            symlink(target, &place).with_context(|| place.display().to_string())?;
        }
    }
    enter_new_tree()?;
    Ok(String::new())
}

/// Where a path of the machine lies while the tree is built.
fn old(path: &Path) -> PathBuf {
    Path::new(OLD).join(path.strip_prefix("/").unwrap_or(path))
}

/// Where a path will be found in the tree that is built.
fn new(path: &Path) -> PathBuf {
    Path::new(NEW).join(path.strip_prefix("/").unwrap_or(path))
}

fn put_old_tree_aside() -> Result<()> {
    // Any directory will do to mount on; what is in it stays reachable through the old tree.
    let base = ["/tmp", "/var/tmp", "/mnt", "/run"].into_iter().find(|p| Path::new(p).is_dir()).unwrap_or("/tmp");
    in_memory(base, "size=64k,mode=0755")?;
    let base = Path::new(base);
    let (inner_old, inner_new) = (base.join("old"), base.join("new"));
    fs::create_dir(&inner_old)?;
    fs::create_dir(&inner_new)?;
    pivot_root(base, &inner_old).context("the old tree cannot be put aside")?;
    chdir("/")?;
    Ok(())
}

/// Makes the new tree the only one.
fn enter_new_tree() -> Result<()> {
    chdir(NEW)?;
    // The old root is stacked on the new one and taken off.
    pivot_root(".", ".").context("the new tree cannot be entered")?;
    umount2(".", MntFlags::MNT_DETACH).context("the old tree cannot be taken away")?;
    chdir("/")?;
    // The root itself holds nothing to write.
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
    let place = bind(path)?;
    seal(&place).with_context(|| format!("{} cannot be made read-only", path.display()))
}

/// Binds a file or directory of the old tree, with all that is mounted beneath it.
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

/// Makes a bound tree read-only, all mounts beneath it included.
fn seal(place: &Path) -> Result<()> {
    let path = CString::new(place.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: a path that ends in a zero byte, and a structure of the size that is given.
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
    // Before Linux 5.12 this call does not exist. The older one reaches one mount only, which
    // would leave those beneath it writable, so such a kernel does without the namespace.
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("mount_setattr") }
}
