//! What a source has seen so far: counters that grow, and the last thing that went wrong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Something a source has seen that is not a row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceNote {
    /// A connection was made.
    Connected,
    /// It failed, and is run again.
    Failed {
        /// Why, with causes.
        error: String,
    },
    /// A line was not valid UTF-8. It was replaced or dropped, as the source's options say.
    InvalidUtf8,
    /// A line was longer than allowed, and left out.
    LineTooLong,
    /// A line had no end when the connection broke or the source was stopped, and was left out.
    LineCut,
    /// A row could not be parsed, and was left out.
    RowRejected {
        /// Where it stood and why.
        reason: String,
    },
    /// An object, such as a file, cannot be read at all, and was left out.
    ObjectRefused {
        /// Which and why.
        reason: String,
    },
}

/// What a source has seen so far, shared with whoever shows it.
///
/// Each counter is an atomic of its own: they are written on the data path, read some times a second, and need not
/// agree with one another to the row. The texts have a mutex, because they change only when something goes wrong.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// What the source is, for the log.
    place: String,
    rows: AtomicU64,
    bytes: AtomicU64,
    connections: AtomicU64,
    failures: AtomicU64,
    invalid_utf8_lines: AtomicU64,
    refused_lines: AtomicU64,
    cut_lines: AtomicU64,
    rejected_rows: AtomicU64,
    refused_objects: AtomicU64,
    waited_us: AtomicU64,
    texts: Mutex<Texts>,
}

#[derive(Debug, Default, Clone)]
struct Texts {
    last_error: Option<String>,
    last_rejection: Option<String>,
}

/// What a source has seen up to some moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct SourceSnapshot {
    /// Rows received or read. A range that is read again counts again.
    pub rows: u64,
    /// Their bytes in memory.
    pub bytes: u64,
    /// Connections made: one more than the reconnects.
    pub connections: u64,
    /// Failures after which it was run again.
    pub failures: u64,
    /// Lines that were not valid UTF-8, replaced or dropped.
    pub invalid_utf8_lines: u64,
    /// Lines longer than allowed, left out.
    pub refused_lines: u64,
    /// Lines without an end when a connection broke or the source was stopped, left out.
    pub cut_lines: u64,
    /// Rows that could not be parsed, left out.
    pub rejected_rows: u64,
    /// Files and the like that cannot be read at all, left out.
    pub refused_objects: u64,
    /// How long it waited for room in the block store, which is back-pressure, and for the disk of the write-ahead log.
    pub waited: Duration,
    /// The last failure, with causes.
    pub last_error: Option<String>,
    /// The last rejected row or refused object, with the reason.
    pub last_rejection: Option<String>,
}

impl SourceCounters {
    /// Counters of a source that logs call `place`.
    #[must_use]
    pub fn new(place: impl Into<String>) -> Self {
        Self { place: place.into(), ..Self::default() }
    }

    /// What has been seen so far.
    #[must_use]
    pub fn snapshot(&self) -> SourceSnapshot {
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SourceSnapshot {
            rows: read(&self.rows),
            bytes: read(&self.bytes),
            connections: read(&self.connections),
            failures: read(&self.failures),
            invalid_utf8_lines: read(&self.invalid_utf8_lines),
            refused_lines: read(&self.refused_lines),
            cut_lines: read(&self.cut_lines),
            rejected_rows: read(&self.rejected_rows),
            refused_objects: read(&self.refused_objects),
            waited: Duration::from_micros(read(&self.waited_us)),
            last_error: texts.last_error,
            last_rejection: texts.last_rejection,
        }
    }

    /// Counts something that is not a row.
    ///
    /// What was left out is logged the 1st, 2nd, 4th, 8th … time, so that a flood of it does not flood the log.
    pub fn note(&self, note: SourceNote) {
        let place = self.place.as_str();
        match note {
            SourceNote::Connected => {
                self.connections.fetch_add(1, Ordering::Relaxed);
                tracing::info!(target: "tidemill::source", source = place, "connected");
            }
            SourceNote::Failed { error } => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.texts.lock().unwrap_or_else(PoisonError::into_inner).last_error = Some(error);
            }
            SourceNote::InvalidUtf8 => self.left_out(&self.invalid_utf8_lines, "line is not valid UTF-8", None),
            SourceNote::LineTooLong => self.left_out(&self.refused_lines, "line is longer than `max-line-bytes`", None),
            SourceNote::LineCut => self.left_out(&self.cut_lines, "last line has no end and was left out", None),
            SourceNote::RowRejected { reason } => self.left_out(&self.rejected_rows, "row rejected", Some(reason)),
            SourceNote::ObjectRefused { reason } => self.left_out(&self.refused_objects, "file refused", Some(reason)),
        }
    }

    fn left_out(&self, counter: &AtomicU64, what: &'static str, reason: Option<String>) {
        let n_seen = counter.fetch_add(1, Ordering::Relaxed) + 1;
        if n_seen.is_power_of_two() {
            let reason = reason.as_deref().unwrap_or("");
            tracing::warn!(target: "tidemill::source", source = self.place, n_seen, reason, "{what}");
        }
        if reason.is_some() {
            self.texts.lock().unwrap_or_else(PoisonError::into_inner).last_rejection = reason;
        }
    }

    /// Counts rows that were received or read.
    pub fn add_rows(&self, n_rows: u64, n_bytes: u64) {
        self.rows.fetch_add(n_rows, Ordering::Relaxed);
        self.bytes.fetch_add(n_bytes, Ordering::Relaxed);
    }

    pub(super) fn add_wait(&self, waited: Duration) {
        // Half a million years of waiting fit.
        self.waited_us.fetch_add(waited.as_micros() as u64, Ordering::Relaxed);
    }

    pub(super) fn n_rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_note_has_its_counter() {
        let counters = SourceCounters::new("lines");
        counters.note(SourceNote::Connected);
        counters.note(SourceNote::Failed { error: "refused".into() });
        counters.note(SourceNote::InvalidUtf8);
        counters.note(SourceNote::InvalidUtf8);
        counters.note(SourceNote::LineTooLong);
        counters.note(SourceNote::LineCut);
        counters.note(SourceNote::RowRejected { reason: "not JSON".into() });
        counters.note(SourceNote::ObjectRefused { reason: "a.gz".into() });
        counters.add_rows(3, 100);
        counters.add_wait(Duration::from_millis(5));
        let expected = SourceSnapshot {
            rows: 3,
            bytes: 100,
            connections: 1,
            failures: 1,
            invalid_utf8_lines: 2,
            refused_lines: 1,
            cut_lines: 1,
            rejected_rows: 1,
            refused_objects: 1,
            waited: Duration::from_millis(5),
            last_error: Some("refused".into()),
            last_rejection: Some("a.gz".into()),
        };
        assert_eq!(counters.snapshot(), expected);
    }
}
