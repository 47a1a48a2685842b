//! Tables: files whose rows a job holds in memory, to join streams with.
//!
//! ```text
//!  start ── open ──▶ version 1 ──┐        before each batch: have the files changed?
//!                                ├── current ◀── refresh ── no: the same version
//!                    version 2 ──┘                      └── yes: read them, swap
//! ```
//!
//! The law: all tasks of a batch see one version. A version is what the files held at one moment: when they change while
//! they are read, or cannot be read, or are more than it may hold, the version before it stays.

use std::time::Duration;

use super::FileSource;
use super::reject::BadRows;
use crate::job::table::Table;

pub use live::{LiveTable, TableVersion};

mod live;
#[cfg(test)]
mod tests;

/// A table: a file, the files of a directory, or those that match a pattern, all of them at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSource {
    /// The files, their format and columns. A row that cannot be read makes the whole table one that cannot be read, unless
    /// `bad_rows` says otherwise.
    pub files: FileSource,
    /// When it is looked whether the files have changed.
    pub refresh: Refresh,
    /// Bytes that its rows may take; see [`MEMORY_BYTES`].
    pub memory_bytes: u64,
}

/// Bytes that the rows of a table may take, unless a job says otherwise: as much as state may take before it moves to disk.
///
/// A table is there twice while it is read anew, and has an index for each join: at worst about three times this.
pub const MEMORY_BYTES: u64 = 512 << 20;

/// When a table is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refresh {
    /// Before each batch.
    #[default]
    Batch,
    /// Before the first batch that starts so long after it was looked at last.
    Every(Duration),
    /// Never: it is read when the job starts.
    Never,
}

impl TableSource {
    /// A table of these files, looked at before each batch. Bad rows are errors.
    #[must_use]
    pub fn new(files: FileSource) -> Self {
        Self {
            files: FileSource { bad_rows: BadRows::Fail, ..files },
            refresh: Refresh::Batch,
            memory_bytes: MEMORY_BYTES,
        }
    }

    /// Reads the options of files, and `refresh`.
    pub fn parse(table: &mut Table<'_>) -> Option<Self> {
        let refresh = read_refresh(table);
        let memory_bytes = table.size("memory");
        if memory_bytes == Some(0) {
            table.problem("memory", "`memory` must be more than 0", None);
        }
        let format_is_missing = !table.has("format");
        let files = FileSource::parse(table);
        if format_is_missing {
            table.missing("format", Some("Formats: `csv`, `json`, `parquet`, `arrow`, `text`.".into()));
        }
        for key in ["max-files-per-batch", "max-bytes-per-batch"] {
            if table.has(key) {
                table.problem(key, format!("`{key}` does not go with a table, which is read whole"), None);
            }
        }
        let mut files = files?;
        match &files.bad_rows {
            BadRows::DeadLetter(_) => {
                let hint = Some("Write `on-error = \"fail\"` or `\"drop\"`.".into());
                table.problem("on-error", "a table has no dead letters", hint);
            }
            BadRows::Drop if !table.has("on-error") => files.bad_rows = BadRows::Fail,
            BadRows::Drop | BadRows::Fail => {}
        }
        Some(Self { files, refresh: refresh?, memory_bytes: memory_bytes.unwrap_or(MEMORY_BYTES) })
    }
}

fn read_refresh(table: &mut Table<'_>) -> Option<Refresh> {
    table.know("refresh");
    if !table.has("refresh") {
        return Some(Refresh::Batch);
    }
    match table.text("refresh")?.as_str() {
        "batch" => Some(Refresh::Batch),
        "never" => Some(Refresh::Never),
        text if text.starts_with(|first: char| first.is_ascii_digit()) => {
            let interval = table.duration("refresh")?;
            Some(if interval.is_zero() { Refresh::Batch } else { Refresh::Every(interval) })
        }
        text => {
            let message = format!("`refresh` cannot be `{text}`");
            table.problem("refresh", message, Some("Choices: `batch`, `never`, or a duration as in `5m`.".into()));
            None
        }
    }
}
