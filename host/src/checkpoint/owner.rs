//! Which process has a checkpoint: told to others, who may be on other machines.

use std::fmt;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};

use serde::{Deserialize, Serialize};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// The machine's name, for people.
    pub(crate) host: String,
    /// The process's number there.
    pub(crate) process: u32,
    /// Drawn anew by each that asks for a checkpoint: no two owners have the same.
    pub(crate) nonce: String,
    /// What tells whether the process is still there, for others of the same machine; `None`: the system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trace: Option<Trace>,
}

/// Where a process is, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trace {
    /// Drawn by the kernel when it started: which machine this is, and since when it runs.
    boot: String,
    /// The namespace of process numbers. Its number is not used again while a process is in it.
    namespace: String,
    /// Who runs it: a system may hide the processes of others.
    user: u32,
    /// When the process was started, in ticks since the boot: its number may be used again.
    started: u64,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of `{}`", self.process, self.host)
    }
}

impl Owner {
    /// This process. Asked twice it is two owners.
    pub(crate) fn this_process() -> Self {
        let process = std::process::id();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
        // The keys of hash maps are drawn from the system's random numbers.
        let random = || RandomState::new().build_hasher().finish();
        Self {
            host: host.map_or_else(|_| "unknown".into(), |host| host.trim().to_owned()),
            process,
            nonce: format!("{:016x}{:016x}", random(), random()),
            trace: trace(process),
        }
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|error| unreachable!("an owner is plain data: {error}"))
    }

    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// Whether the process is gone for sure: it was one of this machine, since its last start, and there is none such now. Where
    /// that cannot be told, it is not.
    pub(crate) fn is_gone(&self) -> bool {
        let (Some(of), Some(ours)) = (&self.trace, trace(std::process::id())) else { return false };
        let same_place = (&of.boot, &of.namespace, of.user) == (&ours.boot, &ours.namespace, ours.user);
        if !same_place {
            return false;
        }
        match fs::read_to_string(format!("/proc/{}/stat", self.process)) {
            Ok(stat) => match state_and_start(&stat) {
                // It has ended, and whoever started it has not asked how.
                Some(('Z' | 'X', _)) => true,
                Some((_, started)) => started != of.started,
                None => false,
            },
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

fn trace(process: u32) -> Option<Trace> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?.to_string_lossy().into_owned();
    let user = user()?;
    let (_, started) = state_and_start(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)?;
    Some(Trace { boot, namespace, user, started })
}

#[cfg(unix)]
fn user() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    Some(fs::metadata("/proc/self").ok()?.uid())
}

#[cfg(not(unix))]
fn user() -> Option<u32> {
    None
}

/// The state of the process of a `/proc/PID/stat` line, and when it was started.
fn state_and_start(stat: &str) -> Option<(char, u64)> {
    // `pid (name) state ppid …`; the name may hold anything, brackets too. The start is the 22nd field.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_this_machine_is_seen_to_be_gone() {
        let ours = Owner::this_process();
        assert!(!ours.is_gone());
        assert_eq!(Owner::from_json(&ours.to_json()), Some(ours.clone()));
        assert_ne!(ours.nonce, Owner::this_process().nonce);
        let Some(trace) = ours.trace.clone() else { return };
        // Another process has its number now.
        let before = Owner { trace: Some(Trace { started: trace.started + 1, ..trace.clone() }), ..ours.clone() };
        assert!(before.is_gone());
        // Larger than any process number.
        assert!(Owner { process: u32::MAX, ..ours.clone() }.is_gone());
        // Of another machine nothing is known.
        let elsewhere =
            Owner { process: u32::MAX, trace: Some(Trace { boot: "other".into(), ..trace }), ..ours.clone() };
        assert!(!elsewhere.is_gone());
        assert!(!Owner { process: u32::MAX, trace: None, ..ours }.is_gone());
    }

    #[test]
    fn the_line_of_a_process_is_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        assert_eq!(state_and_start(stat), Some(('S', 4711)));
        assert_eq!(state_and_start("7 (a"), None);
    }
}
