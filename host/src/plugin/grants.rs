//! What a job lets a plugin reach beyond its rows: directories, environment values, hosts, the real clock, real random numbers.
//!
//! A plugin without grants reaches nothing. A grant belongs to one step (or one function of SQL): there is no default for a job,
//! because what one plugin is trusted with says nothing of another.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How long a connection may take by default.
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// How long a request may take by default, until the last byte of its response: a third of what a call may take.
const HTTP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The most bytes of a request's body by default.
const REQUEST_BYTES_DEFAULT: u64 = 1 << 20;
/// The most bytes of a response's body by default: a quarter of a plugin's memory by default.
const RESPONSE_BYTES_DEFAULT: u64 = 16 << 20;

/// What a plugin may reach. The default is nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Directories.
    pub directories: Vec<DirectoryGrant>,
    /// Environment variables: names and values. The process's own are not among them.
    pub environment: Vec<(String, String)>,
    /// Where requests may go.
    pub http: Vec<HttpGrant>,
    /// Whether its clocks show the real time, and sleeping takes as long as it says.
    pub real_clock: bool,
    /// Whether its random numbers are the system's.
    pub real_random: bool,
}

/// A directory that a plugin may use. Nothing outside of it is reached: not by `..`, not by absolute paths, not by links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryGrant {
    /// The directory.
    pub path: PathBuf,
    /// What the plugin calls it, as in `/data`.
    pub guest_path: String,
    /// What it may do there.
    pub access: Access,
}

/// What a plugin may do in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Read files and list directories.
    #[default]
    Read,
    /// That, and make, change and remove them.
    Write,
}

/// How a request goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpScheme {
    /// Encrypted, to a server that has shown who it is.
    #[default]
    Https,
    /// In the open.
    Http,
}

/// A server that a plugin may send requests to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGrant {
    /// Its name or address, in lower case, as it stands in a URL.
    pub host: String,
    /// How requests go out.
    pub scheme: HttpScheme,
    /// Its port.
    pub port: u16,
    /// The methods, in capitals.
    pub methods: Vec<String>,
    /// Whether its name may stand for a private address: of this machine, or of a network that is not the public one.
    pub private_addresses: bool,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a request may take, until the last byte of its response.
    pub timeout: Duration,
    /// The most bytes of a request's body.
    pub request_bytes: u64,
    /// The most bytes of a response's body.
    pub response_bytes: u64,
}

impl HttpGrant {
    /// A grant of `GET` to a host, with the limits that hold by default.
    #[must_use]
    pub fn get(scheme: HttpScheme, host: impl Into<String>) -> Self {
        let port = match scheme {
            HttpScheme::Https => 443,
            HttpScheme::Http => 80,
        };
        Self {
            host: host.into().to_ascii_lowercase(),
            scheme,
            port,
            methods: vec!["GET".into()],
            private_addresses: false,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            timeout: HTTP_TIMEOUT_DEFAULT,
            request_bytes: REQUEST_BYTES_DEFAULT,
            response_bytes: RESPONSE_BYTES_DEFAULT,
        }
    }
}

impl HttpScheme {
    /// Its name in a URL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            HttpScheme::Https => "https",
            HttpScheme::Http => "http",
        }
    }
}

/// The kinds of grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GrantKind {
    /// `grants.directories`.
    Directories,
    /// `grants.environment`.
    Environment,
    /// `grants.http`.
    Http,
    /// `grants.clock`.
    Clock,
    /// `grants.random`.
    Random,
}

impl GrantKind {
    /// Its key in the `grants` of a step.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            GrantKind::Directories => "directories",
            GrantKind::Environment => "environment",
            GrantKind::Http => "http",
            GrantKind::Clock => "clock",
            GrantKind::Random => "random",
        }
    }

    /// What the key looks like in a job file.
    #[must_use]
    pub fn example(self) -> &'static str {
        match self {
            GrantKind::Directories => {
                r#"grants = { directories = [{ path = "data", as = "/data", access = "read" }] }"#
            }
            GrantKind::Environment => r#"grants = { environment = { NAME = "value" } }"#,
            GrantKind::Http => r#"grants = { http = [{ host = "api.example.com", methods = ["GET"] }] }"#,
            GrantKind::Clock => r#"grants = { clock = "real" }"#,
            GrantKind::Random => r#"grants = { random = "real" }"#,
        }
    }
}

impl fmt::Display for GrantKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

impl Grants {
    /// Whether anything of a kind is granted.
    #[must_use]
    pub fn has(&self, kind: GrantKind) -> bool {
        match kind {
            GrantKind::Directories => !self.directories.is_empty(),
            GrantKind::Environment => !self.environment.is_empty(),
            GrantKind::Http => !self.http.is_empty(),
            GrantKind::Clock => self.real_clock,
            GrantKind::Random => self.real_random,
        }
    }

    /// What is granted, each in a few words. Values of environment variables may be secrets, and are left out.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.directories.iter().map(|granted| {
            let may = match granted.access {
                Access::Read => "read",
                Access::Write => "read and write",
            };
            format!("{may} {} as {}", granted.path.display(), granted.guest_path)
        }));
        if !self.environment.is_empty() {
            let names: Vec<&str> = self.environment.iter().map(|(name, _)| name.as_str()).collect();
            words.push(format!("environment {}", names.join(" ")));
        }
        words.extend(self.http.iter().map(|granted| {
            let private = if granted.private_addresses { ", at private addresses too" } else { "" };
            let HttpGrant { scheme, host, port, methods, .. } = granted;
            format!("http {} {}://{host}:{port}{private}", methods.join(" "), scheme.name())
        }));
        words.extend(self.real_clock.then(|| "the real clock".to_owned()));
        words.extend(self.real_random.then(|| "real random numbers".to_owned()));
        words
    }

    /// Whether a guest may have to wait in the host for something outside of it.
    pub(crate) fn may_wait(&self) -> bool {
        self.real_clock || self.has(GrantKind::Http)
    }

    /// Whether the host needs threads for what the guest asks of it.
    pub(crate) fn needs_threads(&self) -> bool {
        self.may_wait() || self.has(GrantKind::Directories)
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.describe()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_is_said_without_values() {
        let grants = Grants {
            directories: vec![DirectoryGrant {
                path: "/srv/data".into(),
                guest_path: "/data".into(),
                access: Access::Write,
            }],
            environment: vec![("TOKEN".into(), "secret".into()), ("REGION".into(), "eu".into())],
            http: vec![HttpGrant { private_addresses: true, ..HttpGrant::get(HttpScheme::Https, "API.example.com") }],
            real_clock: true,
            real_random: true,
        };
        assert_eq!(
            grants.describe(),
            [
                "read and write /srv/data as /data",
                "environment TOKEN REGION",
                "http GET https://api.example.com:443, at private addresses too",
                "the real clock",
                "real random numbers",
            ]
        );
        assert!(!format!("{grants:?}").contains("secret"));
        assert_eq!(Grants::default().describe(), Vec::<String>::new());
    }
}
