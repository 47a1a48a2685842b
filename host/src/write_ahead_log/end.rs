//! What the log knows of its end, beside its files: so that a last file that is gone, or has lost its end, is noticed.
//!
//! ```text
//! wal/end   {"log":"9e37…","newest":7,"next":8,"sources":[{"source":"lines","end_row":1200}]}
//! ```
//!
//! It is written when a file was begun, before rows are written to it: the files before it are closed and on the disk by then, up to
//! these rows. And when a job has ended, and again when a job goes on without rows that are lost. What was received since the last of
//! these, batches say: each with how far the log was on the disk when it began (`checkpoint/log.rs`). What came after both in a file
//! that is gone altogether, nobody knows of.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::LogError;
use super::retention::{RowRange, unread};
use crate::checkpoint::record::{self, Kind};
use crate::checkpoint::{Directory, Storage};
use crate::fail_point;

/// The name of the file, in the log's folder.
pub(super) const END_NAME: &str = "end";

/// What its checksum calls it.
const RECORD_NAME: &str = "wal/end";

/// How far the log has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogEnd {
    /// The log that it is of.
    pub(super) log: String,
    /// A segment that was begun; `None`: it is known to be gone, and so are those before it.
    pub(super) newest: Option<u64>,
    /// No segment had this number yet, nor a larger one.
    pub(super) next: u64,
    pub(super) sources: Vec<SourceEnd>,
}

/// How far the rows of a source have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SourceEnd {
    pub(super) source: String,
    /// The number behind the last row that is known to have been on the disk.
    pub(super) end_row: u64,
    /// Rows before this one that are not there were given up when the job went on without them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) given_up: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl LogEnd {
    /// Reads it; `None`: there is none, as of a log that was written by an older Tidemill, or has no files yet.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is damaged.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, LogError> {
        let path = directory.join(END_NAME);
        let bytes = Directory::at(directory).get(END_NAME).map_err(LogError::storage(&path, "read"))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let damaged = |source| LogError::Damaged { path: path.clone(), source };
        let payload = record::decode(Kind::WalEnd, RECORD_NAME, &bytes).map_err(damaged)?;
        let read = serde_json::from_slice(payload);
        read.map(Some).map_err(|error| damaged(record::Damage::Content { what: error.to_string() }))
    }

    /// Writes it over what was there. When it returns, it outlives the machine's power.
    pub(super) fn write(&self, directory: &Path) -> std::io::Result<()> {
        let json = serde_json::to_vec(self).unwrap_or_else(|error| unreachable!("records are plain data: {error}"));
        Directory::at(directory).put(END_NAME, &record::encode(Kind::WalEnd, RECORD_NAME, &json))?;
        fail_point::pass("wal-end-written");
        Ok(())
    }

    /// What is known of a source.
    fn of(&self, source: &str) -> Option<&SourceEnd> {
        self.sources.iter().find(|of| of.source == source)
    }

    /// The number behind the last row of a source that is known to have been on the disk.
    pub(super) fn end_row(&self, source: &str) -> u64 {
        self.of(source).map_or(0, |of| of.end_row)
    }

    /// Rows of a source before this one that are not there have been given up.
    pub(super) fn given_up(&self, source: &str) -> u64 {
        self.of(source).map_or(0, |of| of.given_up)
    }

    /// The last segment, when it is not there. `newest` is the newest one that is.
    pub(super) fn missing_segment(&self, newest: Option<u64>) -> Option<u64> {
        self.newest.filter(|&begun| newest.is_none_or(|newest| newest < begun))
    }
}

/// Rows of a source that were received, are in no batch, and are not in the log any more; those that are known of. `frames` are there, in the
/// order of the log; `place` is behind the last row that a batch has had, `known_end` behind the last that is known to have been received.
/// Those before `given_up` are no news. Pure.
pub(super) fn lost_rows(
    frames: impl IntoIterator<Item = RowRange>,
    place: u64,
    known_end: u64,
    given_up: u64,
) -> Vec<RowRange> {
    // Behind the last that was received there is nothing, which is there.
    let frames = frames.into_iter().chain((known_end > place).then_some(RowRange { start: known_end, end: u64::MAX }));
    let (_, lost) = unread(frames, place);
    let news = |rows: RowRange| RowRange { start: rows.start.max(given_up), ..rows };
    lost.into_iter().map(news).filter(|rows| rows.start < rows.end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(frames: &[(u64, u64)], place: u64, known_end: u64, given_up: u64, expected: &[(u64, u64)]) {
        let frames = frames.iter().map(|&(start, end)| RowRange { start, end });
        let lost = lost_rows(frames, place, known_end, given_up);
        assert_eq!(lost.iter().map(|rows| (rows.start, rows.end)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn rows_that_are_known_of_and_not_there_are_lost() {
        check(&[(0, 10), (10, 20)], 0, 20, 0, &[]);
        check(&[(0, 10), (10, 20)], 0, 15, 0, &[]);
        // The end is gone: all of it, or some of what is in no batch yet.
        check(&[(0, 10)], 0, 20, 0, &[(10, 20)]);
        check(&[(0, 10)], 15, 20, 0, &[(15, 20)]);
        check(&[], 15, 20, 0, &[(15, 20)]);
        // What is gone was in batches.
        check(&[(0, 10)], 20, 20, 0, &[]);
        check(&[], 0, 0, 0, &[]);
        // The middle, and the end.
        check(&[(0, 10), (15, 20)], 5, 30, 0, &[(10, 15), (20, 30)]);
        // Some have been given up.
        check(&[(0, 10), (15, 20)], 5, 30, 20, &[(20, 30)]);
        check(&[(0, 10), (15, 20)], 5, 30, 25, &[(25, 30)]);
        check(&[(0, 10), (15, 20)], 5, 30, 30, &[]);
    }

    #[test]
    fn a_last_file_that_is_gone_is_noticed() {
        let end = |newest| LogEnd { newest, next: 8, ..LogEnd::default() };
        assert_eq!(end(Some(7)).missing_segment(Some(6)), Some(7));
        assert_eq!(end(Some(7)).missing_segment(None), Some(7));
        assert_eq!(end(Some(7)).missing_segment(Some(7)), None);
        // One was begun, and the process ended before it was noted.
        assert_eq!(end(Some(7)).missing_segment(Some(8)), None);
        assert_eq!(end(None).missing_segment(None), None);
    }

    #[test]
    fn it_is_what_was_written_or_damaged() {
        let place = tempfile::tempdir().expect("a folder");
        assert_eq!(LogEnd::read(place.path()).expect("no file"), None);
        let source = SourceEnd { source: "lines".into(), end_row: 1200, given_up: 3 };
        let end = LogEnd { log: "one".into(), newest: Some(7), next: 8, sources: vec![source] };
        end.write(place.path()).expect("a folder");
        assert_eq!(LogEnd::read(place.path()).expect("a file"), Some(end));
        let path = place.path().join(END_NAME);
        let mut bytes = std::fs::read(&path).expect("a file");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).expect("a file");
        assert!(matches!(LogEnd::read(place.path()), Err(LogError::Damaged { .. })));
    }
}
