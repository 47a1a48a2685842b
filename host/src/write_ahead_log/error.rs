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
    /// Rows that no batch has had were in the log, and are not there any more.
    #[error("write-ahead log `{}` is not as it was left: {}", directory.display(), in_words(file.as_deref(), rows, ends))]
    RowsLost {
        /// The folder.
        directory: PathBuf,
        /// The name of its last file, if that is gone.
        file: Option<String>,
        /// Which rows, as far as that is known.
        rows: Vec<LostRange>,
        /// Sources of which rows are gone that batches have had, and those behind them may be: nobody knows.
        ends: Vec<String>,
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

/// Rows of a source that are gone, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRange {
    /// The source.
    pub source: String,
    /// The first of them.
    pub start: u64,
    /// Behind the last that is known of.
    pub end: u64,
}

/// What a log lacks.
fn in_words(file: Option<&str>, rows: &[LostRange], ends: &[String]) -> String {
    let file = file.map(|file| format!("file `{file}`, its last, is not there"));
    let rows = rows.iter().map(|LostRange { source, start, end }| {
        format!("at least {} rows of source `{source}` that no batch has had are gone, {start} to {end}", end - start)
    });
    let ends = ends.iter().map(|source| {
        format!("rows of source `{source}` that batches have had are gone, and those that came after them may be")
    });
    file.into_iter().chain(rows).chain(ends).collect::<Vec<_>>().join("; ")
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
        let skip = "start it once with `--set job.lost-rows=skip`";
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
            Self::Damaged { .. } | Self::DamagedFrame { .. } => format!(
                "Bring the file back from a copy. To go on without the rows in it, move the file away and {skip}: the job says which \
                 rows it knows are lost, and goes on unless a batch was begun with them."
            ),
            Self::RowsLost { .. } => format!(
                "Bring the files of the log back from a copy, or from the machine that wrote them. To let the job go on without these rows, \
                 {skip}. What was received after the last batch had begun may be lost too, and is not counted."
            ),
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
