//! Why state could not be read or written.

use std::path::PathBuf;

use crate::error::{Explain, Fault};

/// State could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The store on disk failed.
    #[error("the state of step `{step}` could not be {doing}")]
    Store {
        /// The step.
        step: String,
        /// `read`, `written`, `opened`.
        doing: &'static str,
        /// The folder that the store is in.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The folder for the store on disk could not be made.
    #[error("no folder for state can be made in `{path}`")]
    Folder {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What was read is not what was written.
    #[error("the state of step `{step}` is damaged: {what}")]
    Damaged {
        /// The step.
        step: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Explain for StateError {
    fn fault(&self) -> Fault {
        Fault::External
    }

    fn hint(&self) -> Option<String> {
        match self {
            StateError::Store { path, .. } => Some(format!(
                "Check the disk of `{}`: free space, rights, faults. Make room there, or set `state.path` to a folder on a \
                 larger disk; then start the job again.",
                path.display()
            )),
            StateError::Folder { .. } => Some("Set `state.path` to a folder that can be written.".into()),
            StateError::Damaged { .. } => None,
        }
    }
}
