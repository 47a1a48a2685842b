//! Station 2, on disk: rows of receivers that outlive the process, before a batch has them and until it is done.
//!
//! ```text
//!  Intake ── ReceivedLog::push ──┬─▶ frames that wait ── one writes and syncs for all ──▶ wal/0000000007
//!                                └─▶ block store ──▶ batch n: rows 1200 to 1900 ──▶ offsets/n, once they are on the disk
//!  restart: rows of offsets/n ──▶ LogReader, in the tasks of batch n;  rows of no batch ──▶ the next batches
//! ```
//!
//! The laws: rows of a source are numbered as they are received, without gaps, in the order in which the block store has them; what a batch
//! was begun with is on the disk; with [`Durability::Row`] what a push returned for is on the disk; a file goes when the batches with
//! its rows are no longer kept.
//!
//! **Group commit.** Frames are gathered in memory. Whoever needs them on the disk, and finds nobody at it, writes all that wait and syncs once,
//! while others gather the next ones: with a disk that syncs 500 times a second, a thousand threads that push a row each are
//! done in two or three syncs. There is no thread for it, so a single receiver does not wait for another thread to wake.
//!
//! **A full disk** is waited for, by whoever writes, and everybody who waits for it: receivers read no more, and nothing is lost. A sync that
//! fails is another thing: the system may have thrown away what it was to write, so the job ends, and goes on from what is on the disk.
//!
//! | | |
//! | --- | --- |
//! | `frame` | rows as bytes |
//! | `segment` | files of frames, and what is torn or damaged in them |
//! | `end` | how far the log has come, so that an end that is gone is noticed |
//! | `retention` | which files may go, which rows a restart reads; pure |
//! | `writer` | appends to files |
//! | `open` | reads what is there when a job starts |
//! | `reader` | reads rows again |
//! | `inspect` | looks into it for people |

mod disk;
mod end;
mod error;
mod frame;
mod inspect;
mod open;
mod reader;
mod retention;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

pub use error::{LogError, LostRange};
pub use inspect::{LogInspection, SourceInspection, inspect, verify};
pub(crate) use open::Unread;
pub(crate) use reader::LogReader;

use crate::block_store::Stopped;
use crate::checkpoint::{Lock, may_pass};
use crate::clock::Stopwatch;
use crate::error::{Error, Internal};
use crate::fail_point;
use crate::job::{Durability, LostRows};
use disk::Disk;
use frame::{RowCodec, payload_sum};
use reader::Index;
use writer::{PendingFrame, SegmentWriter, WriteFailure};

/// What offsets and messages call the rows of a receiver.
pub(crate) const RECEIVED: &str = "received";

/// Bytes of frames that wait, after which a push that need not wait for the disk writes them, without a sync.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// How often whoever waits for another one's write asks whether it is to stop.
const STOP_POLL: Duration = Duration::from_millis(20);

/// How often whoever writes lets others bring their frames first, while they do: each time takes microseconds, and a sync milliseconds.
const GATHER_YIELDS_MAX: usize = 64;

/// The pause before a write that failed is tried again; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest of these pauses.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Where a log is, and how it is kept.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Its folder, made if it is not there.
    pub directory: PathBuf,
    /// Its identity: segments with another one are not this log's.
    pub log: String,
    /// A segment that is larger is followed by another.
    pub segment_bytes: u64,
    /// What becomes of a start when rows are lost that no batch has had.
    pub lost_rows: LostRows,
}

/// A source whose rows are in a log, and how far the job has come with it.
#[derive(Debug, Clone)]
pub struct LogSource {
    /// Its name.
    pub name: String,
    /// The columns of its rows.
    pub schema: SchemaRef,
    /// Whether it is a receiver, which can be given the rows that wait.
    pub is_receiver: bool,
    /// The number behind the last row that a batch has had.
    pub place: u64,
    /// The first row of batches that were begun and are not done; `place` if there are none.
    pub reads_from: u64,
    /// The rows of each of these batches: the first, and the one behind the last. They must be there.
    pub begun: Vec<(u64, u64)>,
    /// The first row that is kept.
    pub kept_from: u64,
    /// The number behind the last row that is known to have been in the log.
    pub known_end: u64,
}

impl LogSource {
    /// A receiver of which nothing has been received.
    #[must_use]
    pub fn new(name: impl Into<String>, schema: SchemaRef) -> Self {
        Self {
            name: name.into(),
            schema,
            is_receiver: true,
            place: 0,
            reads_from: 0,
            begun: Vec::new(),
            kept_from: 0,
            known_end: 0,
        }
    }
}

/// The rows that were received and are still needed, on disk.
#[derive(Debug)]
pub struct WriteAheadLog {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    /// What there are rows of, in the order of the job.
    sources: Vec<Source>,
    /// One mutex for what pushes share: it is held for some list operations, never while anything is encoded or written.
    state: Mutex<State>,
    /// Signalled, to all, when frames were written or nobody writes any more.
    changed: Condvar,
    /// Keeps other processes out; not when it is only read.
    _lock: Lock_,
}

/// The rows of a source.
#[derive(Debug)]
struct Source {
    name: String,
    codec: RowCodec,
    /// Where the rows are that were there when the log was opened.
    index: Index,
    /// Those of no batch, in order.
    unread: Vec<Unread>,
}

/// A lock that can be shown.
struct Lock_(#[expect(dead_code, reason = "it is let go when it is dropped")] Option<Lock>);

impl std::fmt::Debug for Lock_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lock")
    }
}

#[derive(Debug)]
struct State {
    /// Frames that are not written, in order.
    waiting: VecDeque<PendingFrame>,
    waiting_bytes: usize,
    /// Frames that were written together last.
    n_shared: usize,
    /// Frames that were ever appended here; written; on the disk. Each counts from the start of the process.
    n_appended: u64,
    n_written: u64,
    n_synced: u64,
    /// `None` while somebody writes.
    writer: Option<SegmentWriter>,
    /// Why nothing can be written any more.
    failure: Option<LogError>,
    /// The next row of each source.
    next_rows: Vec<u64>,
    /// The number behind the last row of each source that is on the disk.
    synced_rows: Vec<u64>,
    /// The segments that are there, the oldest first, each with the number behind the last row of each source.
    segments: Vec<(u64, Vec<(usize, u64)>)>,
    /// The first row of each source that is kept.
    kept_from: Vec<u64>,
}

/// Why frames are not where they should be.
#[derive(Debug)]
pub(crate) enum Halted {
    /// Whoever waited is to stop.
    Stopped,
    /// The log cannot be written any more.
    Failed(LogError),
}

/// How safe frames are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Safety {
    /// They outlive the process.
    Written,
    /// They outlive the machine's power.
    Synced,
}

impl WriteAheadLog {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock while the state is between two truths.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds rows behind those of its source; gives the number of frames that are to be written until they are.
    fn append(&self, source: usize, n_rows: u64, payload: Vec<u8>) -> u64 {
        let payload_sum = payload_sum(&payload);
        let mut state = self.lock();
        let first_row = state.next_rows[source];
        state.next_rows[source] += n_rows;
        let frame = PendingFrame { source, n_rows, first_row, payload, payload_sum };
        state.waiting_bytes += frame.n_bytes();
        state.waiting.push_back(frame);
        state.n_appended += 1;
        state.n_appended
    }

    /// The number of the next row of a source.
    #[must_use]
    pub fn next_row(&self, source: usize) -> u64 {
        self.lock().next_rows[source]
    }

    /// The number behind the last row of a source that is on the disk.
    pub(crate) fn synced_row(&self, source: usize) -> u64 {
        self.lock().synced_rows[source]
    }

    /// The rows of a source that were there when the log was opened, and that no batch has had.
    pub(crate) fn unread(&self, source: usize) -> &[Unread] {
        &self.sources[source].unread
    }

    /// Why nothing can be written any more, if it is so.
    #[must_use]
    pub fn failure(&self) -> Option<LogError> {
        self.lock().failure.clone()
    }

    /// Brings everything that was pushed so far to the disk; waits while that is full.
    ///
    /// # Errors
    ///
    /// Why it cannot be. `stop` is asked while it waits.
    pub(crate) fn sync(&self, stop: &dyn Fn() -> bool) -> Result<(), Halted> {
        let n_appended = self.lock().n_appended;
        self.reach(n_appended, Safety::Synced, stop)
    }

    /// Notes how far the log has come, when nothing will be pushed any more. What fails is told: a restart knows less then.
    pub(crate) fn close(&self) {
        let state = self.lock();
        if state.failure.is_some() {
            return;
        }
        let Some(writer) = &state.writer else { return };
        if let Err(error) = writer.note_end() {
            let directory = self.directory.display();
            tracing::warn!(
                target: "tidemill::checkpoint",
                %directory, %error, "how far the write-ahead log has come could not be noted"
            );
        }
    }

    /// Waits until so many frames are as safe as they are to be; writes them, if nobody else is at it.
    fn reach(&self, n_frames: u64, safety: Safety, stop: &dyn Fn() -> bool) -> Result<(), Halted> {
        let mut state = self.lock();
        loop {
            let reached = if safety == Safety::Synced { state.n_synced } else { state.n_written };
            if reached >= n_frames {
                return Ok(());
            }
            if let Some(failure) = &state.failure {
                return Err(Halted::Failed(failure.clone()));
            }
            let Some(mut writer) = state.writer.take() else {
                if stop() {
                    return Err(Halted::Stopped);
                }
                state = self.changed.wait_timeout(state, STOP_POLL).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            };
            if safety == Safety::Synced && state.n_shared > 1 {
                state = self.gather(state);
            }
            let mut frames = std::mem::take(&mut state.waiting);
            state.n_shared = frames.len();
            state.waiting_bytes = 0;
            let n_appended = state.n_appended;
            drop(state);
            let outcome = self.write(&mut writer, &mut frames, safety, stop);
            state = self.lock();
            state.add_written(&writer.take_written());
            state.n_written = n_appended - frames.len() as u64;
            if outcome.is_ok() && safety == Safety::Synced {
                state.n_synced = n_appended;
                state.synced_rows = writer.next_rows();
            }
            // What could not be written comes before what was appended meanwhile.
            state.waiting_bytes += frames.iter().map(PendingFrame::n_bytes).sum::<usize>();
            frames.append(&mut state.waiting);
            state.waiting = frames;
            state.writer = Some(writer);
            if let Err(Halted::Failed(error)) = &outcome {
                state.failure = Some(error.clone());
            }
            self.changed.notify_all();
            outcome?;
        }
    }

    /// Lets those whose frames the last sync was for bring their next ones, before another is begun without them.
    fn gather<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        for _ in 0..GATHER_YIELDS_MAX {
            let n_waiting = state.waiting.len();
            drop(state);
            std::thread::yield_now();
            state = self.lock();
            if state.waiting.len() == n_waiting || n_waiting >= state.n_shared {
                break;
            }
        }
        state
    }

    /// Writes frames until they are written, unless waiting does not help, or whoever does it is to stop.
    fn write(
        &self,
        writer: &mut SegmentWriter,
        frames: &mut VecDeque<PendingFrame>,
        safety: Safety,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Halted> {
        let mut pause = PAUSE_MIN;
        loop {
            let mut outcome = writer.write(frames);
            if outcome.is_ok() && safety == Safety::Synced {
                outcome = writer.sync();
            }
            let (path, source) = match outcome {
                Ok(()) => return Ok(()),
                Err(WriteFailure::Write(path, error)) if may_pass(&error) => (path, error),
                Err(WriteFailure::Write(path, error)) => {
                    return Err(Halted::Failed(LogError::storage(&path, "written")(error)));
                }
                Err(WriteFailure::Sync(path, error)) => {
                    return Err(Halted::Failed(LogError::storage(&path, "brought to the disk")(error)));
                }
            };
            tracing::warn!(
                target: "tidemill::source",
                path = %path.display(), error = %source, again_in = ?pause,
                "received rows wait for their write-ahead log: receivers read no more until it can be written"
            );
            let waited = Stopwatch::start();
            while waited.elapsed() < pause {
                if stop() {
                    return Err(Halted::Stopped);
                }
                std::thread::sleep(STOP_POLL);
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Says that the rows of some sources before these are not needed any more, and deletes the segments that have no others.
    pub(crate) fn release<'a>(&self, ends: impl IntoIterator<Item = (&'a str, u64)>) {
        let mut state = self.lock();
        for (name, end) in ends {
            if let Some(source) = self.sources.iter().position(|source| source.name == name) {
                state.kept_from[source] = end.max(state.kept_from[source]);
            }
        }
        let ends: Vec<Vec<(usize, u64)>> = state.segments.iter().map(|(_, ends)| ends.clone()).collect();
        let n_expired = retention::expired(&ends, &state.kept_from);
        let expired: Vec<u64> = state.segments.iter().take(n_expired).map(|(number, _)| *number).collect();
        drop(state);
        for number in expired {
            let path = self.directory.join(segment::file_name(number));
            fail_point::pass("wal-segment-expired");
            if let Err(error) = self.disk.delete(&path) {
                // It is tried again when the next batch is no longer kept.
                tracing::warn!(target: "tidemill::checkpoint", path = %path.display(), %error, "old received rows could not be deleted");
                return;
            }
            self.lock().segments.retain(|(other, _)| *other != number);
        }
    }
}

impl State {
    fn add_written(&mut self, written: &[writer::Written]) {
        for rows in written {
            if self.segments.last().is_none_or(|(number, _)| *number != rows.segment) {
                self.segments.push((rows.segment, Vec::new()));
            }
            let Some((_, ends)) = self.segments.last_mut() else { unreachable!("one was just added") };
            match ends.iter_mut().find(|(source, _)| *source == rows.source) {
                Some((_, end)) => *end = rows.end_row,
                None => ends.push((rows.source, rows.end_row)),
            }
        }
    }
}

/// The way of one source's rows into the log, and into the block store behind it.
#[derive(Debug)]
pub struct ReceivedLog {
    log: Arc<WriteAheadLog>,
    source: usize,
    durability: Durability,
    /// Held while rows are numbered and given to the block store, so that both have them in one order, however many threads push. Whether
    /// the block store has refused some: those behind them would have other numbers there.
    order: Mutex<bool>,
}

/// Why rows were not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Encode(#[from] Internal),
}

impl From<Halted> for ReceiveError {
    fn from(halted: Halted) -> Self {
        match halted {
            Halted::Stopped => Self::Stopped(Stopped),
            Halted::Failed(error) => Self::Log(error),
        }
    }
}

impl ReceivedLog {
    /// The way of the source with this index in the log.
    #[must_use]
    pub fn new(log: Arc<WriteAheadLog>, source: usize, durability: Durability) -> Self {
        Self { log, source, durability, order: Mutex::new(false) }
    }

    /// Adds rows to the log, gives them to `store`, and returns when they are as safe as the source's durability says.
    ///
    /// # Errors
    ///
    /// When they are not: it is to stop, or the log cannot be written. They may be in the log all the same.
    pub(crate) fn push(
        &self,
        rows: RecordBatch,
        store: impl FnOnce(RecordBatch) -> Result<(), Stopped>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), ReceiveError> {
        let n_rows = rows.num_rows() as u64;
        if n_rows == 0 {
            return Ok(());
        }
        let encoded = self.log.sources[self.source].codec.encode(&rows);
        let payload = encoded.map_err(|source| Internal { doing: "writing received rows".into(), source })?;
        let mut has_refused = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if *has_refused {
            return Err(Stopped.into());
        }
        let n_frames = self.log.append(self.source, n_rows, payload);
        // When there is no room and nobody waits for it any more, the next run has them: they are received.
        *has_refused = store(rows).is_err();
        drop(has_refused);
        match self.durability {
            Durability::Row => self.log.reach(n_frames, Safety::Synced, stop)?,
            _ if self.log.lock().waiting_bytes >= WAITING_BYTES_MAX => {
                self.log.reach(n_frames, Safety::Written, stop)?
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds rows to the log alone, for measurements.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn write(&self, rows: RecordBatch) -> Result<(), Error> {
        self.push(rows, |_| Ok(()), &|| false).map_err(|error| match error {
            ReceiveError::Stopped(error) => error.into(),
            ReceiveError::Log(error) => error.into(),
            ReceiveError::Encode(error) => error.into(),
        })
    }

    /// Whether the log cannot be written any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.log.lock().failure.is_some()
    }
}
