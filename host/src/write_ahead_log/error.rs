//! Why the log of received rows cannot be used.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::checkpoint::Damage;
use crate::error::{Explain, Fault, Retry};

/// The log of received rows cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The disk failed.
    #[error("write-ahead log: `{}` could not be {doing}", path.display())]
    Storage {
        /// The file or folder.
        path: PathBuf,
        /// `read`, `written`, `brought to the disk`, `opened`, `locked`, `listed`, `deleted`.
        doing: &'static str,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// The beginning of a file is not as it was written.
    #[error("write-ahead log: `{}` is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Damage,
    },
    /// Rows in the middle of a file are not as they were written.
    #[error("write-ahead log: `{}` is damaged at byte {position}: {lost}", path.display())]
    DamagedFrame {
        /// The file.
        path: PathBuf,
        /// Where the first rows start that cannot be read.
        position: u64,
        /// The rows that cannot be read because of it.
        lost: String,
    },
    /// Rows that a batch was begun with are not there.
    #[error("write-ahead log `{}` lacks rows {start} to {end} of source `{name}`, with which a batch was begun", directory.display())]
    RowsMissing {
        /// The folder.
        directory: PathBuf,
        /// The source.
        name: String,
        /// The first of them.
        start: u64,
        /// Behind the last.
        end: u64,
    },
    /// Rows wait that are not what the source gives.
    #[error("write-ahead log `{}` has rows of source `{name}` with the columns {kept}, and the source has {now} now", directory.display())]
    OtherSchema {
        /// The folder.
        directory: PathBuf,
        /// The source.
        name: String,
        /// Columns of the rows.
        kept: String,
        /// Columns of the source.
        now: String,
    },
    /// Rows wait that nobody can be given.
    #[error("write-ahead log `{}` has rows of source `{name}` that no batch has had, and the job has no such source of received rows",
        directory.display())]
    NoReceiver {
        /// The folder.
        directory: PathBuf,
        /// The source.
        name: String,
    },
    /// The log is another checkpoint's.
    #[error("`{}` has the write-ahead log of another checkpoint", directory.display())]
    OtherCheckpoint {
        /// The folder.
        directory: PathBuf,
    },
    /// The folder has other things in it.
    #[error("`{}` has no write-ahead log, and is not empty: `{example}` is in it", directory.display())]
    Foreign {
        /// The folder.
        directory: PathBuf,
        /// Something that is in it.
        example: String,
    },
    /// Another process has it.
    #[error("write-ahead log `{}` is in use by another process", directory.display())]
    InUse {
        /// The folder.
        directory: PathBuf,
    },
}

impl Explain for LogError {
    fn fault(&self) -> Fault {
        match self {
            Self::OtherSchema { .. } | Self::NoReceiver { .. } | Self::OtherCheckpoint { .. } => Fault::User,
            Self::Foreign { .. } | Self::InUse { .. } => Fault::User,
            _ => Fault::External,
        }
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<String> {
        let with_rows_lost = "To go on without these rows, move the file away: the job then says which rows are lost, and goes on \
                              unless a batch was begun with them.";
        Some(match self {
            Self::Storage { doing: "brought to the disk", .. } => {
                "The disk did not keep what was written. Check it, and start the job again: rows that were not in a batch yet and not \
                 on the disk are lost."
                    .into()
            }
            Self::Storage { .. } => {
                "Check that `wal-directory` of `[job]`, or else `wal` in its checkpoint, is a folder that can be read and written."
                    .into()
            }
            Self::Damaged { source: Damage::Newer { .. }, .. } => {
                "Run the job with the Tidemill that wrote it, or a newer one.".into()
            }
            Self::Damaged { .. } | Self::DamagedFrame { .. } => format!("Bring the file back from a copy. {with_rows_lost}"),
            Self::RowsMissing { .. } => {
                "Bring the files of the log back from a copy, or from the machine that wrote them. Without them the job can only start \
                 anew, with another `checkpoint`."
                    .into()
            }
            Self::OtherSchema { .. } => {
                "Give the source its columns back, and run the job until these rows are through; or start anew with another `checkpoint`."
                    .into()
            }
            Self::NoReceiver { .. } => {
                "Give the source its name and type back, and run the job until these rows are through; or start anew with another \
                 `checkpoint`."
                    .into()
            }
            Self::OtherCheckpoint { .. } | Self::Foreign { .. } => {
                "Let `wal-directory` of `[job]` name a folder of its own, which is empty at first.".into()
            }
            Self::InUse { .. } => "Stop the other one first, or give this job a `wal-directory` of its own.".into(),
        })
    }
}

impl LogError {
    /// For `map_err`: what could not be done with a file.
    pub(super) fn storage(path: &std::path::Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Storage { path, doing, source: Arc::new(source) }
    }
}
