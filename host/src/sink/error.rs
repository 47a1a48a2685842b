//! What goes wrong with the built-in sinks.

use std::io;
use std::path::PathBuf;

use arrow::error::ArrowError;

use crate::error::{Explain, Fault, Retry};
use crate::ids::BatchId;

/// What goes wrong with the built-in sinks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// An option of the sink makes no sense.
    #[error("{message}")]
    Option {
        /// What is wrong with which option.
        message: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// Rows of this schema cannot be written in the format.
    #[error("rows cannot be written as {format}: {reason}")]
    Schema {
        /// The format, as in `text`.
        format: &'static str,
        /// Which column, and why.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// Rows could not be put into the format, although their schema could.
    #[error("cannot write rows as {format}")]
    Format {
        /// The format.
        format: &'static str,
        /// What arrow says.
        #[source]
        source: ArrowError,
    },
    /// Nobody reads the output any more.
    #[error("{output} was closed by whoever read it")]
    Closed {
        /// As in "standard output".
        output: String,
    },
    /// The disk is full, or a quota is used up.
    #[error("no space is left for `{path}`")]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Something could not be written.
    #[error("cannot write {what}")]
    Write {
        /// What, as in "`out/batch-0000000001-part-0000.jsonl`".
        what: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The directory of a file sink is no directory, or cannot be made or listed.
    #[error("`{path}` cannot be used as a directory")]
    Directory {
        /// The path.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The directory has batches of an earlier run.
    #[error("`{path}` has batches of an earlier run, such as `{example}`")]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        example: String,
    },
    /// The directory has a batch that the checkpoint knows nothing of.
    #[error("`{path}` has batch {batch_id}, and the checkpoint is older than that")]
    AheadOfCheckpoint {
        /// The directory.
        path: PathBuf,
        /// The batch.
        batch_id: BatchId,
    },
    /// A value is too long for the name of a folder.
    #[error(
        "a value of column `{column}` makes the name of a folder {name_bytes} bytes long, and file systems take 255"
    )]
    LongValue {
        /// The column.
        column: String,
        /// How long the name would be.
        name_bytes: usize,
    },
    /// Another sink, of this job or another, writes to the directory.
    #[error("`{path}` is being written to by another job or sink")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A task gave a sink what another sink prepared.
    #[error("what was prepared for another sink was published to `{sink}`")]
    Foreign {
        /// The sink's type.
        sink: &'static str,
    },
}

impl SinkError {
    /// What a failed write to `path` means.
    pub(super) fn write_file(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, source },
            _ => Self::Write { what: format!("`{}`", path.display()), source },
        }
    }
}

impl Explain for SinkError {
    fn fault(&self) -> Fault {
        match self {
            Self::Option { .. }
            | Self::Schema { .. }
            | Self::Occupied { .. }
            | Self::AheadOfCheckpoint { .. }
            | Self::LongValue { .. } => Fault::User,
            Self::Foreign { .. } | Self::Format { .. } => Fault::Host,
            _ => Fault::External,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::DiskFull { .. } => Retry::UntilItPasses,
            Self::Write { .. } => Retry::WithBackoff,
            _ => Retry::Never,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Option { hint, .. } => hint.clone(),
            Self::Schema { hint, .. } => Some(hint.clone()),
            Self::Closed { .. } => Some("Whatever read it has ended; the job stops, as nobody sees its rows.".into()),
            Self::DiskFull { .. } => {
                Some("Free some space: the job goes on by itself. Nothing of the batch is visible.".into())
            }
            Self::Directory { .. } => Some("`path` must name a directory that may be written to, or made.".into()),
            Self::Occupied { .. } => Some(
                "Batches are numbered from 0 in every run, and would replace them. Move them away, let `path` name \
                 another directory, or set `overwrite = true` to delete them when the job starts."
                    .into(),
            ),
            Self::AheadOfCheckpoint { .. } => Some(
                "The checkpoint is that of another run, or was put back from a copy. Start anew with another `checkpoint` \
                 and another `path`, or put back both."
                    .into(),
            ),
            Self::LongValue { .. } => {
                Some("Name columns of short values in `partition-by`, or cut the value in a step before.".into())
            }
            Self::InUse { .. } => Some("Each sink needs a directory of its own.".into()),
            Self::Write { .. } | Self::Foreign { .. } | Self::Format { .. } => None,
        }
    }
}
