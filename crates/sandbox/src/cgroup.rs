//! A control group (version 2) for each program. It limits all processes of a program together, where `setrlimit`
//! limits each one.
//!
//! Groups can be created only where the system has delegated a part of its tree to this user. Lopper uses the directory
//! that the policy names, or else its own group or the parent group, if memory and task limits are delegated to their
//! children. It does not move itself: a group with processes of its own cannot delegate controllers to its children,
//! and a library should not move the user's process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::policy::Limits;

/// A group in which groups can be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parent(PathBuf);

/// The group of one program; removed when dropped.
#[derive(Debug)]
pub(crate) struct Group(PathBuf);

static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Parent {
    /// Finds one, or returns why there is none.
    pub(crate) fn find(named: Option<&Path>) -> Result<Self, String> {
        if let Some(path) = named {
            return Self::check(path);
        }
        let own = own_group().ok_or("no control groups of version 2")?;
        Self::check(&own).or_else(|why| match own.parent() {
            Some(above) if above.join("cgroup.controllers").exists() => Self::check(above).map_err(|_| why),
            _ => Err(why),
        })
    }

    /// Checks that groups with limits can be created in this one.
    fn check(path: &Path) -> Result<Self, String> {
        let file = path.join("cgroup.subtree_control");
        let handed = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        for controller in ["memory", "pids"] {
            if !handed.split_whitespace().any(|c| c == controller) {
                return Err(format!("the control group does not delegate {controller} limits"));
            }
        }
        let parent = Self(path.to_path_buf());
        let group = parent.group(&Limits::default()).map_err(|e| format!("no groups can be created: {e}"))?;
        drop(group);
        Ok(parent)
    }

    /// A new group with these limits.
    pub(crate) fn group(&self, limits: &Limits) -> io::Result<Group> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.0.join(format!("lopper-{}-{number}", std::process::id()));
        fs::create_dir(&path)?;
        let group = Group(path);
        // The group also has the helper's two small processes.
        group.write("memory.max", &limits.memory.to_string())?;
        group.write("pids.max", &(limits.tasks + 2).to_string())?;
        // Not every kernel has these.
        let _ = group.write("memory.swap.max", "0");
        Ok(group)
    }
}

impl Group {
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        fs::write(self.0.join(name), text)
    }

    /// Moves a process into it.
    pub(crate) fn add(&self, pid: u32) -> io::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Whether the kernel killed a process in it for lack of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.0.join("memory.events")).unwrap_or_default();
        events.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.write("cgroup.kill", "1");
        // A group can be removed only after its last process has ended, which takes a moment.
        let until = Instant::now() + Duration::from_secs(2);
        while fs::remove_dir(&self.0).is_err_and(|e| e.kind() != io::ErrorKind::NotFound) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The group that this process is in.
fn own_group() -> Option<PathBuf> {
    let memberships = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = memberships.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let root = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| path.to_owned())
    })?;
    Some(Path::new(&root).join(own.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    // An ordinary directory instead of the kernel's shows which limits are written.
    #[test]
    fn a_group_is_created_only_where_limits_are_delegated() {
        let dir = tempfile::tempdir().unwrap();
        let check = || Parent::check(dir.path());
        assert!(check().unwrap_err().contains("cgroup.subtree_control"));
        fs::write(dir.path().join("cgroup.subtree_control"), "cpu memory\n").unwrap();
        assert!(check().unwrap_err().contains("pids"));
        fs::write(dir.path().join("cgroup.subtree_control"), "cpu memory pids\n").unwrap();

        let parent = Parent(dir.path().to_path_buf());
        let limits = Limits { memory: 1 << 20, tasks: 5, ..Limits::default() };
        let group = parent.group(&limits).unwrap();
        group.add(123).unwrap();
        let read = |name: &str| fs::read_to_string(group.0.join(name)).unwrap();
        assert_eq!(
            (read("memory.max"), read("pids.max"), read("cgroup.procs")),
            ("1048576".into(), "7".into(), "123".into())
        );
        assert!(!group.ran_out_of_memory());
        fs::write(group.0.join("memory.events"), "low 0\noom 1\noom_kill 0\n").unwrap();
        assert!(!group.ran_out_of_memory());
        fs::write(group.0.join("memory.events"), "low 0\noom 1\noom_kill 2\n").unwrap();
        assert!(group.ran_out_of_memory());
        // The kernel removes a group's files with its directory; here they are removed first.
        fs::remove_dir_all(&group.0).unwrap();
    }
}
