//! What goes wrong when a project is made or built.

use std::path::PathBuf;

use crate::authoring::Language;
use crate::authoring::encode::EncodeError;
use crate::error::{Explain, Fault};
use crate::operator::Role;
use crate::plugin::LoadError;

/// Why a project is not made or built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthoringError {
    /// A file or folder could not be read or written.
    #[error("{doing} `{}`", path.display())]
    File {
        /// As in "cannot write".
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The name of a project is none.
    #[error("{0}")]
    Name(String),
    /// There are files where the project would stand.
    #[error("there are files in `{}` already", folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// This build of Tidemill has no SDK of the language.
    #[error("this build of Tidemill has no SDK for {language} with a {role}")]
    NoTemplate {
        /// The language.
        language: Language,
        /// The role.
        role: Role,
    },
    /// A program that a build needs is not there.
    #[error("{what} is needed to build an operator in {language}, and it was not found")]
    MissingTool {
        /// What is missing, as in "`cargo`".
        what: String,
        /// The language.
        language: Language,
        /// How it is installed: sentences.
        install: String,
    },
    /// A program of a build could not be started.
    #[error("`{command}` could not be started")]
    NotStarted {
        /// What was run.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program of a build failed; what it wrote follows.
    #[error("`{command}` failed ({status})\n\n{output}")]
    Failed {
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// A build ended well and made nothing.
    #[error("the build ended well, and {0}")]
    NothingBuilt(String),
    /// What a compiler made is no plugin.
    #[error("what was built from `{}` cannot be made a component", entry.display())]
    Encode {
        /// What was compiled.
        entry: PathBuf,
        /// Why.
        #[source]
        source: EncodeError,
    },
    /// What was built cannot be read as a plugin.
    #[error("what was built is no plugin")]
    NotAPlugin {
        /// Why.
        #[source]
        source: LoadError,
    },
    /// What was built does not have the roles that the project says.
    #[error("the project says that it is a {expected}, and what was built is {found}")]
    WrongRoles {
        /// The role that is missing.
        expected: Role,
        /// The roles it has, in words.
        found: String,
    },
}

impl Explain for AuthoringError {
    fn fault(&self) -> Fault {
        match self {
            AuthoringError::File { .. } | AuthoringError::NotStarted { .. } => Fault::External,
            _ => Fault::User,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            AuthoringError::NotEmpty { .. } => Some("Choose another name, or empty the folder.".into()),
            AuthoringError::MissingTool { install, .. } => Some(install.clone()),
            AuthoringError::WrongRoles { expected, .. } => Some(format!(
                "Change `role` in `operator.toml`, or export the functions of `tidemill:operator/{expected}`."
            )),
            AuthoringError::Encode { source, .. } => source.hint(),
            AuthoringError::NotAPlugin { source } => source.hint(),
            _ => None,
        }
    }
}
