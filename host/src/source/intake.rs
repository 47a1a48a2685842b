//! Where a receiver puts its rows, and what it is told: whether to stop, what time it is.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use super::counters::{SourceCounters, SourceNote};
use crate::block_store::{BlockStore, Stopped};
use crate::clock::Clock;
use crate::error::{Explain, Fault, Internal};
use crate::write_ahead_log::{LogError, ReceiveError, ReceivedLog};

/// A receiver's way into the block store.
///
/// # Examples
///
/// A receiver that counts to three:
///
/// ```
/// use std::sync::Arc;
/// use arrow::array::{Int64Array, RecordBatch};
/// use tidemill::error::Error;
/// use tidemill::source::{Intake, Receiver};
///
/// struct CountToThree;
///
/// impl Receiver for CountToThree {
///     fn run(&mut self, intake: &Intake) -> Result<(), Error> {
///         for number in 1..=3 {
///             if intake.is_stopping() {
///                 break;
///             }
///             let column = Arc::new(Int64Array::from(vec![number]));
///             let rows = RecordBatch::try_new(intake.schema().clone(), vec![column]).expect("one integer column");
///             intake.push(rows)?;
///         }
///         Ok(())
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Intake {
    store: Arc<BlockStore>,
    /// Where rows are kept over a crash; `None`: they are in memory alone.
    log: Option<Arc<ReceivedLog>>,
    /// The source's index in the job.
    source: usize,
    schema: SchemaRef,
    signal: Arc<StopSignal>,
    counters: Arc<SourceCounters>,
    clock: Arc<dyn Clock>,
}

/// Why rows were not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The source is being stopped, and there is no room: the receiver returns.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The rows are not what the source's definition promised.
    #[error("rows of schema {found} were pushed where {declared} was declared")]
    Schema {
        /// The schema of the source's definition.
        declared: String,
        /// That of the rows.
        found: String,
    },
    /// The write-ahead log cannot be written: the job ends.
    #[error(transparent)]
    Log(LogError),
    /// Arrow could not write the rows.
    #[error(transparent)]
    Internal(Internal),
}

impl From<ReceiveError> for PushError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Stopped(stopped) => Self::Stopped(stopped),
            ReceiveError::Log(error) => Self::Log(error),
            ReceiveError::Encode(error) => Self::Internal(error),
        }
    }
}

impl Explain for PushError {
    fn fault(&self) -> Fault {
        match self {
            Self::Stopped(_) | Self::Schema { .. } => Fault::User,
            Self::Log(error) => error.fault(),
            Self::Internal(error) => error.fault(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Stopped(_) => None,
            Self::Log(error) => error.hint(),
            Self::Internal(error) => error.hint(),
            Self::Schema { .. } => {
                Some("Mend the receiver: its rows and `SourceDefinition::schema` must agree.".into())
            }
        }
    }
}

impl Intake {
    /// A way into `store` for the source with this index in its job.
    pub(super) fn new(
        store: Arc<BlockStore>,
        log: Option<Arc<ReceivedLog>>,
        source: usize,
        schema: SchemaRef,
        signal: Arc<StopSignal>,
        counters: Arc<SourceCounters>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { store, log, source, schema, signal, counters, clock }
    }

    /// Adds rows to those received so far; waits while the block store has no room, which is how a source that is
    /// faster than its job is slowed down.
    ///
    /// While the job stops gracefully rows are still taken: what was received is processed.
    ///
    /// When it returns, the rows are as safe as the source's [`Durability`](crate::job::Durability) says: with `Row` they outlive the
    /// machine's power, and may be acknowledged. It waits for a disk that is full.
    ///
    /// # Cost
    ///
    /// In memory a microsecond or two, so that single rows may be pushed as they come; no copy, unless the rows are a small slice
    /// of large buffers. For the write-ahead log they are encoded, and copied twice; with `Row` a sync of the disk comes to that, which
    /// all pushes that wait share, of other threads and sources too.
    ///
    /// # Errors
    ///
    /// [`PushError`]. The rows were not taken; where the log has them nevertheless, the next run of the job processes them.
    pub fn push(&self, rows: RecordBatch) -> Result<(), PushError> {
        // Equal pointers are the usual case; the metadata of a schema does not matter.
        if !Arc::ptr_eq(rows.schema_ref(), &self.schema) && rows.schema_ref().fields() != self.schema.fields() {
            let found = describe_schema(rows.schema_ref());
            return Err(PushError::Schema { declared: describe_schema(&self.schema), found });
        }
        let n_rows = rows.num_rows() as u64;
        let n_bytes = shown_bytes(&rows);
        let started = self.clock.monotonic();
        let stop = || self.signal.is_abandoned();
        match &self.log {
            None => self.store.push(self.source, rows, &stop)?,
            Some(log) => log.push(rows, |rows| self.store.push(self.source, rows, &stop), &stop)?,
        }
        let waited = self.clock.monotonic().saturating_sub(started);
        if waited > NOT_A_WAIT {
            self.counters.add_wait(waited);
        }
        self.counters.add_rows(n_rows, n_bytes);
        Ok(())
    }

    /// Whether the receiver is to return soon, because the job stops.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.signal.is_stopping()
    }

    /// Sleeps, but not longer than until the job stops. Returns whether it stops.
    pub fn pause(&self, duration: Duration) -> bool {
        self.signal.wait(duration)
    }

    /// Counts something that is not a row.
    pub fn note(&self, note: SourceNote) {
        self.counters.note(note);
    }

    /// Whether rows can be kept no more: the source cannot go on.
    pub(super) fn log_has_failed(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.has_failed())
    }

    /// The schema that rows must have.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The job's clock.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// What the source has seen so far.
    #[must_use]
    pub fn counters(&self) -> &Arc<SourceCounters> {
        &self.counters
    }
}

/// A push that takes no longer than this did not wait for room, but for its turn on the processor.
const NOT_A_WAIT: Duration = Duration::from_micros(100);

/// Columns and types on one line.
fn describe_schema(schema: &SchemaRef) -> String {
    let columns: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| format!("{}: {}{}", field.name(), field.data_type(), if field.is_nullable() { "?" } else { "" }))
        .collect();
    format!("({})", columns.join(", "))
}

/// Bytes of the rows themselves, whatever else their buffers hold.
pub(super) fn shown_bytes(rows: &RecordBatch) -> u64 {
    rows.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0) as u64).sum()
}

/// How far a receiver's stop has gone; only ever moves downwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum StopPhase {
    /// It runs.
    Running,
    /// It is to return soon; what it has may still be pushed.
    Stopping,
    /// Nobody waits for it any more; pushes that find no room fail.
    Abandoned,
}

/// Tells a receiver to stop.
#[derive(Debug, Default)]
pub(super) struct StopSignal {
    /// A `StopPhase`. An atomic, because receivers look at it between reads.
    phase: AtomicU8,
    /// Guards nothing but the wait for `changed`: the phase is set under it, so that no waiter misses it.
    lock: Mutex<()>,
    changed: Condvar,
}

impl StopSignal {
    pub(super) fn stop(&self) {
        self.advance(StopPhase::Stopping);
    }

    pub(super) fn abandon(&self) {
        self.advance(StopPhase::Abandoned);
    }

    fn advance(&self, phase: StopPhase) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.phase.fetch_max(phase as u8, Ordering::Release);
        drop(guard);
        self.changed.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.phase.load(Ordering::Acquire) > StopPhase::Running as u8
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.phase.load(Ordering::Acquire) >= StopPhase::Abandoned as u8
    }

    /// Waits until it is to stop or the time is over; whether it is to stop.
    pub(super) fn wait(&self, duration: Duration) -> bool {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // The guard protects no data: what it returns, and whether the time was over, does not matter.
        let _ = self.changed.wait_timeout_while(guard, duration, |()| !self.is_stopping());
        self.is_stopping()
    }
}

/// An intake into a store of its own, for tests of receivers.
#[cfg(test)]
pub(super) fn test_intake(schema: SchemaRef, budget_bytes: u64) -> (Arc<Intake>, Arc<BlockStore>, Arc<StopSignal>) {
    let store = Arc::new(BlockStore::new(budget_bytes));
    let signal = Arc::new(StopSignal::default());
    let counters = Arc::new(SourceCounters::new("test"));
    let clock = Arc::new(crate::clock::SystemClock::new());
    let intake = Intake::new(Arc::clone(&store), None, 0, schema, Arc::clone(&signal), counters, clock);
    (Arc::new(intake), store, signal)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::thread;

    use arrow::array::{Int32Array, Int64Array};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn schema(data_type: DataType) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("value", data_type, false)]))
    }

    fn rows(n_rows: i64) -> RecordBatch {
        let column = Arc::new(Int64Array::from_iter_values(0..n_rows));
        RecordBatch::try_new(schema(DataType::Int64), vec![column]).expect("one column of the schema's type")
    }

    #[test]
    fn rows_of_another_schema_are_refused() {
        let (intake, store, _) = test_intake(schema(DataType::Int64), 1 << 20);
        let other = Arc::new(Int32Array::from(vec![1]));
        let other = RecordBatch::try_new(schema(DataType::Int32), vec![other]).expect("of its schema");
        let error = intake.push(other).expect_err("another type");
        assert_eq!(error.to_string(), "rows of schema (value: Int32) were pushed where (value: Int64) was declared");
        assert_eq!(store.waiting(0).rows, 0);
    }

    #[test]
    fn metadata_of_the_schema_does_not_matter() {
        let (intake, store, _) = test_intake(schema(DataType::Int64), 1 << 20);
        let noted = Schema::new(schema(DataType::Int64).fields().clone())
            .with_metadata(HashMap::from([("made-by".into(), "test".into())]));
        intake.push(rows(2).with_schema(Arc::new(noted)).expect("the same fields")).expect("equal columns");
        intake.push(rows(3)).expect("equal columns");
        assert_eq!(store.waiting(0).rows, 5);
        assert_eq!(intake.counters().snapshot().rows, 5);
        assert_eq!(intake.counters().snapshot().bytes, 40);
    }

    #[test]
    fn a_graceful_stop_still_takes_rows_and_an_abandoned_source_does_not_wait() {
        let (intake, store, signal) = test_intake(schema(DataType::Int64), 100_000);
        intake.push(rows(10_000)).expect("room");
        signal.stop();
        assert!(intake.is_stopping());
        let pushing = {
            let intake = Arc::clone(&intake);
            thread::spawn(move || intake.push(rows(10_000)))
        };
        let ids: Vec<_> = store.allocate(0, u64::MAX).iter().map(|meta| meta.id).collect();
        store.release(&ids);
        pushing.join().expect("does not panic").expect("taken once there is room");
        signal.abandon();
        assert!(matches!(intake.push(rows(10_000)), Err(PushError::Stopped(Stopped))));
    }

    #[test]
    fn a_pause_ends_when_the_job_stops() {
        let (intake, _, signal) = test_intake(schema(DataType::Int64), 1);
        assert!(!intake.pause(Duration::ZERO));
        let pausing = {
            let intake = Arc::clone(&intake);
            thread::spawn(move || intake.pause(Duration::from_secs(3600)))
        };
        signal.stop();
        assert!(pausing.join().expect("does not panic"));
    }
}
