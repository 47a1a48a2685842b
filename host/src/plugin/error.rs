//! Every way in which a plugin file can be refused before it is opened.

use std::io;
use std::path::PathBuf;

use crate::error::{Explain, Fault, Retry};
use crate::operator::{Limit, raise};
use crate::plugin::grants::GrantKind;

/// Why the plugin runtime could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The component engine refused its settings: this machine lacks something that compiled plugins need.
    #[error("the WebAssembly engine cannot run on this machine")]
    Engine(#[source] EngineError),
    /// A thread could not be started.
    #[error("a thread of the plugin runtime could not be started")]
    Thread(#[source] io::Error),
}

impl Explain for RuntimeError {
    fn fault(&self) -> Fault {
        Fault::External
    }
}

/// What the engine said, in its own words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(pub(crate) String);

impl EngineError {
    /// The whole chain of `error` on one line.
    pub(crate) fn new(error: &wasmtime::Error) -> Self {
        Self(super::text::one_line(&format!("{error:#}")).into_owned())
    }
}

/// Why a plugin could not be loaded. Nothing of it has run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file could not be read.
    #[error("plugin `{plugin}` could not be read from {}", path.display())]
    Unreadable {
        /// The plugin, as the job file names it.
        plugin: String,
        /// Where it was looked for.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is a directory, a pipe, or something else that is not a file.
    #[error("plugin `{plugin}` is not a file: {}", path.display())]
    NotAFile {
        /// The plugin.
        plugin: String,
        /// What was found.
        path: PathBuf,
    },
    /// It exceeds a limit on what may be loaded: the size of its file, what compiling it takes.
    #[error("plugin `{plugin}` exceeds its {}: {seen}", limit.what())]
    LimitExceeded {
        /// The plugin.
        plugin: String,
        /// Which limit.
        limit: Limit,
        /// The limit's value and what was seen.
        seen: String,
    },
    /// A directory that it is granted cannot be opened.
    #[error("the directory {} that plugin `{plugin}` is granted cannot be opened", path.display())]
    Directory {
        /// The plugin.
        plugin: String,
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: EngineError,
    },
    /// It is not WebAssembly in binary form.
    #[error("plugin `{plugin}` is not a WebAssembly component: {seen}")]
    NotWasm {
        /// The plugin.
        plugin: String,
        /// What it looks like.
        seen: String,
    },
    /// It is a core module.
    #[error("plugin `{plugin}` is a WebAssembly core module, not a component")]
    CoreModule {
        /// The plugin.
        plugin: String,
    },
    /// It ends in the middle.
    #[error("plugin `{plugin}` is cut off: it ends after {n_bytes} bytes, in the middle of a section")]
    Truncated {
        /// The plugin.
        plugin: String,
        /// How much there is.
        n_bytes: u64,
    },
    /// It is a component, but not a valid one.
    #[error("plugin `{plugin}` is not a valid component")]
    Malformed {
        /// The plugin.
        plugin: String,
        /// What is wrong.
        #[source]
        source: EngineError,
    },
    /// The digest in the job file is not one.
    #[error("`sha256` of plugin `{plugin}` is not 64 hexadecimal digits: `{pin}`")]
    BadPin {
        /// The plugin.
        plugin: String,
        /// What was given.
        pin: String,
    },
    /// The file is another than the job file pins.
    #[error("plugin `{plugin}` has the SHA-256 digest {found}, and the job pins {pinned}")]
    DigestMismatch {
        /// The plugin.
        plugin: String,
        /// The digest in the job file.
        pinned: String,
        /// The digest of the file.
        found: String,
    },
    /// It was built against a contract this host does not speak.
    #[error("plugin `{plugin}` needs contract {found} (`{interface}`), and this host speaks {oldest} to {newest}")]
    UnsupportedContract {
        /// The plugin.
        plugin: String,
        /// The version that it names.
        found: String,
        /// The interface that names it.
        interface: String,
        /// The oldest version this host speaks.
        oldest: &'static str,
        /// The newest version this host speaks.
        newest: &'static str,
    },
    /// It imports what the job does not grant it.
    #[error("plugin `{plugin}` imports `{import}`, which is {capability}, and nothing grants it")]
    UngrantedImport {
        /// The plugin.
        plugin: String,
        /// The import.
        import: String,
        /// What it would let the plugin do.
        capability: &'static str,
        /// The grant that would allow it; `None` when none does.
        grant: Option<GrantKind>,
    },
    /// It imports what this host does not have.
    #[error("plugin `{plugin}` imports `{import}`, which this host does not offer")]
    UnknownImport {
        /// The plugin.
        plugin: String,
        /// The import.
        import: String,
    },
    /// An import that the host offers has another type, or a function that the host's version lacks.
    #[error("the imports of plugin `{plugin}` do not fit what this host offers")]
    ImportMismatch {
        /// The plugin.
        plugin: String,
        /// Which, and how.
        #[source]
        source: EngineError,
    },
    /// It could not be compiled.
    #[error("plugin `{plugin}` could not be compiled")]
    Compile {
        /// The plugin.
        plugin: String,
        /// What the compiler said.
        #[source]
        source: EngineError,
    },
}

impl Explain for LoadError {
    fn fault(&self) -> Fault {
        match self {
            LoadError::Unreadable { source, .. } if source.kind() != io::ErrorKind::NotFound => Fault::External,
            LoadError::Directory { .. } => Fault::External,
            _ => Fault::User,
        }
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            LoadError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "Paths in a job file are relative to the job file. Is the plugin built?".into()
            }
            LoadError::Unreadable { .. } => return None,
            LoadError::NotAFile { .. } => "Name the `.wasm` file itself.".into(),
            LoadError::LimitExceeded { limit: Limit::PluginBytes, .. } => format!(
                "Build it optimised for size, and strip its debug information. {}",
                raise(Limit::PluginBytes, None)
            ),
            LoadError::LimitExceeded { limit, .. } => raise(*limit, None),
            LoadError::Directory { .. } => return None,
            LoadError::NotWasm { .. } => {
                "A plugin is a component in binary form, as `cargo build --target wasm32-wasip2` writes it.".into()
            }
            LoadError::CoreModule { .. } => {
                "Build for `wasm32-wasip2`, which gives a component, or wrap the module with `wasm-tools component new`."
                    .into()
            }
            LoadError::Truncated { .. } => "Copy or build the file again: it was probably still being written.".into(),
            LoadError::Malformed { .. } | LoadError::ImportMismatch { .. } => {
                "Build it again with an SDK of this version of Tidemill.".into()
            }
            LoadError::BadPin { .. } => "`sha256sum PLUGIN.wasm` prints the digest.".into(),
            LoadError::DigestMismatch { .. } => {
                "Either the file was replaced, or the pin is of an older build. If the new file is right, change `sha256`."
                    .into()
            }
            LoadError::UnsupportedContract { .. } => {
                "Build the plugin with the SDK that came with this host, or use a host that speaks its contract.".into()
            }
            LoadError::UngrantedImport { grant: Some(grant), .. } => {
                format!("If the plugin is to be trusted with it, give its step `{}`.", grant.example())
            }
            LoadError::UngrantedImport { grant: None, .. } => {
                "No grant allows it: build the plugin without it. `wasi:http` is what a job can grant.".into()
            }
            LoadError::UnknownImport { .. } => {
                "A plugin may import `tidemill:operator/diagnostics` and the WASI 0.2 interfaces that a closed runtime \
                 needs: `wasi:cli`, `wasi:clocks`, `wasi:filesystem`, `wasi:io`, `wasi:random`; and `wasi:http`, if it is granted."
                    .into()
            }
            LoadError::Compile { .. } => "Is the file complete, and built for WebAssembly 2.0 or 3.0?".into(),
        })
    }
}
