//! Why a checkpoint cannot be used.

use std::io;

use super::record::Damage;
use super::recovery::Gap;
use crate::error::{Explain, Fault, Retry};

/// A checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The place that it is kept in failed.
    #[error("checkpoint `{place}`: `{name}` could not be {doing}")]
    Storage {
        /// The checkpoint.
        place: String,
        /// The file.
        name: String,
        /// `read`, `written`, `listed`, `deleted`, `opened`, `locked`, `renewed`.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not as it was written.
    #[error("checkpoint `{place}`: `{name}` is damaged")]
    Damaged {
        /// The checkpoint.
        place: String,
        /// The file.
        name: String,
        /// What is wrong with it.
        #[source]
        source: Damage,
    },
    /// A file that is needed is not there.
    #[error("checkpoint `{place}`: `{name}` is missing")]
    Missing {
        /// The checkpoint.
        place: String,
        /// The file.
        name: String,
    },
    /// There is no checkpoint.
    #[error("there is no checkpoint in `{place}`")]
    NotThere {
        /// The folder.
        place: String,
    },
    /// The folder has other things in it.
    #[error("`{place}` is no checkpoint, and not empty: `{example}` is in it")]
    Foreign {
        /// The folder.
        place: String,
        /// Something that is in it.
        example: String,
    },
    /// Batches are missing.
    #[error("checkpoint `{place}` has a gap")]
    Gap {
        /// The checkpoint.
        place: String,
        /// Which.
        #[source]
        source: Gap,
    },
    /// Another process has it.
    #[error("checkpoint `{place}` is in use by another process{}", in_brackets(.by))]
    InUse {
        /// The checkpoint.
        place: String,
        /// Which, in words, if that is known.
        by: Option<String>,
    },
    /// Another process has taken it from this one.
    #[error("checkpoint `{place}` was taken over by another process{}", in_brackets(.by))]
    Taken {
        /// The checkpoint.
        place: String,
        /// Which, in words, if that is known.
        by: Option<String>,
    },
    /// The job was stopped while it waited for the checkpoint.
    #[error("the job was stopped while it waited for checkpoint `{place}`")]
    GivenUp {
        /// The checkpoint.
        place: String,
    },
    /// An old batch is not kept any more.
    #[error("checkpoint `{place}` has not kept {what}")]
    NotKept {
        /// The checkpoint.
        place: String,
        /// What is not there.
        what: String,
        /// The batches that could be named: the first and the last; `None`: there are none.
        kept: Option<(u64, u64)>,
    },
    /// The job is not the one that the checkpoint is of.
    #[error("the job does not fit its checkpoint `{place}`: {what}")]
    OtherJob {
        /// The checkpoint.
        place: String,
        /// What differs.
        what: String,
        /// What can be done.
        hint: String,
    },
}

fn in_brackets(by: &Option<String>) -> String {
    by.as_ref().map_or_else(String::new, |by| format!(" ({by})"))
}

impl Explain for CheckpointError {
    fn fault(&self) -> Fault {
        match self {
            Self::OtherJob { .. }
            | Self::InUse { .. }
            | Self::NotThere { .. }
            | Self::NotKept { .. }
            | Self::Foreign { .. } => Fault::User,
            _ => Fault::External,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Storage { source, .. } if may_pass(source) => Retry::WithBackoff,
            _ => Retry::Never,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Storage { doing: "written", source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "Free some space: the job goes on by itself.".into()
            }
            Self::Storage { place, .. } if place.contains("://") => {
                "Check the URL in `checkpoint` of `[job]`, the credentials, and that they allow to list, read, write and delete."
                    .into()
            }
            Self::Storage { .. } => {
                "Check that `checkpoint` of `[job]` names a folder that can be read and written.".into()
            }
            Self::Damaged { source: Damage::Newer { .. }, .. } => {
                "Run it with the Tidemill that wrote it, or a newer one.".into()
            }
            Self::Damaged { source: Damage::Foreign, .. } | Self::Foreign { .. } => {
                "Let `checkpoint` of `[job]` name a folder of its own, which is empty at first.".into()
            }
            Self::NotThere { .. } => "Name the folder that `checkpoint` of `[job]` names.".into(),
            Self::Damaged { .. } | Self::Missing { .. } | Self::Gap { .. } => {
                "Bring the files back from a copy. Without them the job can only start anew, with another `checkpoint`."
                    .into()
            }
            Self::InUse { .. } => "Stop the other one first, or give this job a checkpoint of its own. With `--standby` it waits until \
                                   the other one ends."
                .into(),
            Self::Taken { .. } => "This process stood still, or did not reach the store, for longer than `checkpoint-lease`; the other \
                                   one goes on with the job."
                .into(),
            Self::GivenUp { .. } => return None,
            Self::NotKept { kept: Some((first, last)), .. } => {
                let kept = if first == last { format!("Batch {first}") } else { format!("Batches {first} to {last}") };
                format!("{kept} can be named; `checkpoint-batches` of `[job]` says how many are kept.")
            }
            Self::NotKept { kept: None, .. } => "No batch of it can be named.".into(),
            Self::OtherJob { hint, .. } => hint.clone(),
        })
    }
}

/// Whether trying again may help: not where rights or the path are wrong.
pub(crate) fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    !matches!(
        error.kind(),
        InvalidInput | IsADirectory | NotADirectory | PermissionDenied | ReadOnlyFilesystem | Unsupported
    )
}
