//! The logs of a checkpoint: what each batch reads, written before it runs, and that it is done, written after.
//!
//! ```text
//!  job                    what the job was when it last started
//!  wal/0000000007         rows that were received: see `write_ahead_log`
//!  wal/end                how far these have come: see `write_ahead_log/end.rs`
//!  lease                  who has the checkpoint, where nothing can be locked: see `lease`
//!  offsets/0000000012     what batch 12 reads
//!  state/0000000012-0000000012.0000   what it has changed: see `run`
//!  commits/0000000012     that it is done: its rows are in the sinks, and these runs are the state
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::source::OffsetRange;
use crate::write_ahead_log::RECEIVED;

/// What a batch reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offsets {
    pub(crate) batch_id: u64,
    pub(crate) batch_time_us: i64,
    /// Whether the batch completes what steps keep open.
    pub(crate) closes: bool,
    /// What it reads of each source, in the order of the job.
    pub(crate) sources: Vec<SourceOffsets>,
}

/// What a batch reads of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceOffsets {
    pub(crate) source: String,
    /// Ranges of a source that can be read again, one list a partition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) partitions: Vec<Vec<Range>>,
    /// Rows that were pushed, and are in memory alone. Those of a write-ahead log are ranges of the numbers of rows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) rows_received: u64,
    /// How far the write-ahead log had come with it; `None`: it has no rows there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<LogPlace>,
}

/// How far the write-ahead log has come with a source when a batch begins, in numbers of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogPlace {
    /// Behind the last row that this batch or one before it has.
    pub(crate) taken: u64,
    /// Behind the last that is on the disk.
    pub(crate) on_disk: u64,
}

impl SourceOffsets {
    /// The numbers of the rows of a write-ahead log that it reads: the first, and the one behind the last. `None`: it reads none.
    pub(crate) fn received(&self) -> Option<(u64, u64)> {
        let ranges =
            || self.partitions.iter().flatten().filter(|range| range.object == RECEIVED && range.identity.is_none());
        Some((ranges().map(|range| range.start).min()?, ranges().map(|range| range.end).max()?))
    }

    /// How far the log had come, as far as this tells.
    pub(crate) fn log_place(&self) -> Option<LogPlace> {
        // What an older Tidemill wrote says what the batch reads, and no more.
        self.log.or_else(|| self.received_end().map(|end| LogPlace { taken: end, on_disk: end }))
    }

    /// The number behind the last of these rows.
    pub(crate) fn received_end(&self) -> Option<u64> {
        self.received().map(|(_, end)| end)
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An [`OffsetRange`] as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    pub(crate) object: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// In hexadecimal: JSON has no numbers of 128 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
}

impl From<&OffsetRange> for Range {
    fn from(range: &OffsetRange) -> Self {
        let identity = range.identity.map(|identity| format!("{identity:032x}"));
        Self { object: range.object.clone(), start: range.start, end: range.end, identity }
    }
}

impl TryFrom<&Range> for OffsetRange {
    type Error = String;

    fn try_from(range: &Range) -> Result<Self, String> {
        let identity = range.identity.as_deref().map(|text| u128::from_str_radix(text, 16)).transpose();
        let identity = identity.map_err(|_| format!("the identity of `{}` is no number", range.object))?;
        Ok(Self { object: range.object.clone(), start: range.start, end: range.end, identity })
    }
}

/// That a batch is done, and what the job is then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commit {
    pub(crate) batch_id: u64,
    pub(crate) batch_time_us: i64,
    /// Whether it was the last batch of a job whose sources have ended.
    pub(crate) closes: bool,
    pub(crate) rows_in: u64,
    pub(crate) rows_out: u64,
    pub(crate) clocks: Clocks,
    /// The state: the oldest run first.
    pub(crate) runs: Vec<Run>,
    /// How many partitions the state of each step is in.
    pub(crate) partitions: BTreeMap<String, u32>,
    /// The batch has changed nothing, and neither have those before it from this one on, whose files are deleted; `None`: it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idle_from: Option<u64>,
}

/// What is known of a batch that is done and that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptCommit {
    pub(crate) batch_id: u64,
    /// The runs that make the state behind it.
    pub(crate) runs: Vec<Run>,
    /// See [`Commit::idle_from`].
    pub(crate) idle_from: Option<u64>,
}

impl Commit {
    /// The steps whose state is in another number of partitions than they have now, with that number.
    pub(crate) fn rescaled(&self, now: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
        let differs = |(step, n): &(&String, &u32)| now.get(*step).is_some_and(|now| now != *n);
        self.partitions.iter().filter(differs).map(|(step, &n)| (step.clone(), n)).collect()
    }
}

/// How far event time has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Clocks {
    pub(crate) first_batch_us: Option<i64>,
    /// For each watermark the largest time seen, and the time of the last batch in which a row came.
    pub(crate) watermarks: Vec<(Option<i64>, Option<i64>)>,
    /// For each clock what it said last: what is late, and what is complete.
    pub(crate) readings: Vec<(Option<i64>, Option<i64>)>,
}

/// What some batches in a row have changed of the state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The first of the batches.
    pub(crate) first: u64,
    /// The last of them.
    pub(crate) last: u64,
    /// Files it has.
    pub(crate) parts: u32,
    /// Bytes of them.
    pub(crate) n_bytes: u64,
    /// Whether it was merged of others: then each key is there once, and in order.
    pub(crate) is_merged: bool,
    /// Which of the runs of these batches it is: state is written anew when it is dealt out to other partitions.
    #[serde(default, skip_serializing_if = "is_first")]
    pub(crate) edition: u32,
    /// Which owner of the checkpoint has written it, where they have terms: what one that stood still writes late has another name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) term: u64,
}

fn is_first(edition: &u32) -> bool {
    *edition == 0
}

impl Run {
    /// The name of one of its files.
    pub(crate) fn part_name(&self, part: u32) -> String {
        let Self { first, last, edition, term, .. } = self;
        let of_edition = if *edition == 0 { String::new() } else { format!(".e{edition}") };
        let of_term = if *term == 0 { String::new() } else { format!(".term-{term}") };
        format!("state/{first:010}-{last:010}{of_edition}.{part:04}{of_term}")
    }

    /// The last batch of a run that has a file of this name in the folder `state`.
    pub(crate) fn last_of(file_name: &str) -> Option<u64> {
        file_name.split_once('-')?.1.split_once('.')?.0.parse().ok()
    }
}

pub(crate) fn offsets_name(batch_id: u64) -> String {
    format!("offsets/{batch_id:010}")
}

pub(crate) fn commit_name(batch_id: u64) -> String {
    format!("commits/{batch_id:010}")
}

/// The batch that a file of a log is of; `None`: it is no such file.
pub(crate) fn batch_of(file_name: &str) -> Option<u64> {
    let is_number = file_name.len() >= 10 && file_name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| file_name.parse().ok()).flatten()
}
