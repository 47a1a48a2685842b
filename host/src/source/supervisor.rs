//! Runs a receiver on a thread of its own, again and again until it ends or is stopped.
//!
//! ```text
//!          ┌──────────── Err or panic: wait, twice as long each time ◀─┐
//!  start ──┴▶ run ──▶ Ok: the source has ended ──▶ finished            │
//!               └──────────────────────────────────────────────────────┘
//!  stop: `is_stopping` turns true, `run` returns ──▶ finished
//! ```

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::Receiver;
use super::counters::{SourceCounters, SourceNote};
use super::error::SourceError;
use super::intake::{Intake, StopSignal};
use crate::block_store::BlockStore;
use crate::clock::Clock;
use crate::error::Error;
use crate::write_ahead_log::ReceivedLog;

/// The pause after a first failure: short enough that a server that restarts is not noticed.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest pause: after seven failures in a row. A server that comes back is found within this.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What happens to a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent {
    /// It failed, and is run again after a pause.
    Failed {
        /// Why, with causes.
        error: String,
        /// The pause.
        retry_in: Duration,
    },
    /// It has ended by itself: no more rows come.
    Ended,
    /// It was stopped: no more rows come.
    Stopped,
}

/// Who is told what happens to a receiver: called on the receiver's thread.
pub type SourceObserver = Arc<dyn Fn(&SourceEvent) + Send + Sync>;

/// What a receiver is run with.
#[derive(Clone)]
pub struct ReceiverSettings {
    /// The job's name.
    pub job: String,
    /// The source's name.
    pub source: String,
    /// The source's index in the job: its number in the block store.
    pub index: usize,
    /// The schema that was declared.
    pub schema: SchemaRef,
    /// Where its rows go.
    pub store: Arc<BlockStore>,
    /// Where they are kept over a crash; `None`: they are in memory alone.
    pub log: Option<Arc<ReceivedLog>>,
    /// The job's clock.
    pub clock: Arc<dyn Clock>,
    /// Who is told what happens to it.
    pub observer: Option<SourceObserver>,
}

impl fmt::Debug for ReceiverSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiverSettings")
            .field("job", &self.job)
            .field("source", &self.source)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// A running receiver.
///
/// Dropped, it is stopped without being waited for.
#[derive(Debug)]
pub struct ReceiverHandle {
    signal: Arc<StopSignal>,
    counters: Arc<SourceCounters>,
    finished: Arc<Finished>,
    /// Taken by whoever joins first.
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Finished {
    /// The error that it ended with, until somebody takes it.
    failure: Mutex<Option<Error>>,
    is: Mutex<bool>,
    changed: Condvar,
}

impl ReceiverHandle {
    /// Starts a receiver on a thread of its own.
    ///
    /// When it has finished, [`BlockStore::wake`] is called, so that whoever waits for its rows looks again.
    ///
    /// # Errors
    ///
    /// When no thread could be started.
    pub fn start(settings: ReceiverSettings, receiver: Box<dyn Receiver>) -> Result<Self, Error> {
        let signal = Arc::new(StopSignal::default());
        let counters = Arc::new(SourceCounters::new(settings.source.clone()));
        let finished = Arc::new(Finished::default());
        let intake = Intake::new(
            Arc::clone(&settings.store),
            settings.log.clone(),
            settings.index,
            Arc::clone(&settings.schema),
            Arc::clone(&signal),
            Arc::clone(&counters),
            Arc::clone(&settings.clock),
        );
        let done = Arc::clone(&finished);
        let thread = thread::Builder::new()
            .name(format!("source {}", settings.source))
            .spawn(move || {
                let store = Arc::clone(&settings.store);
                // The observer is the program's own and may panic too: what waits for the end must hear of it.
                let supervised = catch_unwind(AssertUnwindSafe(|| supervise(&settings, receiver, &intake)));
                match supervised {
                    Ok(failure) => *done.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure,
                    Err(panic) => {
                        let (source, message) = (&settings.source, panic_message(&*panic));
                        tracing::error!(target: "tidemill::source", source, message, "supervision ended");
                    }
                }
                *done.is.lock().unwrap_or_else(PoisonError::into_inner) = true;
                done.changed.notify_all();
                store.wake();
            })
            .map_err(|source| SourceError::Thread { source })?;
        Ok(Self { signal, counters, finished, thread: Mutex::new(Some(thread)) })
    }

    /// Tells it to stop, without waiting. What it has received and not yet pushed it may still push.
    pub fn stop(&self) {
        self.signal.stop();
    }

    /// Whether it has ended or stopped: no more rows come.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        *self.finished.is.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it has ended or stopped, but no longer than `timeout`. Returns whether it has.
    ///
    /// Whoever stops a job must go on running batches meanwhile: a receiver that waits for room finishes when there is
    /// some. If it has not finished in time it is [abandoned](Self::abandon).
    pub fn join(&self, timeout: Duration) -> bool {
        let finished = self.finished.is.lock().unwrap_or_else(PoisonError::into_inner);
        let (finished, _) = self
            .finished
            .changed
            .wait_timeout_while(finished, timeout, |finished| !*finished)
            .unwrap_or_else(PoisonError::into_inner);
        if !*finished {
            drop(finished);
            self.abandon();
            return false;
        }
        drop(finished);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The thread catches panics; it has nothing more to say.
            let _ = thread.join();
        }
        true
    }

    /// The error that it ended with, when running it again could not help. Given once.
    #[must_use]
    pub fn take_failure(&self) -> Option<Error> {
        self.finished.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether it ended with an error that [`take_failure`](Self::take_failure) has not given yet.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.finished.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Stops it at once: a push that waits for room fails, and nobody waits for the thread.
    pub fn abandon(&self) {
        self.signal.abandon();
    }

    /// What it has seen so far.
    #[must_use]
    pub fn counters(&self) -> &Arc<SourceCounters> {
        &self.counters
    }
}

impl Drop for ReceiverHandle {
    fn drop(&mut self) {
        self.signal.abandon();
    }
}

/// Runs a receiver until it ends or is stopped; gives the error that it could not go on after.
fn supervise(settings: &ReceiverSettings, mut receiver: Box<dyn Receiver>, intake: &Intake) -> Option<Error> {
    let (job, source) = (settings.job.as_str(), settings.source.as_str());
    let observe = |event: &SourceEvent| {
        if let Some(observer) = &settings.observer {
            observer(event);
        }
    };
    let mut backoff = Backoff::default();
    let mut last_error = String::new();
    loop {
        let n_rows_before = intake.counters().n_rows();
        // A panicking receiver may have broken its own state; it is the receiver's to be run again all the same.
        let outcome = catch_unwind(AssertUnwindSafe(|| receiver.run(intake)));
        if intake.is_stopping() {
            // An error now is most often the stop itself.
            break;
        }
        let error: Error = match outcome {
            Ok(Ok(())) => {
                tracing::info!(target: "tidemill::source", job, source, "ended");
                observe(&SourceEvent::Ended);
                return None;
            }
            Ok(Err(error)) => error,
            Err(panic) => SourceError::Panicked { message: panic_message(&*panic) }.into(),
        };
        let text = error.in_one_line();
        intake.note(SourceNote::Failed { error: text.clone() });
        if !receiver.can_run_again() || intake.log_has_failed() {
            tracing::error!(target: "tidemill::source", job, source, error = text, "failed for good");
            return Some(error);
        }
        if intake.counters().n_rows() > n_rows_before {
            backoff = Backoff::default();
        }
        let retry_in = backoff.next_pause();
        // A server that is down for an hour is one line in the log, not four hundred.
        if text == last_error {
            tracing::debug!(target: "tidemill::source", job, source, error = text, ?retry_in, "failed again");
        } else {
            tracing::warn!(target: "tidemill::source", job, source, error = text, ?retry_in, "failed");
        }
        observe(&SourceEvent::Failed { error: text.clone(), retry_in });
        last_error = text;
        if intake.pause(retry_in) {
            break;
        }
    }
    tracing::info!(target: "tidemill::source", job, source, "stopped");
    observe(&SourceEvent::Stopped);
    None
}

/// Pauses between runs: each twice the one before.
#[derive(Debug, Default)]
struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    fn next_pause(&mut self) -> Duration {
        let pause = self.last.map_or(BACKOFF_MIN, |last| (last * 2).min(BACKOFF_MAX));
        self.last = Some(pause);
        pause
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").into()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::clock::SystemClock;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A receiver that does what it is told, one closure a run.
    struct Script(Vec<Run>);

    type Run = Box<dyn FnMut(&Intake) -> Result<(), Error> + Send>;

    impl Receiver for Script {
        fn run(&mut self, intake: &Intake) -> Result<(), Error> {
            let mut next = if self.0.len() > 1 { self.0.remove(0) } else { return (self.0[0])(intake) };
            next(intake)
        }
    }

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, false)]))
    }

    fn one_row() -> RecordBatch {
        let column = Arc::new(Int64Array::from(vec![1]));
        RecordBatch::try_new(schema(), vec![column]).expect("one column of the schema's type")
    }

    fn fail() -> Error {
        SourceError::Closed { address: "a:1".into() }.into()
    }

    fn start(receiver: Script) -> (ReceiverHandle, Arc<BlockStore>, mpsc::Receiver<SourceEvent>) {
        let store = Arc::new(BlockStore::new(1 << 20));
        let (sender, events) = mpsc::channel();
        let settings = ReceiverSettings {
            job: "job".into(),
            source: "numbers".into(),
            index: 0,
            schema: schema(),
            store: Arc::clone(&store),
            log: None,
            clock: Arc::new(SystemClock::new()),
            observer: Some(Arc::new(move |event| sender.send(event.clone()).expect("the test listens"))),
        };
        let handle = ReceiverHandle::start(settings, Box::new(receiver)).expect("threads can be started");
        (handle, store, events)
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..9).map(|_| backoff.next_pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    }

    #[test]
    fn a_receiver_that_returns_has_ended() {
        let (handle, store, events) = start(Script(vec![Box::new(|intake| Ok(intake.push(one_row())?))]));
        assert!(handle.join(PATIENCE));
        assert!(handle.is_finished());
        assert_eq!(store.waiting(0).rows, 1);
        assert_eq!(handle.counters().snapshot().rows, 1);
        assert_eq!(events.recv(), Ok(SourceEvent::Ended));
        assert!(store.wait_for_rows(PATIENCE));
    }

    #[test]
    fn the_end_of_a_source_wakes_the_batch_generator() {
        let (handle, store, _events) = start(Script(vec![Box::new(|_| Ok(()))]));
        assert!(!store.wait_for_rows(PATIENCE), "woken, and no rows");
        assert!(handle.is_finished());
    }

    #[test]
    fn failures_and_panics_are_run_again_and_rows_reset_the_pause() {
        let (handle, _, events) = start(Script(vec![
            Box::new(|_| Err(fail())),
            Box::new(|_| panic!("on purpose")),
            Box::new(|intake| {
                intake.push(one_row())?;
                Err(fail())
            }),
            Box::new(|_| Ok(())),
        ]));
        assert!(handle.join(PATIENCE));
        let failed = |error: &str, millis| {
            Ok(SourceEvent::Failed { error: error.into(), retry_in: Duration::from_millis(millis) })
        };
        assert_eq!(events.recv(), failed("`a:1` closed the connection", 100));
        assert_eq!(events.recv(), failed("the receiver panicked: on purpose", 200));
        assert_eq!(events.recv(), failed("`a:1` closed the connection", 100));
        assert_eq!(events.recv(), Ok(SourceEvent::Ended));
        assert_eq!(handle.counters().snapshot().failures, 3);
        assert_eq!(handle.counters().snapshot().last_error.as_deref(), Some("`a:1` closed the connection"));
    }

    #[test]
    fn a_stop_ends_a_pause_and_a_run() {
        for script in [
            Script(vec![Box::new(|_| Err(fail()))]),
            Script(vec![Box::new(|intake| {
                while !intake.pause(Duration::from_secs(1)) {}
                Err(fail())
            })]),
        ] {
            let (handle, _, events) = start(script);
            handle.stop();
            assert!(handle.join(PATIENCE));
            assert_eq!(events.iter().last(), Some(SourceEvent::Stopped));
        }
    }

    #[test]
    fn a_receiver_that_does_not_stop_is_abandoned() {
        let (let_go, hold) = mpsc::channel::<()>();
        let hold = Mutex::new(hold);
        let (handle, _, _events) = start(Script(vec![Box::new(move |_| {
            // Ends when the test drops the sender.
            let _ = hold.lock().map(|hold| hold.recv());
            Ok(())
        })]));
        handle.stop();
        assert!(!handle.join(Duration::from_millis(10)));
        assert!(!handle.is_finished());
        drop(let_go);
        assert!(handle.join(PATIENCE));
    }
}
