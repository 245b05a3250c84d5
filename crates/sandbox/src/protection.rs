//! What can stand between a program and the machine: the mechanisms, what each one covers, what
//! must be covered before anything runs, and, in words, what is not covered.
//!
//! Most needs are met twice, by independent parts of the kernel, so that a hole in one of them is
//! not a hole in the sandbox. A machine that lacks one of the two still runs programs; a machine
//! that lacks both is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One thing that the operating system can be asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// A user namespace: privileges inside it are worth nothing outside.
    UserNamespace,
    /// A mount namespace with a file tree of its own.
    MountNamespace,
    /// A process namespace, which dies as a whole with its first process.
    PidNamespace,
    /// A network namespace without any interface that is up.
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
    /// A list of permitted system calls.
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

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::UserNamespace => "user namespace",
            Mechanism::MountNamespace => "mount namespace",
            Mechanism::PidNamespace => "process namespace",
            Mechanism::NetworkNamespace => "network namespace",
            Mechanism::IpcNamespace => "IPC namespace",
            Mechanism::UtsNamespace => "host-name namespace",
            Mechanism::Unprivileged => "nobody, no capabilities",
            Mechanism::NoNewPrivileges => "no new privileges",
            Mechanism::ResourceLimits => "resource limits",
            Mechanism::Landlock => "Landlock",
            Mechanism::Seccomp => "seccomp",
            Mechanism::Cgroup => "control group",
        }
    }

    /// What it covers, in words.
    pub fn covers(self) -> &'static str {
        match self {
            Mechanism::UserNamespace => "a privilege gained inside is worth nothing outside; tasks are counted apart",
            Mechanism::MountNamespace => "files: only Python, its libraries and an own /tmp of bounded size exist",
            Mechanism::PidNamespace => "other processes cannot be seen or signalled; all of the program dies at once",
            Mechanism::NetworkNamespace => "no network, not even this machine's loopback",
            Mechanism::IpcNamespace => "shared memory and message queues of others",
            Mechanism::UtsNamespace => "the host name",
            Mechanism::Unprivileged => "the program has no right that an unknown user lacks",
            Mechanism::NoNewPrivileges => "set-user-id programs give no rights",
            Mechanism::ResourceLimits => "processor time, memory, size of a file, open files, core dumps",
            Mechanism::Landlock => "files once more, independently of the file tree; TCP; signals to others",
            Mechanism::Seccomp => {
                "system calls: no sockets, processes, mounts, namespaces, tracing, keys, BPF, io_uring"
            }
            Mechanism::Cgroup => "memory and number of tasks of the whole tree",
        }
    }
}

/// Whether a mechanism is at work on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It was applied when the sandbox was made; the text adds what is worth knowing, or is empty.
    Active(String),
    /// It was tried and refused, for this reason.
    Unavailable(String),
    /// The policy switches it off.
    SwitchedOff,
}

/// A mechanism and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// Which one.
    pub mechanism: Mechanism,
    /// Whether it is active or why not.
    pub state: State,
}

impl Protection {
    /// Whether programs run under it.
    pub fn is_active(&self) -> bool {
        matches!(self.state, State::Active(_))
    }

    /// One line for the user: what it is, whether it is active, what it covers.
    pub fn line(&self) -> String {
        let (name, covers) = (self.mechanism.name(), self.mechanism.covers());
        match &self.state {
            State::Active(note) if note.is_empty() => format!("active   {name}: {covers}"),
            State::Active(note) => format!("active   {name} ({note}): {covers}"),
            State::Unavailable(reason) => format!("missing  {name} ({reason}): {covers}"),
            State::SwitchedOff => format!("off      {name}: {covers}"),
        }
    }
}

/// What must be covered before a program is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Files of this machine cannot be read or written.
    Files,
    /// Nothing can be reached over a network.
    Network,
    /// Other processes cannot be touched and nothing is left running.
    Processes,
    /// The rarely used parts of the kernel, where its holes are, cannot be reached.
    Kernel,
    /// Memory, processor time and files are limited.
    Resources,
}

impl Need {
    /// All of them.
    pub const ALL: [Need; 5] = [Need::Files, Need::Network, Need::Processes, Need::Kernel, Need::Resources];

    /// What is at stake, in words.
    pub fn name(self) -> &'static str {
        match self {
            Need::Files => "files of this machine",
            Need::Network => "the network",
            Need::Processes => "other processes",
            Need::Kernel => "the rarely used parts of the kernel",
            Need::Resources => "memory and processor time",
        }
    }

    /// The sets of mechanisms of which any one covers the need.
    fn covered_by(self, allow_processes: bool) -> &'static [&'static [Mechanism]] {
        match self {
            Need::Files => &[&[Mechanism::MountNamespace], &[Mechanism::Landlock]],
            Need::Network => &[&[Mechanism::NetworkNamespace], &[Mechanism::Seccomp]],
            // Without a namespace only a program that cannot start processes is sure to leave none.
            Need::Processes if allow_processes => &[&[Mechanism::PidNamespace]],
            Need::Processes => &[&[Mechanism::PidNamespace], &[Mechanism::Seccomp]],
            Need::Kernel => &[&[Mechanism::Seccomp, Mechanism::NoNewPrivileges]],
            Need::Resources => &[&[Mechanism::ResourceLimits]],
        }
    }
}

/// The needs that nothing active covers.
pub(crate) fn uncovered(protections: &[Protection], allow_processes: bool) -> Vec<Need> {
    let active = |m: &Mechanism| protections.iter().any(|p| p.mechanism == *m && p.is_active());
    let covered = |need: &Need| need.covered_by(allow_processes).iter().any(|set| set.iter().all(active));
    Need::ALL.into_iter().filter(|need| !covered(need)).collect()
}

/// What is not covered, in words: first what this machine lacks, then what no machine has.
pub(crate) fn gaps(protections: &[Protection], allow_processes: bool) -> Vec<String> {
    let active: BTreeMap<Mechanism, bool> = protections.iter().map(|p| (p.mechanism, p.is_active())).collect();
    let has = |m: Mechanism| active.get(&m).copied().unwrap_or(false);
    let mut gaps = Vec::new();
    for need in uncovered(protections, allow_processes) {
        gaps.push(format!("NOT PROTECTED: {}", need.name()));
    }
    let only = |missing: Mechanism, other: Mechanism| !has(missing) && has(other);
    if only(Mechanism::MountNamespace, Mechanism::Landlock) {
        gaps.push("names, sizes and dates of all files can be asked for, only their contents are out of reach".into());
    }
    if !has(Mechanism::MountNamespace) {
        gaps.push(
            "the program's own directory lies on the disk; the size of one file is limited, their sum is not".into(),
        );
    }
    if !has(Mechanism::PidNamespace) {
        gaps.push("the program can learn which process numbers are in use".into());
    }
    if !has(Mechanism::Seccomp) {
        gaps.push("every system call of the kernel can be tried".into());
    }
    if !has(Mechanism::UserNamespace) && !has(Mechanism::Cgroup) {
        gaps.push("the number of tasks is not limited; only memory is".into());
    }
    if allow_processes && !has(Mechanism::Cgroup) {
        gaps.push("memory is limited for each process, not for all processes of a program together".into());
    }
    gaps.push("holes in the kernel itself, and what can be learned from the processor's caches and clocks".into());
    gaps.push("the contents of the system's libraries and of the readable paths that were asked for".into());
    gaps.push(
        "a program that takes the harness in its own interpreter apart (through ctypes, say) can claim to have passed"
            .into(),
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

    /// What an ordinary container leaves: no namespaces, but Landlock and seccomp.
    const CONTAINER: [Mechanism; 5] = [
        Mechanism::Landlock,
        Mechanism::Seccomp,
        Mechanism::NoNewPrivileges,
        Mechanism::ResourceLimits,
        Mechanism::Unprivileged,
    ];

    #[test]
    fn each_need_is_met_in_either_way() {
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
    fn gaps_name_what_is_missing_and_what_always_is() {
        let full = gaps(&with(&Mechanism::ALL), false);
        assert_eq!(full.len(), 3, "{full:?}");
        let bare = gaps(&with(&[]), false);
        assert_eq!(bare.iter().filter(|g| g.starts_with("NOT PROTECTED")).count(), Need::ALL.len());
    }
}
