//! Station 1: where rows come from.
//!
//! A job names sources by a [`SourceDefinition`], which says what schema they have and opens them. An open source is
//! either a [`Receiver`], pushed to and read once, or a [`Replayable`], read by offset range as often as needed.
//!
//! ```text
//!  Receiver, on a thread of its own ── Intake::push ──▶ block store ──▶ blocks of a batch
//!  Replayable ── plan_batch ──▶ offset ranges of a batch ── read_range, in the batch's tasks ──▶ rows
//! ```

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::Error;
use crate::job::table::Table;

pub use counters::{SourceCounters, SourceNote, SourceSnapshot};
pub use error::SourceError;
pub use file::{
    Columns, FileFormat, FileSource, Fingerprint, Inferred, TableRead, fingerprint, read_table, read_table_within,
};
pub use format::{CsvOptions, LineFormat};
pub use generator::{GeneratorKind, GeneratorSource};
pub use intake::{Intake, PushError};
pub use lines::{InvalidUtf8, LINE_BYTES_LIMIT, LineOptions, text_schema};
pub use reject::{BadRows, REJECTED, VALUE_BYTES_MAX, dead_letter_schema, physical_schema};
pub use socket::SocketSource;
pub use stdin::StdinSource;
pub use supervisor::{BACKOFF_MAX, BACKOFF_MIN, ReceiverHandle, ReceiverSettings, SourceEvent, SourceObserver};

mod counters;
mod error;
mod file;
mod format;
pub mod generator;
mod intake;
mod lines;
mod reject;
pub mod schema;
mod socket;
mod stdin;
mod supervisor;
pub mod table;

/// The values of `type` in a `[[source]]` of a job file.
pub const SOURCE_TYPES: &[&str] = &["socket", "file", "stdin", "generator"];

/// Reads the options of a source of one of [`SOURCE_TYPES`].
///
/// `None` when the type is not one of them, or when the options are wrong: then the mistakes are in the table's problems.
pub fn parse_definition(type_name: &str, table: &mut Table<'_>) -> Option<Arc<dyn SourceDefinition>> {
    fn shared<D: SourceDefinition + 'static>(definition: D) -> Arc<dyn SourceDefinition> {
        Arc::new(definition)
    }
    match type_name {
        "socket" => SocketSource::parse(table).map(shared),
        "file" => FileSource::parse(table).map(shared),
        "stdin" => StdinSource::parse(table).map(shared),
        "generator" => GeneratorSource::parse(table).map(shared),
        _ => None,
    }
}

/// Whether a table is that of a source of a type that sets rejected rows aside, and names the stream that has them.
pub(crate) fn may_have_dead_letter(table: &mut Table<'_>) -> bool {
    let reads_rows = matches!(table.text_if_text("type").as_deref(), Some("socket" | "file" | "stdin"));
    reads_rows && table.has("dead-letter")
}

/// What a job says about a source: its options, checked, and how to open it.
///
/// Implement it for a source of your own and give it to `Context::source`.
pub trait SourceDefinition: Send + Sync + fmt::Debug {
    /// The `type` in a job file, as in `socket`.
    fn type_name(&self) -> &str;

    /// The schema of the rows, known before the job starts.
    ///
    /// # Errors
    ///
    /// When the options do not say what it is.
    fn schema(&self) -> Result<SchemaRef, Error>;

    /// The name of the stream that gets rows that could not be read, if they are set aside. What the source gives then has
    /// [`physical_schema`] of its [`schema`](Self::schema).
    fn dead_letter(&self) -> Option<&str> {
        None
    }

    /// One line for people, as in `127.0.0.1:9999`.
    fn describe(&self) -> String;

    /// Whether the source ends by itself, so that `trigger = "available-now"` can drain it. A source that waits for
    /// more for ever is refused with that trigger.
    fn ends(&self) -> bool;

    /// Whether it opens as a [`Receiver`], whose rows can be had once: then `durability` says what of them a crash may lose. Only
    /// what a job file may say depends on it.
    fn is_pushed_to(&self) -> bool {
        true
    }

    /// Opens the source. Called once, when the job starts.
    ///
    /// # Errors
    ///
    /// When what it reads is not there and never will be: a missing directory, a malformed address. What may still
    /// appear, like a server that is down, is for the receiver to wait for.
    fn open(&self) -> Result<OpenSource, Error>;
}

/// A source that has been opened.
pub enum OpenSource {
    /// Pushed to.
    Receiver(Box<dyn Receiver>),
    /// Read by offset range.
    Replayable(Box<dyn Replayable>),
}

/// A source that is pushed to and cannot be read again.
///
/// [`run`](Receiver::run) has a thread of its own. When it fails it is run again after a pause, which doubles from one
/// failure to the next; when it returns `Ok` the source has ended.
pub trait Receiver: Send {
    /// Receives rows and pushes them until [`Intake::is_stopping`], the end, or an error.
    ///
    /// Whatever blocks must look at `is_stopping` at least every 100 ms.
    ///
    /// # Errors
    ///
    /// What broke; the receiver is run again. Rows pushed before it stay received.
    fn run(&mut self, intake: &Intake) -> Result<(), Error>;

    /// Whether running it again after an error may help. Where it cannot, the job fails with the error: the source has not
    /// ended, and what is left of it is lost.
    fn can_run_again(&self) -> bool {
        true
    }
}

/// A slice of a replayable source: what one task reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetRange {
    /// What is read: a file's path, a topic's partition.
    pub object: String,
    /// First offset.
    pub start: u64,
    /// Exclusive end.
    pub end: u64,
    /// What tells the object from another that takes its name later, if the source can tell.
    pub identity: Option<u128>,
}

/// How much a batch may take of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimit {
    /// The partitions it is to be cut into, where that is free to choose.
    pub partitions: u32,
}

/// What a replayable source has for the next batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlannedRead {
    /// In order; none when nothing is new. [`into_partitions`](Self::into_partitions) deals them out to tasks.
    pub ranges: Vec<OffsetRange>,
    /// Whether nothing is left of what was there when the source was opened, after these ranges: `available-now` ends.
    pub drained: bool,
}

impl PlannedRead {
    /// Deals the ranges out to at most `partitions` tasks: neighbours stay together and in order, and each task gets
    /// about as many offsets as any other. No task is without a range.
    #[must_use]
    pub fn into_partitions(self, partitions: u32) -> Vec<Vec<OffsetRange>> {
        let size = |range: &OffsetRange| u128::from(range.end.saturating_sub(range.start));
        let total: u128 = self.ranges.iter().map(size).sum::<u128>().max(1);
        let mut before = 0;
        let mut dealt: Vec<(u128, Vec<OffsetRange>)> = Vec::new();
        for range in self.ranges {
            // The task that owns the middle of the range, were all ranges one line of offsets.
            let middle = before + size(&range) / 2;
            before += size(&range);
            let task = middle * u128::from(partitions.max(1)) / total;
            match dealt.last_mut() {
                Some((last, ranges)) if *last == task => ranges.push(range),
                _ => dealt.push((task, vec![range])),
            }
        }
        dealt.into_iter().map(|(_, ranges)| ranges).collect()
    }
}

/// A source that is read by offset range: the same range always gives the same rows.
pub trait Replayable: Send + Sync {
    /// Decides what the next batch reads, and goes on from there. Called once a batch, on the scheduler's thread.
    ///
    /// # Errors
    ///
    /// What cannot be listed or read. The batch is not made; the call is made again for the next.
    fn plan_batch(&mut self, limit: BatchLimit) -> Result<PlannedRead, Error>;

    /// Goes on behind what an earlier run has read: every object once, up to its end. Called once, before the first batch is planned.
    ///
    /// # Errors
    ///
    /// When it cannot: what was read is not what the source has; or, unless a source says otherwise, it always begins anew.
    fn resume(&mut self, read: Vec<OffsetRange>) -> Result<(), Error> {
        if read.is_empty() { Ok(()) } else { Err(SourceError::NoResume.into()) }
    }

    /// A reader of ranges, shared by the tasks of all batches.
    fn reader(&self) -> Arc<dyn RangeReader>;

    /// Whether nothing will ever be added to what was planned, so that the source has ended whatever the trigger.
    fn has_ended(&self) -> bool {
        false
    }

    /// What was seen while planning and reading, if it is counted.
    fn counters(&self) -> Option<Arc<SourceCounters>> {
        None
    }
}

/// Reads offset ranges; from several tasks at once.
pub trait RangeReader: Send + Sync {
    /// Gives the rows of a range to `emit`, in order, some thousands at a time.
    ///
    /// # Errors
    ///
    /// What could not be read, or what `emit` said.
    fn read_range(
        &self,
        range: &OffsetRange,
        emit: &mut dyn FnMut(RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_dealt(sizes: &[u64], partitions: u32, expected: &[&[u64]]) {
        let range = |(index, size): (usize, &u64)| OffsetRange {
            object: index.to_string(),
            start: 0,
            end: *size,
            identity: None,
        };
        let planned = PlannedRead { ranges: sizes.iter().enumerate().map(range).collect(), drained: false };
        let ranges = planned.ranges.clone();
        let dealt = planned.into_partitions(partitions);
        let ends = |ranges: &Vec<OffsetRange>| ranges.iter().map(|range| range.end).collect::<Vec<_>>();
        assert_eq!(dealt.iter().map(ends).collect::<Vec<_>>(), expected);
        assert_eq!(dealt.concat(), ranges);
    }

    #[test]
    fn ranges_are_dealt_out_evenly_and_in_order() {
        check_dealt(&[], 4, &[]);
        check_dealt(&[10], 4, &[&[10]]);
        check_dealt(&[10, 10, 10, 10], 2, &[&[10, 10], &[10, 10]]);
        check_dealt(&[10, 10, 5, 5, 10, 10, 10], 3, &[&[10, 10], &[5, 5, 10], &[10, 10]]);
        check_dealt(&[0, 0], 4, &[&[0, 0]]);
        check_dealt(&[1, 1], 0, &[&[1, 1]]);
    }
}
