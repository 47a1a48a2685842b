//! Why rows could not be spilled or read back.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::SpillUse;
use crate::error::{Explain, Fault, Retry};
use crate::job::units::format_size;

/// Rows could not be spilled or read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpillError {
    /// The folder for spilled rows could not be made.
    #[error("no folder for spilled rows can be made in `{path}`")]
    Folder {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The disk is full.
    #[error("the disk of `{path}` has no room for {} of rows that memory has no room for", format_size(*n_bytes))]
    DiskFull {
        /// The folder in which the job's folder is.
        path: PathBuf,
        /// Bytes that were to be written.
        n_bytes: u64,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The quota is used up.
    #[error("{} {} in `{path}` are {} on disk, and {} more exceed {}`spill.quota` of {}",
        if *used_for == SpillUse::Blocks { "received rows" } else { "spilled rows" },
        if *used_for == SpillUse::Blocks { "that wait" } else { "of the job" },
        format_size(*held_bytes), format_size(*n_bytes),
        if *used_for == SpillUse::Blocks { "half of the " } else { "the " }, format_size(*quota_bytes))]
    Quota {
        /// The folder in which the job's folder is.
        path: PathBuf,
        /// Of whose rows there are too many: of blocks in their half, or of all.
        used_for: SpillUse,
        /// Bytes that may be on disk.
        quota_bytes: u64,
        /// Bytes that count, and are there.
        held_bytes: u64,
        /// Bytes that were to be written.
        n_bytes: u64,
    },
    /// A file could not be written or read.
    #[error("spilled rows could not be {doing}: `{path}`")]
    File {
        /// `written`, `read`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// What was read is not what was written.
    #[error("spilled rows are damaged: {n_bytes} bytes from byte {offset} of `{path}` are not what was written")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where they begin.
        offset: u64,
        /// How many bytes.
        n_bytes: u64,
    },
    /// Rows could not be made bytes, or bytes rows.
    #[error("internal error while {doing} spilled rows")]
    Format {
        /// `encoding`, `decoding`.
        doing: &'static str,
        /// What arrow said.
        #[source]
        source: arrow::error::ArrowError,
    },
}

impl SpillError {
    /// What a failed write to the folder `parent` means.
    pub(super) fn of_write(parent: &Path, path: &Path, n_bytes: u64, source: std::io::Error) -> Self {
        if is_full(&source) {
            return SpillError::DiskFull { path: parent.into(), n_bytes, source };
        }
        SpillError::File { doing: "written", path: path.into(), source }
    }

    /// Why the job's folder could not be made.
    pub(super) fn of_folder(parent: &Path, source: std::io::Error) -> Self {
        if is_full(&source) {
            return SpillError::DiskFull { path: parent.into(), n_bytes: 0, source };
        }
        SpillError::Folder { path: parent.into(), source }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

impl Explain for SpillError {
    fn fault(&self) -> Fault {
        match self {
            SpillError::Format { .. } => Fault::Host,
            SpillError::Quota { .. } => Fault::User,
            _ => Fault::External,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            // Whoever runs the machine makes room, and nothing is lost meanwhile.
            SpillError::DiskFull { .. } => Retry::UntilItPasses,
            // The batch spills anew when it is run again; and rows that were read wrongly may be read well.
            SpillError::Quota { .. }
            | SpillError::Folder { .. }
            | SpillError::File { .. }
            | SpillError::Damaged { .. } => Retry::WithBackoff,
            SpillError::Format { .. } => Retry::Never,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            SpillError::Folder { .. } => "Set `spill.path` to a folder that can be written.".into(),
            SpillError::DiskFull { path, .. } => format!(
                "Make room on the disk of `{}`, or set `spill.path` to a folder on a larger disk.",
                path.display()
            ),
            SpillError::Quota { used_for: SpillUse::Blocks, .. } => {
                "The job is slower than what it receives. Raise `spill.quota`, if the disk has room.".into()
            }
            SpillError::Quota { .. } => {
                "Raise `spill.quota`, if the disk has room, or `spill.memory`; or make batches \
                 smaller, as with `max-bytes-per-batch` of a source of files."
                    .into()
            }
            SpillError::File { path, .. } | SpillError::Damaged { path, .. } => {
                let folder = path.parent().and_then(Path::parent).unwrap_or(path);
                format!(
                    "Check the disk of `{}`, and who else writes there, or set `spill.path` to a folder on another disk.",
                    folder.display()
                )
            }
            SpillError::Format { .. } => "This is a bug in Tidemill: please report it with the job file.".into(),
        })
    }
}
