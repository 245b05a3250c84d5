//! The mechanisms that isolate a program from the machine: what each protects, what must be protected before anything
//! runs, and what is not protected.
//!
//! Most things are protected twice, by independent parts of the kernel, so that a vulnerability in one of them is not
//! one of the sandbox. A machine with one of the two runs programs; a machine with neither is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A mechanism of the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// A user namespace: privileges inside it are worth nothing outside.
    UserNamespace,
    /// A mount namespace with a file tree of its own.
    MountNamespace,
    /// A process namespace; all its processes end with its first one.
    PidNamespace,
    /// A network namespace without an active interface.
    NetworkNamespace,
    /// A namespace for System V objects and message queues.
    IpcNamespace,
    /// A namespace for the host name.
    UtsNamespace,
    /// Running as `nobody` with every capability dropped.
    Unprivileged,
    /// `PR_SET_NO_NEW_PRIVS`: set-user-id programs give nothing.
    NoNewPrivileges,
    /// Limits of the process (`setrlimit`).
    ResourceLimits,
    /// Landlock rules on files, TCP and signals.
    Landlock,
    /// A list of allowed system calls.
    Seccomp,
    /// A control group (version 2) of its own.
    Cgroup,
}

impl Mechanism {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Mechanism; 12] = [
        Mechanism::MountNamespace,
        Mechanism::Landlock,
        Mechanism::NetworkNamespace,
        Mechanism::PidNamespace,
        Mechanism::Seccomp,
        Mechanism::UserNamespace,
        Mechanism::Unprivileged,
        Mechanism::NoNewPrivileges,
        Mechanism::IpcNamespace,
        Mechanism::UtsNamespace,
        Mechanism::ResourceLimits,
        Mechanism::Cgroup,
    ];

    /// Its name for people, and what it protects, in words.
    pub fn describe(self) -> (&'static str, &'static str) {
        match self {
            Mechanism::UserNamespace => {
                ("user namespace", "privileges gained inside have no effect outside; tasks are counted per program")
            }
            Mechanism::MountNamespace => {
                ("mount namespace", "files: only Python, its libraries and a private /tmp of bounded size are visible")
            }
            Mechanism::PidNamespace => (
                "process namespace",
                "other processes cannot be seen or signalled; all processes of a program end together",
            ),
            Mechanism::NetworkNamespace => ("network namespace", "no network, not even loopback"),
            Mechanism::IpcNamespace => ("IPC namespace", "shared memory and message queues of other processes"),
            Mechanism::UtsNamespace => ("host-name namespace", "the host name"),
            Mechanism::Unprivileged => {
                ("nobody, no capabilities", "the program has no more rights than an unknown user")
            }
            Mechanism::NoNewPrivileges => ("no new privileges", "set-user-id programs give no rights"),
            Mechanism::ResourceLimits => {
                ("resource limits", "processor time, memory, size of a file, open files, core dumps")
            }
            Mechanism::Landlock => {
                ("Landlock", "files again, independently of the mount namespace; TCP; signals to other processes")
            }
            Mechanism::Seccomp => {
                ("seccomp", "system calls: no sockets, processes, mounts, namespaces, tracing, keys, BPF, io_uring")
            }
            Mechanism::Cgroup => ("control group", "memory and number of tasks of the whole tree"),
        }
    }
}

/// The state of a mechanism on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It was applied successfully when the sandbox was created; the text is a remark, or empty.
    Active(String),
    /// It failed, for this reason.
    Unavailable(String),
    /// The policy disables it.
    SwitchedOff,
}

/// A mechanism and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// Its state.
    pub state: State,
}

impl Protection {
    /// Whether programs run under it.
    pub fn is_active(&self) -> bool {
        matches!(self.state, State::Active(_))
    }

    /// One line for the user: its state, its name, what it protects.
    pub fn line(&self) -> String {
        let (name, covers) = self.mechanism.describe();
        match &self.state {
            State::Active(note) if note.is_empty() => format!("active   {name}: {covers}"),
            State::Active(note) => format!("active   {name} ({note}): {covers}"),
            State::Unavailable(reason) => format!("missing  {name} ({reason}): {covers}"),
            State::SwitchedOff => format!("off      {name}: {covers}"),
        }
    }
}

/// What must be protected before a program is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Files of this machine cannot be read or written.
    Files,
    /// Nothing can be reached over a network.
    Network,
    /// Other processes cannot be affected, and none of the program's processes is left running.
    Processes,
    /// The rarely used parts of the kernel, where most vulnerabilities are, cannot be reached.
    Kernel,
    /// Memory, processor time and files are limited.
    Resources,
}

impl Need {
    /// All of them.
    pub const ALL: [Need; 5] = [Need::Files, Need::Network, Need::Processes, Need::Kernel, Need::Resources];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Need::Files => "files of this machine",
            Need::Network => "the network",
            Need::Processes => "other processes",
            Need::Kernel => "the rarely used parts of the kernel",
            Need::Resources => "memory and processor time",
        }
    }

    /// Sets of mechanisms, any one of which is sufficient.
    fn covered_by(self, allow_processes: bool) -> &'static [&'static [Mechanism]] {
        match self {
            Need::Files => &[&[Mechanism::MountNamespace], &[Mechanism::Landlock]],
            Need::Network => &[&[Mechanism::NetworkNamespace], &[Mechanism::Seccomp]],
            // Without a namespace, only a program that cannot start processes is certain to leave none running.
            Need::Processes if allow_processes => &[&[Mechanism::PidNamespace]],
            Need::Processes => &[&[Mechanism::PidNamespace], &[Mechanism::Seccomp]],
            Need::Kernel => &[&[Mechanism::Seccomp, Mechanism::NoNewPrivileges]],
            Need::Resources => &[&[Mechanism::ResourceLimits]],
        }
    }
}

/// The needs that no active mechanism meets.
pub(crate) fn uncovered(protections: &[Protection], allow_processes: bool) -> Vec<Need> {
    let active = |m: &Mechanism| protections.iter().any(|p| p.mechanism == *m && p.is_active());
    let covered = |need: &Need| need.covered_by(allow_processes).iter().any(|set| set.iter().all(active));
    Need::ALL.into_iter().filter(|need| !covered(need)).collect()
}

/// Descriptions of what is not protected: first on this machine, then on any.
pub(crate) fn gaps(protections: &[Protection], allow_processes: bool) -> Vec<String> {
    let active: BTreeMap<Mechanism, bool> = protections.iter().map(|p| (p.mechanism, p.is_active())).collect();
    let has = |m: Mechanism| active.get(&m).copied().unwrap_or(false);
    let mut gaps = Vec::new();
    for need in uncovered(protections, allow_processes) {
        gaps.push(format!("NOT PROTECTED: {}", need.name()));
    }
    let only = |missing: Mechanism, other: Mechanism| !has(missing) && has(other);
    if only(Mechanism::MountNamespace, Mechanism::Landlock) {
        gaps.push("names, sizes and dates of all files are visible; their contents are not".into());
    }
    if !has(Mechanism::MountNamespace) {
        gaps.push(
            "the program's directory is on the disk; the size of each file is limited, their total is not".into(),
        );
    }
    if !has(Mechanism::PidNamespace) {
        gaps.push("the program can see which process numbers are in use".into());
    }
    if !has(Mechanism::Seccomp) {
        gaps.push("every system call is allowed".into());
    }
    if !has(Mechanism::UserNamespace) && !has(Mechanism::Cgroup) {
        gaps.push("the number of tasks is not limited; only memory is".into());
    }
    if allow_processes && !has(Mechanism::Cgroup) {
        gaps.push("memory is limited for each process, not for all processes of a program together".into());
    }
    gaps.push("vulnerabilities of the kernel, and side channels of the processor (caches, clocks)".into());
    gaps.push("the contents of the system's libraries and of the paths in the policy can be read".into());
    gaps.push(
        "a program that reads the memory of its interpreter (with ctypes, for example) can claim to have passed".into(),
    );
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(active: &[Mechanism]) -> Vec<Protection> {
        Mechanism::ALL
            .into_iter()
            .map(|mechanism| {
                let state = if active.contains(&mechanism) {
                    State::Active(String::new())
                } else {
                    State::Unavailable("no".into())
                };
                Protection { mechanism, state }
            })
            .collect()
    }

    /// The mechanisms in an ordinary container: no namespaces, but Landlock and seccomp.
    const CONTAINER: [Mechanism; 5] = [
        Mechanism::Landlock,
        Mechanism::Seccomp,
        Mechanism::NoNewPrivileges,
        Mechanism::ResourceLimits,
        Mechanism::Unprivileged,
    ];

    #[test]
    fn either_mechanism_meets_a_need() {
        assert!(uncovered(&with(&Mechanism::ALL), false).is_empty());
        assert!(uncovered(&with(&CONTAINER), false).is_empty());
        let without_landlock: Vec<_> = CONTAINER.into_iter().filter(|m| *m != Mechanism::Landlock).collect();
        assert_eq!(uncovered(&with(&without_landlock), false), [Need::Files]);
        let without_seccomp: Vec<_> = Mechanism::ALL.into_iter().filter(|m| *m != Mechanism::Seccomp).collect();
        assert_eq!(uncovered(&with(&without_seccomp), false), [Need::Kernel]);
        assert_eq!(uncovered(&with(&[]), false), Need::ALL);
    }

    #[test]
    fn programs_that_may_start_processes_need_the_namespace() {
        assert_eq!(uncovered(&with(&CONTAINER), true), [Need::Processes]);
    }

    #[test]
    fn gaps_of_a_full_and_of_a_bare_machine() {
        let full = gaps(&with(&Mechanism::ALL), false);
        assert_eq!(full.len(), 3, "{full:?}");
        let bare = gaps(&with(&[]), false);
        assert_eq!(bare.iter().filter(|g| g.starts_with("NOT PROTECTED")).count(), Need::ALL.len());
    }
}
