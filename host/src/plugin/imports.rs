//! What a plugin may import: a closed runtime's WASI and the host's own diagnostics, and nothing else.

use std::fmt;

use crate::plugin::contract::{self, Version};
use crate::plugin::grants::GrantKind;

/// What stands between a plugin and an import of its.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Every plugin has it: it reveals nothing and reaches nothing, unless a grant opens it.
    Allowed,
    /// It would reach out of the sandbox. It is there, because some languages' runtimes import it whether they use it or not,
    /// and refuses every call.
    Denied {
        /// What it would let the plugin do.
        capability: &'static str,
    },
    /// It reaches out of the sandbox: a job must grant it.
    Needs {
        /// The grant.
        grant: GrantKind,
        /// What it lets the plugin do.
        capability: &'static str,
    },
    /// It reaches out of the sandbox, and no job can grant it in this version.
    Ungranted {
        /// What it would let the plugin do.
        capability: &'static str,
    },
    /// It belongs to a version of the contract that this host does not speak.
    OtherContract,
    /// This host does not have it.
    Unknown,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Allowed => f.write_str("granted by default"),
            Standing::Denied { capability } => write!(f, "{capability}: linked, and refuses every call"),
            Standing::Needs { grant, capability } => write!(f, "{capability}: needs the grant `{grant}`"),
            Standing::Ungranted { capability } => write!(f, "{capability}: not grantable in this version"),
            Standing::OtherContract => f.write_str("of a contract that this host does not speak"),
            Standing::Unknown => f.write_str("not offered by this host"),
        }
    }
}

/// The interfaces of WASI 0.2 that a language's runtime needs even when it does nothing. Closed, all of them: no
/// arguments, no environment, no directories, an empty standard input, clocks and random numbers from the batch.
const WASI_CLOSED: [(&str, &[&str]); 5] = [
    (
        "wasi:cli",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("wasi:clocks", &["monotonic-clock", "wall-clock"]),
    ("wasi:filesystem", &["types", "preopens"]),
    ("wasi:io", &["error", "poll", "streams"]),
    ("wasi:random", &["random", "insecure", "insecure-seed"]),
];

/// The interfaces of WASI 0.2 that make sockets: the C library of Python imports all of them, whatever the operator does. No
/// socket is ever made and no name looked up: a guest sees what a program sees that a firewall stops.
const WASI_DENIED: (&str, &[&str], &str) = (
    "wasi:sockets",
    &["network", "instance-network", "tcp", "tcp-create-socket", "udp", "udp-create-socket", "ip-name-lookup"],
    "access to the network",
);

/// Packages that reach out of the sandbox, and what for.
const REACHING_OUT: [(&str, &str); 3] = [
    ("wasi:keyvalue", "access to a key-value store"),
    ("wasi:blobstore", "access to an object store"),
    ("wasi:messaging", "access to a message broker"),
];

/// What `wasi:http` has for those who send requests.
const HTTP_OUTGOING: [&str; 2] = ["types", "outgoing-handler"];

/// The interfaces that every plugin has, and what is behind them when a job grants it.
const OPENED_BY: [(&str, GrantKind); 4] = [
    ("wasi:filesystem", GrantKind::Directories),
    ("wasi:cli/environment", GrantKind::Environment),
    ("wasi:clocks", GrantKind::Clock),
    ("wasi:random", GrantKind::Random),
];

/// The grant that a plugin needs for the import `name` to reach anything; `None`: it reaches nothing whatever is granted.
///
/// A plugin with an import whose [`Standing`] is [`Needs`](Standing::Needs) is refused without the grant; with any other it runs, and finds
/// no directory, no variable, the time of the batch, numbers that its rows seed.
///
/// # Examples
///
/// ```
/// use tidemill::plugin::{GrantKind, grant_needed};
///
/// assert_eq!(grant_needed("wasi:http/outgoing-handler@0.2.3"), Some(GrantKind::Http));
/// assert_eq!(grant_needed("wasi:filesystem/types@0.2.6"), Some(GrantKind::Directories));
/// assert_eq!(grant_needed("wasi:io/streams@0.2.6"), None);
/// ```
#[must_use]
pub fn grant_needed(name: &str) -> Option<GrantKind> {
    match standing(name) {
        Standing::Needs { grant, .. } => Some(grant),
        Standing::Allowed => {
            let interface = name.split('@').next().unwrap_or(name);
            let opened = OPENED_BY.iter().find(|(opened, _)| {
                interface == *opened || interface.strip_prefix(opened).is_some_and(|rest| rest.starts_with('/'))
            });
            opened.map(|(_, grant)| *grant)
        }
        Standing::Denied { .. } | Standing::Ungranted { .. } | Standing::OtherContract | Standing::Unknown => None,
    }
}

/// The name of an interface taken apart: `package/interface@version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InterfaceName<'a> {
    /// Namespace and name, as in `wasi:io`.
    pub(crate) package: &'a str,
    /// The interface, as in `streams`.
    pub(crate) interface: &'a str,
    /// The version, when it is one of three numbers.
    pub(crate) version: Option<Version>,
    /// The version as it is written; empty when there is none.
    pub(crate) version_text: &'a str,
}

impl<'a> InterfaceName<'a> {
    /// Takes `name` apart; `None` if it does not name an interface of a package.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let (name, version_text) = name.split_once('@').unwrap_or((name, ""));
        let (package, interface) = name.split_once('/')?;
        package.contains(':').then(|| InterfaceName {
            package,
            interface,
            version: Version::parse(version_text),
            version_text,
        })
    }
}

/// What stands between a plugin and the import `name`.
pub(crate) fn standing(name: &str) -> Standing {
    let Some(InterfaceName { package, interface, version, .. }) = InterfaceName::parse(name) else {
        return Standing::Unknown;
    };
    if package == contract::PACKAGE {
        return match version {
            Some(version) if contract::speaks(version) && contract::IMPORTS.contains(&interface) => Standing::Allowed,
            Some(version) if contract::speaks(version) => Standing::Unknown,
            _ => Standing::OtherContract,
        };
    }
    if let Some((_, capability)) = REACHING_OUT.iter().find(|(reaching, _)| *reaching == package) {
        return Standing::Ungranted { capability };
    }
    let is_0_2 = matches!(version, Some(Version { major: 0, minor: 2, .. }));
    let (denied, interfaces, capability) = WASI_DENIED;
    if package == denied && interfaces.contains(&interface) && is_0_2 {
        return Standing::Denied { capability };
    }
    if package == "wasi:http" && is_0_2 && HTTP_OUTGOING.contains(&interface) {
        return Standing::Needs { grant: GrantKind::Http, capability: "access to HTTP servers" };
    }
    let is_closed =
        WASI_CLOSED.iter().any(|(closed, interfaces)| *closed == package && interfaces.contains(&interface));
    if is_closed && is_0_2 { Standing::Allowed } else { Standing::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Standing) {
        assert_eq!(standing(name), expected, "{name}");
    }

    #[test]
    fn a_closed_runtime_is_allowed_and_nothing_else() {
        check("tidemill:operator/diagnostics@0.1.0", Standing::Allowed);
        check("tidemill:operator/types@0.1.7", Standing::Allowed);
        check("wasi:io/streams@0.2.0", Standing::Allowed);
        check("wasi:cli/exit@0.2.12", Standing::Allowed);
        check("wasi:sockets/tcp@0.2.0", Standing::Denied { capability: "access to the network" });
        check("wasi:sockets/tcp@0.3.0", Standing::Unknown);
        check("wasi:sockets/tls@0.2.0", Standing::Unknown);
        let http = Standing::Needs { grant: GrantKind::Http, capability: "access to HTTP servers" };
        check("wasi:http/outgoing-handler@0.2.3", http);
        check("wasi:http/types@0.2.9", http);
        check("wasi:http/incoming-handler@0.2.3", Standing::Unknown);
        check("wasi:http/types@0.3.0", Standing::Unknown);
        check("tidemill:operator/diagnostics@0.2.0", Standing::OtherContract);
        check("tidemill:operator/diagnostics", Standing::OtherContract);
        check("tidemill:operator/secrets@0.1.0", Standing::Unknown);
        check("wasi:io/streams@0.3.0", Standing::Unknown);
        check("wasi:io/streams", Standing::Unknown);
        check("wasi:clocks/timezone@0.2.0", Standing::Unknown);
        check("foo:bar/baz@1.0.0", Standing::Unknown);
        check("run", Standing::Unknown);
        check("", Standing::Unknown);
    }

    #[test]
    fn an_import_says_which_grant_opens_it() {
        let check = |name, expected| assert_eq!(grant_needed(name), expected, "{name}");
        check("wasi:cli/environment@0.2.0", Some(GrantKind::Environment));
        check("wasi:cli/exit@0.2.0", None);
        check("wasi:clocks/wall-clock@0.2.0", Some(GrantKind::Clock));
        check("wasi:random/insecure-seed@0.2.0", Some(GrantKind::Random));
        check("wasi:filesystem/preopens@0.2.0", Some(GrantKind::Directories));
        check("wasi:http/types@0.2.0", Some(GrantKind::Http));
        check("wasi:sockets/tcp@0.2.0", None);
        check("tidemill:operator/diagnostics@0.1.0", None);
        check("wasi:clocksX/wall-clock@0.2.0", None);
    }
}
