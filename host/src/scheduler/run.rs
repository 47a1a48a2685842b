//! A job at work: its threads, how it is stopped, how it ends.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver as Queue, unbounded};

use crate::block_store::BlockStore;
use crate::checkpoint::{Committer, Patience, Standby};
use crate::clock::{Clock, Stopwatch};
use crate::error::{Error, Explain, Fault, Retry};
use crate::fail_point;
use crate::ids::BatchId;
use crate::job::OnError;
use crate::metrics::{StepCounts, peak_memory_bytes};
use crate::operator::CallError;
use crate::plan::{ChangedPlugin, Plan, PlanErrors};
use crate::scheduler::batch::Batch;
use crate::scheduler::batch_generator::{BatchGenerator, ListError, LiveSource};
use crate::scheduler::control::{Control, Stop};
use crate::scheduler::listener::{
    BatchCompleted, BatchFailed, BatchRetried, BatchStarted, BatchSubmitted, Listener, PluginsReloaded, ReloadUndone,
    RunEnded,
};
use crate::scheduler::received::{ReceivedRows, open_received, without_received};
use crate::scheduler::recover::{begun, open_checkpoint, read_before};
use crate::scheduler::reload::{PlanAgain, Plans, Trial};
use crate::scheduler::restore::restore;
use crate::scheduler::run_batch::{BatchOutcome, BatchRunner};
use crate::scheduler::ticks::TickMessages;
use crate::scheduler::watermarks::Watermarks;
use crate::sink::{Sink, SinkDefinition, SinkError};
use crate::source::{OpenSource, ReceiverHandle, ReceiverSettings, SourceCounters, SourceObserver, SourceSnapshot};
use crate::spill::{BatchMemory, Spill, SpillCounts, SpillError};
use crate::sql::{EvaluationFailed, OutOfMemory, QueryFailed};
use crate::state::{StateError, StateStore};
use crate::task::pipeline::Cancelled;
use crate::task::pool::{WorkerPool, panicked};

/// The pause after a batch was skipped because its step failed; doubled for each one after another.
const SKIP_PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest pause after skipped batches: a plugin that always fails costs a batch every ten seconds, no more.
const SKIP_PAUSE_MAX: Duration = Duration::from_secs(10);

/// The pause before a batch that failed in a way that may pass is run again; doubled for each attempt.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(200);

/// The longest pause between attempts.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// How often a job that stands by sees whether another process has let go of a sink.
const SINK_LOOK_EVERY: Duration = Duration::from_millis(250);

/// How a job is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Receivers stop, what was received is processed, sinks flush.
    Graceful,
    /// The running batch is given up; what was received and not published is lost, but for what the write-ahead log keeps.
    AtOnce,
}

/// A job could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A source, table or sink could not be opened.
    #[error("{part} `{name}` could not be opened")]
    Open {
        /// `source`, `table` or `sink`.
        part: &'static str,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Error,
    },
    /// The job cannot go on from its checkpoint.
    #[error("the job cannot go on from its checkpoint")]
    Checkpoint(#[source] Error),
    /// It was stopped while it waited: for its checkpoint, for another process, or for a store.
    #[error("the job was stopped before it had started")]
    Stopped,
    /// The place for the steps' state could not be opened.
    #[error("the state of the job could not be opened")]
    State(#[source] StateError),
    /// The place for rows that memory has no room for could not be prepared.
    #[error("the place for spilled rows could not be prepared")]
    Spill(#[source] SpillError),
    /// The system gave no thread.
    #[error("a thread could not be started")]
    Thread(#[source] std::io::Error),
}

impl Explain for StartError {
    fn fault(&self) -> Fault {
        match self {
            StartError::Open { source, .. } | StartError::Checkpoint(source) => source.fault(),
            StartError::State(source) => source.fault(),
            StartError::Spill(source) => source.fault(),
            StartError::Stopped => Fault::User,
            StartError::Thread(_) => Fault::External,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            StartError::Open { source, .. } | StartError::Checkpoint(source) => source.hint(),
            StartError::State(source) => source.hint(),
            StartError::Spill(source) => source.hint(),
            StartError::Stopped | StartError::Thread(_) => None,
        }
    }
}

/// How a job ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// Everything that was received has been published.
    #[default]
    Completed,
    /// It was stopped at once: what was received and not published is lost, but for what the write-ahead log keeps.
    StoppedAtOnce,
}

/// What a job has done.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct Summary {
    /// How it ended, when it did not fail.
    pub outcome: RunOutcome,
    /// Batches that were published.
    pub batches: u64,
    /// Batches that failed and were skipped.
    pub batches_skipped: u64,
    /// Rows that came from sources.
    pub rows_in: u64,
    /// Rows that sinks got.
    pub rows_out: u64,
    /// Seconds since the job started.
    pub elapsed_seconds: f64,
    /// The median of the batches' processing times, in seconds.
    pub batch_seconds_p50: f64,
    /// Their 99th percentile.
    pub batch_seconds_p99: f64,
    /// The most memory the process had, in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// What was spilled.
    pub spill: SpillCounts,
    /// What was counted of each step.
    pub steps: Vec<StepCounts>,
    /// What was counted of each receiver.
    pub sources: Vec<SourceSummary>,
}

/// What was counted of one source.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct SourceSummary {
    /// Its name.
    pub source: String,
    /// What was counted.
    #[serde(flatten)]
    pub counts: SourceSnapshot,
}

enum Status {
    Active,
    Ended(Arc<Summary>, Option<Error>),
    /// The error has been given to whoever waited first.
    Told(Arc<Summary>),
}

/// A job at work. Clones are handles of the same job.
#[derive(Clone)]
pub struct Running {
    shared: Arc<Shared>,
}

struct Shared {
    control: Arc<Control>,
    status: Mutex<Status>,
    ended: Condvar,
    plans: Arc<Plans>,
}

impl Running {
    /// Asks the job to stop, and returns at once. Asking again can only make it faster.
    pub fn stop(&self, mode: StopMode) {
        self.shared.control.request(match mode {
            StopMode::Graceful => Stop::Graceful,
            StopMode::AtOnce => Stop::AtOnce,
        });
    }

    /// Loads the files of plugins again: those that have changed run from the next batch on. When the first batch that their steps get rows in
    /// fails, the plugins before are back and run it again. Says which have changed; when none has, nothing happens.
    ///
    /// # Errors
    ///
    /// [`ReloadError`](super::ReloadError), when one cannot be opened or does not fit what runs: the job goes on as it is.
    pub fn reload(&self) -> Result<Vec<ChangedPlugin>, Error> {
        self.shared.plans.reload()
    }

    /// Waits until the job has ended.
    ///
    /// # Errors
    ///
    /// Why it failed; told once, to whoever waits first.
    pub fn await_termination(&self) -> Result<Arc<Summary>, Error> {
        let status = self.shared.status.lock().unwrap_or_else(PoisonError::into_inner);
        let active = |status: &mut Status| matches!(status, Status::Active);
        let mut status = self.shared.ended.wait_while(status, active).unwrap_or_else(PoisonError::into_inner);
        tell(&mut status)
    }

    /// Waits for at most `timeout`; `None`: the job goes on.
    ///
    /// # Errors
    ///
    /// Why it failed, as with [`await_termination`](Self::await_termination).
    pub fn await_termination_for(&self, timeout: Duration) -> Result<Option<Arc<Summary>>, Error> {
        let status = self.shared.status.lock().unwrap_or_else(PoisonError::into_inner);
        let active = |status: &mut Status| matches!(status, Status::Active);
        let waited = self.shared.ended.wait_timeout_while(status, timeout, active);
        let mut status = waited.unwrap_or_else(PoisonError::into_inner).0;
        if matches!(*status, Status::Active) { Ok(None) } else { tell(&mut status).map(Some) }
    }

    /// What has been counted of each step so far.
    #[must_use]
    pub fn steps(&self) -> Vec<StepCounts> {
        step_counts(&self.shared.plans.current())
    }
}

fn tell(status: &mut Status) -> Result<Arc<Summary>, Error> {
    match std::mem::replace(status, Status::Active) {
        Status::Ended(summary, error) => {
            *status = Status::Told(summary.clone());
            error.map_or(Ok(summary), Err)
        }
        Status::Told(summary) => {
            *status = Status::Told(summary.clone());
            Ok(summary)
        }
        Status::Active => unreachable!("only an ended job is told about"),
    }
}

fn step_counts(plan: &Plan) -> Vec<StepCounts> {
    let steps = plan.steps.iter().map(|step| {
        let operators = step.operators.iter();
        let guest = operators.flat_map(|planned| planned.operator.guest_metrics(&plan.settings.name, &step.name));
        StepCounts { guest: guest.collect(), ..step.meter.snapshot(&step.name) }
    });
    steps.chain(plan.sinks.iter().map(|sink| sink.meter.snapshot(&sink.name))).collect()
}

/// Opens what the steps of a plan keep from batch to batch; `None`: they keep nothing.
pub(crate) fn open_state(plan: &Plan) -> Result<Option<StateStore>, StateError> {
    if plan.states.is_empty() {
        return Ok(None);
    }
    let store = StateStore::open(&plan.settings.state)?;
    plan.states.iter().for_each(|state| store.attach(state));
    Ok(Some(store))
}

/// Tells listeners what happens to a source.
fn tell_of(source: String, listeners: Vec<Arc<dyn Listener>>) -> SourceObserver {
    Arc::new(move |event| listeners.iter().for_each(|listener| listener.on_source_event(&source, event)))
}

/// Opens a sink. A job that stands by waits while another process has its place: one that stood still has lost the checkpoint, and lets
/// go of it when it sees that.
fn open_sink(
    name: &str,
    standby: &Standby,
    patience: &Patience,
    open: impl Fn() -> Result<Arc<dyn Sink>, Error>,
) -> Result<Arc<dyn Sink>, StartError> {
    let mut told = false;
    loop {
        let error = match open() {
            Err(error) => error,
            Ok(sink) => return Ok(sink),
        };
        let is_taken = matches!(error.downcast_ref(), Some(SinkError::InUse { .. }));
        if !is_taken || !standby.waits_for_owner() {
            return Err(StartError::Open { part: "sink", name: name.to_owned(), source: error });
        }
        if !std::mem::replace(&mut told, true) {
            let error = error.in_one_line();
            tracing::info!(target: "tidemill::scheduler", sink = name, error, "the job stands by: another process writes to its sink");
        }
        if !patience.pause(SINK_LOOK_EVERY) {
            return Err(StartError::Stopped);
        }
    }
}

/// Opens the sinks and sources of a plan and runs it.
///
/// # Errors
///
/// What could not be opened; nothing runs then.
///
/// `again` plans the job again, when plugins are to be loaded anew; it gets the plan that runs. `standby` says what is waited for.
pub fn start(
    plan: Plan,
    again: impl Fn(&Plan) -> Result<Plan, PlanErrors> + Send + Sync + 'static,
    clock: Arc<dyn Clock>,
    listeners: Vec<Arc<dyn Listener>>,
    standby: &Standby,
) -> Result<Running, StartError> {
    start_when_free(plan, Box::new(again), clock, listeners, standby).map_err(|error| match error {
        // What failed is that nobody waited any more.
        StartError::Checkpoint(_) if standby.is_given_up() => StartError::Stopped,
        error => error,
    })
}

fn start_when_free(
    plan: Plan,
    again: Box<PlanAgain>,
    clock: Arc<dyn Clock>,
    listeners: Vec<Arc<dyn Listener>>,
    standby: &Standby,
) -> Result<Running, StartError> {
    let plan = Arc::new(plan);
    let plans = Arc::new(Plans::new(plan.clone(), again));
    let spill = Spill::open(&plan.settings.spill).map_err(StartError::Spill)?;
    let store = Arc::new(match &spill {
        Some(spill) if plan.settings.spill.blocks => BlockStore::spilling(plan.settings.memory_bytes, spill),
        _ => BlockStore::new(plan.settings.memory_bytes),
    });
    let patience = standby.patience(&plan.stop);
    let mut resumed = open_checkpoint(&plan, standby).map_err(|error| StartError::Checkpoint(error.into()))?;
    let committed = resumed.as_ref().and_then(|resumed| resumed.committed.as_ref());
    let mut sinks: Vec<(String, Arc<dyn Sink>)> = Vec::new();
    for sink in &plan.sinks {
        let definition: &dyn SinkDefinition = &*sink.definition;
        let opened = open_sink(&sink.name, standby, &patience, || match &resumed {
            Some(resumed) if resumed.next > 0 => {
                definition.resume(&sink.schema, committed.map(|commit| BatchId(commit.batch_id)))
            }
            _ => definition.open(&sink.schema),
        })?;
        sinks.push((sink.name.clone(), opened));
    }
    for table in &plan.tables {
        let name = table.name().to_owned();
        table.open().map_err(|source| StartError::Open { part: "table", name, source })?;
    }
    let mut opened = Vec::new();
    for source in &plan.sources {
        let open = source.definition.open();
        opened.push(open.map_err(|error| StartError::Open {
            part: "source",
            name: source.name.clone(),
            source: error,
        })?);
    }
    let pool = WorkerPool::start(plan.settings.worker_threads).map_err(StartError::Thread)?;
    let state = open_state(&plan).map_err(StartError::State)?;
    let mut watermarks = Watermarks::new(plan.event_times.clone(), plan.clocks.clone());
    let mut received = None;
    if let Some(resumed) = &mut resumed {
        let progress = restore(&plan, resumed, state.as_ref(), pool.n_threads()).map_err(StartError::Checkpoint)?;
        resumed.clocks().into_iter().for_each(|clocks| watermarks.resume(clocks));
        for (source, open) in plan.sources.iter().zip(&mut opened) {
            if let OpenSource::Replayable(replayable) = open {
                let read = without_received(read_before(&source.name, &progress, &resumed.pending));
                replayable.resume(read).map_err(StartError::Checkpoint)?;
            }
        }
        let is_receiver = |open: &OpenSource| matches!(open, OpenSource::Receiver(_));
        let receivers: Vec<bool> = opened.iter().map(is_receiver).collect();
        received = open_received(&plan, resumed, &progress, &receivers).map_err(StartError::Checkpoint)?;
    }
    let control = Arc::new(Control::new(plan.stop.clone(), store.clone()));
    let shared = Arc::new(Shared {
        control: control.clone(),
        status: Mutex::new(Status::Active),
        ended: Condvar::new(),
        plans: plans.clone(),
    });
    let mut sources = Vec::new();
    let mut counters: Vec<(String, Arc<SourceCounters>)> = Vec::new();
    for ((index, open), planned) in opened.into_iter().enumerate().zip(&plan.sources) {
        sources.push(match open {
            OpenSource::Receiver(receiver) => {
                let rows = ReceivedRows::new(received.as_ref(), index, planned.durability);
                let settings = ReceiverSettings {
                    job: plan.settings.name.clone(),
                    source: planned.name.clone(),
                    index,
                    schema: planned.physical_schema(),
                    store: store.clone(),
                    log: rows.way_in(),
                    clock: clock.clone(),
                    observer: Some(tell_of(planned.name.clone(), listeners.clone())),
                };
                let handle = ReceiverHandle::start(settings, receiver).map_err(|source| StartError::Open {
                    part: "source",
                    name: planned.name.clone(),
                    source,
                })?;
                counters.push((planned.name.clone(), handle.counters().clone()));
                LiveSource::Receiver(handle, rows)
            }
            OpenSource::Replayable(source) => {
                counters.extend(source.counters().map(|counters| (planned.name.clone(), counters)));
                LiveSource::Replayable { source, drained: false }
            }
        });
    }
    let names: Vec<String> = plan.sources.iter().map(|source| source.name.clone()).collect();
    let readers: Vec<_> = sources
        .iter()
        .map(|source| match source {
            LiveSource::Receiver(_, received) => received.reader(),
            LiveSource::Replayable { source, .. } => Some(source.reader()),
        })
        .collect();
    let pending = resumed.iter().flat_map(|resumed| &resumed.pending);
    let published_max = resumed.as_ref().map_or(0, |resumed| resumed.published_max);
    let begun: Vec<Batch> = pending.map(|offsets| begun(&names, &readers, offsets, published_max)).collect();
    let committed = resumed.as_ref().and_then(|resumed| resumed.committed.as_ref());
    let last_time_us = begun.last().map(|batch| batch.batch_time_us).or(committed.map(|commit| commit.batch_time_us));
    let generator = BatchGenerator {
        names: names.clone(),
        sources,
        store: store.clone(),
        settings: plan.settings.clone(),
        clock: clock.clone(),
        control: control.clone(),
        keeps: !plan.states.is_empty(),
        next_id: BatchId(resumed.as_ref().map_or(0, |resumed| resumed.next)),
        last_time_us,
        made_at: clock.monotonic(),
        messages: TickMessages::default(),
        list_errors: vec![ListError::default(); plan.sources.len()],
        checkpoint: resumed.as_ref().map(|resumed| resumed.checkpoint.clone().until_stopped(&plan.stop)),
        has_ended: committed.is_some_and(|commit| commit.closes) || begun.iter().any(|batch| batch.closes),
        begun,
        stopped: plan.stop.clone(),
    };
    if let Some(resumed) = &resumed {
        // Nothing of it may be shown any more.
        let control = control.clone();
        resumed.checkpoint.on_loss(move || control.request(Stop::AtOnce));
    }
    let committer =
        resumed.map(|resumed| Committer::start(resumed, plan.settings.checkpoint_batches, plan.stop.clone(), received));
    let committer = committer.transpose().map_err(StartError::Thread)?;
    let (queue, batches) = unbounded::<(Batch, Duration)>();
    let memory_bytes = plan.settings.spill.memory_bytes;
    let memory = BatchMemory::new(spill.clone(), memory_bytes, pool.n_threads(), plan.shuffles.len());
    let runner = Runner {
        batches: BatchRunner {
            watermarks: Mutex::new(watermarks),
            state,
            plan: plan.clone(),
            pool,
            store,
            memory,
            sinks,
            stopped: plan.stop.clone(),
            committer,
        },
        clock: clock.clone(),
        control,
        listeners: listeners.clone(),
        started: Stopwatch::start(),
        summary: Summary::default(),
        times_us: new_histogram(),
        skipped_in_a_row: 0,
        plans,
        trial: None,
        spill,
    };
    let generate = move || {
        generator.run(|batch| {
            let sources = names.iter().zip(&batch.inputs).map(|(name, input)| input.describe(name)).collect();
            let event = BatchSubmitted { batch_id: batch.batch_id, batch_time_us: batch.batch_time_us, sources };
            listeners.iter().for_each(|listener| listener.on_batch_submitted(&event));
            // The runner takes batches until the generator ends.
            let _ = queue.send((batch, clock.monotonic()));
        })
    };
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let generator_thread = thread("generator").spawn(generate).map_err(StartError::Thread)?;
    let ending = shared.clone();
    let run = move || {
        let (mut summary, error, listeners) = runner.run(&batches);
        let generated = generator_thread.join().unwrap_or_else(|panic| Err(panicked(&*panic).into()));
        // What failed first is what the other followed from.
        let error = error.or(generated.err());
        let counts = counters.into_iter();
        summary.sources =
            counts.map(|(source, counters)| SourceSummary { source, counts: counters.snapshot() }).collect();
        let event = RunEnded { summary: summary.clone(), error: error.as_ref().map(Error::report) };
        listeners.iter().for_each(|listener| listener.on_run_ended(&event));
        *ending.status.lock().unwrap_or_else(PoisonError::into_inner) = Status::Ended(Arc::new(summary), error);
        ending.ended.notify_all();
    };
    if let Err(error) = thread("runner").spawn(run) {
        shared.control.request(Stop::AtOnce);
        return Err(StartError::Thread(error));
    }
    Ok(Running { shared })
}

/// The runner's thread.
struct Runner {
    batches: BatchRunner,
    clock: Arc<dyn Clock>,
    control: Arc<Control>,
    listeners: Vec<Arc<dyn Listener>>,
    started: Stopwatch,
    summary: Summary,
    /// Processing times of batches in microseconds, to three digits: a fixed amount of memory however long a job runs.
    times_us: hdrhistogram::Histogram<u64>,
    skipped_in_a_row: u32,
    plans: Arc<Plans>,
    /// Plugins that were loaded anew and have not proved themselves.
    trial: Option<Trial>,
    /// Where rows go that memory has no room for; `None`: nowhere.
    spill: Option<Arc<Spill>>,
}

fn new_histogram() -> hdrhistogram::Histogram<u64> {
    // Three significant digits are valid, and resizing is on: this cannot fail.
    hdrhistogram::Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are valid"))
}

impl Runner {
    fn run(mut self, queue: &Queue<(Batch, Duration)>) -> (Summary, Option<Error>, Vec<Arc<dyn Listener>>) {
        let mut failure = None;
        for (batch, submitted) in queue {
            // After a failure, and when stopped at once, what is queued is dropped, but its blocks are let go: a
            // receiver that waits for room must see that it is over.
            if failure.is_some() || self.control.stop() == Stop::AtOnce {
                self.batches.release(&batch);
            } else if let Err(error) = self.run_one(&batch, submitted) {
                // What is broken off by a stop fails in ways of its own, which tell nothing.
                let is_stopped = self.control.stop() == Stop::AtOnce;
                self.control.request(Stop::AtOnce);
                if !is_stopped && error.downcast_ref::<Cancelled>().is_none() {
                    failure = Some(error);
                }
            }
            self.control.end_in_flight();
        }
        if let Err(error) = self.batches.wait_for_checkpoint() {
            failure.get_or_insert(error);
        }
        for (_, sink) in &self.batches.sinks {
            if let Err(error) = sink.close() {
                failure.get_or_insert(error);
            }
        }
        if self.control.stop() == Stop::AtOnce {
            self.summary.outcome = RunOutcome::StoppedAtOnce;
        }
        self.summary.elapsed_seconds = self.started.elapsed().as_secs_f64();
        self.summary.batch_seconds_p50 = self.times_us.value_at_quantile(0.5) as f64 / 1e6;
        self.summary.batch_seconds_p99 = self.times_us.value_at_quantile(0.99) as f64 / 1e6;
        self.summary.peak_memory_bytes = peak_memory_bytes();
        self.summary.steps = step_counts(&self.batches.plan);
        self.summary.spill = self.spilled();
        if let Some(spill) = &self.spill {
            // A receiver that was abandoned may live on, and hold what it was to push into.
            spill.close();
        }
        (self.summary, failure, self.listeners)
    }

    fn spilled(&self) -> SpillCounts {
        let counts = self.spill.as_ref().map(|spill| spill.counts()).unwrap_or_default();
        SpillCounts { memory_bytes_peak: self.batches.memory.peak_bytes(), ..counts }
    }

    fn run_one(&mut self, batch: &Batch, submitted: Duration) -> Result<(), Error> {
        let Batch { batch_id, batch_time_us, .. } = *batch;
        let scheduling_delay = self.clock.monotonic().saturating_sub(submitted);
        let event = BatchStarted { batch_id, scheduling_delay };
        self.listeners.iter().for_each(|listener| listener.on_batch_started(&event));
        let watch = Stopwatch::start();
        let outcome = self.run_on_trial(batch);
        self.batches.release(batch);
        let error = match outcome {
            Ok(outcome) => {
                self.control.set_clock_moves(outcome.clock_moves);
                let processing_time = watch.elapsed();
                self.summary.batches += 1;
                self.summary.rows_in += outcome.rows_in;
                self.summary.rows_out += outcome.rows_out;
                // It grows with its values: only one of 2^64 microseconds would not fit.
                let _ = self.times_us.record(processing_time.as_micros() as u64);
                self.skipped_in_a_row = 0;
                let event = BatchCompleted {
                    batch_id,
                    batch_time_us,
                    rows_in: outcome.rows_in,
                    rows_out: outcome.rows_out,
                    rows_dead_lettered: outcome.rows_dead_lettered,
                    n_tasks: outcome.n_tasks,
                    scheduling_delay,
                    processing_time,
                    spill: self.spilled(),
                };
                self.listeners.iter().for_each(|listener| listener.on_batch_completed(&event));
                return Ok(());
            }
            Err(error) => error,
        };
        let skipped = self.control.stop() != Stop::AtOnce && self.may_be_skipped(&error);
        if self.control.stop() != Stop::AtOnce && error.downcast_ref::<Cancelled>().is_none() {
            let event = BatchFailed { batch_id, batch_time_us, error: error.report(), skipped };
            self.listeners.iter().for_each(|listener| listener.on_batch_failed(&event));
        }
        if !skipped {
            return Err(error);
        }
        tracing::error!(
            target: "tidemill::scheduler",
            job = self.batches.plan.settings.name, batch_id = batch_id.0, error = %error,
            "a batch was skipped: none of its rows reaches a sink"
        );
        self.batches.skip(batch)?;
        self.summary.batches_skipped += 1;
        let pause = SKIP_PAUSE_MIN.saturating_mul(1 << self.skipped_in_a_row.min(16)).min(SKIP_PAUSE_MAX);
        self.skipped_in_a_row += 1;
        self.control.sleep(pause);
        Ok(())
    }

    /// Runs a batch with the newest plugins, and with those before when it fails with new ones.
    fn run_on_trial(&mut self, batch: &Batch) -> Result<BatchOutcome, Error> {
        let batch_id = batch.batch_id;
        let job = self.batches.plan.settings.name.clone();
        if let Some(trial) = self.plans.take() {
            self.batches.plan = self.plans.current();
            for ChangedPlugin { step, plugin, before, now } in &trial.changed {
                tracing::info!(
                    target: "tidemill::scheduler",
                    job, batch_id = batch_id.0, step, plugin, before, now,
                    "a plugin was loaded anew, and runs from this batch on"
                );
            }
            let event = PluginsReloaded { batch_id, plugins: trial.changed.clone() };
            self.listeners.iter().for_each(|listener| listener.on_plugins_reloaded(&event));
            self.trial = Some(trial.after(self.trial.take()));
            fail_point::pass("plugins-replaced");
        }
        let outcome = self.run_attempts(batch);
        let Some(mut trial) = self.trial.take() else { return outcome };
        match outcome {
            Ok(outcome) => {
                self.trial = (!trial.passed()).then_some(trial);
                Ok(outcome)
            }
            Err(error) if self.control.stop() == Stop::AtOnce => Err(error),
            Err(error) => {
                let event = ReloadUndone { batch_id, plugins: trial.changed.clone(), error: error.report() };
                tracing::error!(
                    target: "tidemill::scheduler",
                    job, batch_id = batch_id.0, error = error.in_one_line(),
                    "a batch failed with plugins that were loaded anew: those before are back, and run it again"
                );
                self.plans.undo(trial);
                self.batches.plan = self.plans.current();
                self.listeners.iter().for_each(|listener| listener.on_reload_undone(&event));
                fail_point::pass("reload-undone");
                self.run_attempts(batch)
            }
        }
    }

    /// Runs a batch until it is published, or trying again does not help.
    fn run_attempts(&self, batch: &Batch) -> Result<BatchOutcome, Error> {
        let mut pause = RETRY_PAUSE_MIN;
        for attempt in 0.. {
            let error = match self.batches.run(batch, attempt) {
                Err(error) if self.tries_again(&error, attempt) => error,
                outcome => return outcome,
            };
            let settings = &self.batches.plan.settings;
            tracing::warn!(
                target: "tidemill::scheduler",
                job = settings.name, batch_id = batch.batch_id.0, attempt, error = error.in_one_line(), again_in = ?pause,
                "a batch failed in a way that may pass, and is run again"
            );
            let event = BatchRetried { batch_id: batch.batch_id, attempt, error: error.report(), pause };
            self.listeners.iter().for_each(|listener| listener.on_batch_retried(&event));
            if self.control.wait_for_stop_at_once(pause) {
                return Err(Cancelled.into());
            }
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
        unreachable!("attempts have no end")
    }

    fn tries_again(&self, error: &Error, attempt: u32) -> bool {
        let more = match error.retry() {
            Retry::Never => false,
            Retry::WithBackoff => attempt + 1 < self.batches.plan.settings.attempts,
            Retry::UntilItPasses => true,
        };
        more && self.control.stop() != Stop::AtOnce
    }

    fn may_be_skipped(&self, error: &Error) -> bool {
        let call = error.downcast_ref::<CallError>().map(|error| &error.site().step);
        let value = error.downcast_ref::<EvaluationFailed>().map(|error| &error.site.step);
        let query = error.downcast_ref::<QueryFailed>().map(|error| &error.site.step);
        let memory = error.downcast_ref::<OutOfMemory>().map(|error| &error.site.step);
        let Some(failed) = call.or(value).or(query).or(memory) else { return false };
        let step = self.batches.plan.steps.iter().find(|step| step.name == *failed);
        step.is_some_and(|step| step.on_error == OnError::SkipBatch)
    }
}
