//! Fixes, at each tick, what the next batch holds.

use std::sync::Arc;
use std::time::Duration;

use crate::block_store::BlockStore;
use crate::checkpoint::{Checkpoint, LogPlace, persist};
use crate::clock::{Clock, Stopwatch};
use crate::error::Error;
use crate::ids::BatchId;
use crate::job::{MissedBatches, Settings, Trigger};
use crate::operator::StopFlag;
use crate::scheduler::batch::{Batch, SourceInput, deal_out};
use crate::scheduler::control::{Control, Stop};
use crate::scheduler::received::ReceivedRows;
use crate::scheduler::recover::offsets;
use crate::scheduler::ticks::{TickMessages, next_tick, time_of_now};
use crate::source::{BatchLimit, ReceiverHandle, Replayable};
use crate::task::pipeline::Cancelled;
use crate::write_ahead_log::{Halted, WriteAheadLog};

/// How often replayable sources are asked for more when no interval says it: as soon as the last batch has ended, but
/// not more often than this while nothing is new.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Batches that may be submitted and not ended, the running one included. When a tick finds as many it is skipped: its
/// rows wait in the block store, which pushes back, and come with a later batch. Where missed batches are run, it waits.
pub(crate) const BATCHES_IN_FLIGHT_MAX: usize = 4;

/// How often a batch without rows is made when no interval says it and steps keep something from batch to batch.
pub(crate) const SILENT_BATCH_INTERVAL: Duration = Duration::from_secs(1);

/// A receiver that has not returned this long after it was told to stop is abandoned: it looks at `is_stopping` every
/// 100 ms, so this is fifty chances.
const RECEIVER_STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// A batch takes at most this share of the block store of received rows, so that receivers go on while it runs.
const BATCH_SHARE_OF_STORE: u64 = 2;

/// An open source, as the generator sees it.
pub(crate) enum LiveSource {
    /// Its rows wait in the block store, under its index; those from before a crash come first.
    Receiver(ReceiverHandle, ReceivedRows),
    /// Asked at each tick.
    Replayable {
        /// The source.
        source: Box<dyn Replayable>,
        /// Whether nothing is left of what there was when the job started.
        drained: bool,
    },
}

impl LiveSource {
    /// How far the write-ahead log has come with it, when the next batch has its rows.
    fn log_place(&self) -> Option<LogPlace> {
        match self {
            LiveSource::Receiver(_, received) => received.log_place(),
            LiveSource::Replayable { .. } => None,
        }
    }
}

pub(crate) struct BatchGenerator {
    pub(crate) names: Vec<String>,
    pub(crate) sources: Vec<LiveSource>,
    pub(crate) store: Arc<BlockStore>,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) control: Arc<Control>,
    /// Whether steps keep anything from batch to batch: then batches without rows matter too.
    pub(crate) keeps: bool,
    pub(crate) next_id: BatchId,
    pub(crate) last_time_us: Option<i64>,
    /// When the last batch was made, by the clock that nobody sets.
    pub(crate) made_at: Duration,
    pub(crate) messages: TickMessages,
    /// Why each source could not be listed last.
    pub(crate) list_errors: Vec<ListError>,
    /// Where it is said what a batch reads, before it runs.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Batches that were begun before the job was started again: they come first.
    pub(crate) begun: Vec<Batch>,
    /// Whether the job had ended before it was started again.
    pub(crate) has_ended: bool,
    pub(crate) stopped: StopFlag,
}

/// Why a source could not be listed: told once, not at every tick.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListError {
    last: String,
}

impl ListError {
    fn tell(&mut self, job: &str, source: &str, error: &Error) {
        let text = error.in_one_line();
        if text != self.last {
            tracing::error!(
                target: "tidemill::source",
                job, source, error = text,
                "a source could not be listed; it is tried again for every batch"
            );
            self.last = text;
        }
    }
}

impl BatchGenerator {
    /// Makes batches until the sources have ended or the job is stopped, and gives each to `submit`.
    ///
    /// # Errors
    ///
    /// Why a source could not give all that it had. What it gave has been submitted.
    pub(crate) fn run(mut self, mut submit: impl FnMut(Batch)) -> Result<(), Error> {
        for batch in std::mem::take(&mut self.begun) {
            self.control.add_in_flight();
            submit(batch);
        }
        let outcome = if self.has_ended {
            Ok(())
        } else if self.settings.trigger == Trigger::AvailableNow || self.settings.batch_interval.is_zero() {
            self.run_when_rows_wait(&mut submit)
        } else {
            self.run_at_ticks(&mut submit)
        };
        for source in &mut self.sources {
            if let LiveSource::Receiver(receiver, _) = source {
                receiver.stop();
            }
        }
        let mut outcome = outcome;
        let mut watch = Stopwatch::start();
        // A receiver that is waiting for room would not see the stop while the store is full: what it has comes first.
        while outcome.is_ok() && self.control.stop() != Stop::AtOnce {
            // Before the rows are taken: what a receiver pushed before it ended is among them.
            let ended = self.receivers_have_ended();
            let (inputs, has_rows) = self.take_received();
            if has_rows {
                outcome = self.submit_at_now(inputs, &mut submit);
                self.control.wait_until_idle();
                // Until now it may have waited for room.
                watch = Stopwatch::start();
            } else if ended || watch.elapsed() > RECEIVER_STOP_TIME_MAX {
                break;
            } else {
                self.store.wait_for_rows(POLL_INTERVAL);
            }
        }
        if self.keeps && outcome.is_ok() && self.control.stop() == Stop::No && self.is_over() {
            outcome = self.submit_closing(&mut submit);
        }
        for (source, name) in self.sources.iter().zip(&self.names) {
            if let LiveSource::Receiver(receiver, _) = source
                && !receiver.join(RECEIVER_STOP_TIME_MAX)
            {
                receiver.abandon();
                tracing::error!(
                    target: "tidemill::source",
                    job = self.settings.name, source = name, waited = ?RECEIVER_STOP_TIME_MAX,
                    "a receiver did not stop and was abandoned: what it still pushes is refused"
                );
            }
        }
        // What was received and is in no batch, because the job was stopped at once, is for its next run.
        let outcome = outcome.and(self.sync_log());
        if outcome.is_ok() {
            self.log().inspect(|log| log.close());
        }
        let failures = self.sources.iter().filter_map(|source| match source {
            LiveSource::Receiver(receiver, _) => receiver.take_failure(),
            LiveSource::Replayable { .. } => None,
        });
        outcome.and(failures.map(Err).next().unwrap_or(Ok(())))
    }

    fn run_at_ticks(&mut self, submit: &mut dyn FnMut(Batch)) -> Result<(), Error> {
        let interval = self.settings.batch_interval;
        loop {
            let tick = next_tick(self.clock.now(), self.last_time_us, interval, self.settings.missed_batches);
            self.messages.tell(&self.settings, &tick, self.last_time_us);
            let time_us = tick.time_us;
            if self.control.sleep(tick.wait) != Stop::No {
                return Ok(());
            }
            if self.has_failed() {
                return Ok(());
            }
            // Before the batch is made: what a source pushed before it ended is in it.
            let ended = self.have_ended();
            if self.settings.missed_batches == MissedBatches::Run {
                if self.control.wait_for_room(BATCHES_IN_FLIGHT_MAX) != Stop::No {
                    return Ok(());
                }
            } else if self.control.n_in_flight() >= BATCHES_IN_FLIGHT_MAX {
                tracing::warn!(
                    target: "tidemill::scheduler",
                    job = self.settings.name, batch_time_us = time_us, n_in_flight = BATCHES_IN_FLIGHT_MAX,
                    "batches take longer than the interval: this tick is skipped, its rows come with the next"
                );
                self.last_time_us = Some(time_us);
                continue;
            }
            let (inputs, has_rows) = self.take()?;
            if ended && !has_rows {
                return Ok(());
            }
            self.submit(time_us, inputs, false, submit)?;
        }
    }

    fn run_when_rows_wait(&mut self, submit: &mut dyn FnMut(Batch)) -> Result<(), Error> {
        let mut watch = Stopwatch::start();
        loop {
            if self.control.wait_until_idle() != Stop::No {
                return Ok(());
            }
            if self.has_failed() {
                return Ok(());
            }
            let ended = self.have_ended();
            let (inputs, has_rows) = self.take()?;
            if has_rows {
                self.submit_at_now(inputs, submit)?;
                watch = Stopwatch::start();
            } else if ended || self.is_drained() {
                return Ok(());
            } else if self.keeps && (self.control.clock_moves() || watch.elapsed() >= SILENT_BATCH_INTERVAL) {
                // Nothing came, but time goes on: windows end, keys time out.
                self.submit_at_now(inputs, submit)?;
                watch = Stopwatch::start();
            } else {
                self.store.wait_for_rows(POLL_INTERVAL);
            }
        }
    }

    /// Whether nothing will come any more but what is waiting now.
    fn have_ended(&self) -> bool {
        self.sources.iter().all(|source| match source {
            LiveSource::Receiver(receiver, _) => receiver.is_finished(),
            LiveSource::Replayable { source, drained } => {
                source.has_ended() || (*drained && self.settings.trigger == Trigger::AvailableNow)
            }
        })
    }

    /// Whether what there was when the job started has all been taken, now that every source has been asked.
    fn is_drained(&self) -> bool {
        self.settings.trigger == Trigger::AvailableNow
            && self.sources.iter().all(|source| matches!(source, LiveSource::Replayable { drained: true, .. }))
    }

    /// Whether a source has failed for good: the job ends, with what was received until then.
    fn has_failed(&self) -> bool {
        self.sources.iter().any(|source| match source {
            LiveSource::Receiver(receiver, _) => receiver.has_failed(),
            LiveSource::Replayable { .. } => false,
        })
    }

    fn receivers_have_ended(&self) -> bool {
        self.sources.iter().all(|source| match source {
            LiveSource::Receiver(receiver, _) => receiver.is_finished(),
            LiveSource::Replayable { .. } => true,
        })
    }

    /// Takes what waits in every source.
    fn take(&mut self) -> Result<(Vec<SourceInput>, bool), Error> {
        self.take_from(true)
    }

    /// Takes what waits in the block store alone.
    fn take_received(&mut self) -> (Vec<SourceInput>, bool) {
        // Only listing a replayable source can fail.
        self.take_from(false).unwrap_or_default()
    }

    fn take_from(&mut self, also_replayable: bool) -> Result<(Vec<SourceInput>, bool), Error> {
        let n_receivers = self.sources.iter().filter(|source| matches!(source, LiveSource::Receiver(..))).count();
        let bytes_max = self.settings.memory_bytes / BATCH_SHARE_OF_STORE / n_receivers.max(1) as u64;
        let partitions = self.settings.partitions;
        let mut has_rows = false;
        let mut inputs = Vec::new();
        for (index, source) in self.sources.iter_mut().enumerate() {
            let input = match source {
                LiveSource::Receiver(_, received) => match received.take_unread(bytes_max, partitions) {
                    Some(unread) => unread,
                    None => {
                        let blocks = self.store.allocate(index, bytes_max);
                        let first_row = received.number(blocks.iter().map(|block| block.n_rows).sum());
                        let partitions = deal_out(&blocks, partitions);
                        let blocks = blocks.iter().map(|block| block.id).collect();
                        SourceInput::Blocks { blocks, partitions, first_row }
                    }
                },
                LiveSource::Replayable { source, drained } => {
                    let mut dealt = Vec::new();
                    let goes_on = also_replayable && !(*drained && self.settings.trigger == Trigger::AvailableNow);
                    if goes_on {
                        match source.plan_batch(BatchLimit { partitions }) {
                            Ok(planned) => {
                                self.list_errors[index] = ListError::default();
                                *drained = planned.drained;
                                dealt = planned.into_partitions(partitions);
                            }
                            // A job that drains what is there must not end without it, nor wait for ever.
                            Err(error) if self.settings.trigger == Trigger::AvailableNow => return Err(error),
                            Err(error) => self.list_errors[index].tell(&self.settings.name, &self.names[index], &error),
                        }
                    }
                    SourceInput::Ranges { reader: source.reader(), partitions: dealt }
                }
            };
            has_rows |= input.n_partitions() > 0;
            inputs.push(input);
        }
        Ok((inputs, has_rows))
    }

    fn submit_at_now(&mut self, inputs: Vec<SourceInput>, submit: &mut dyn FnMut(Batch)) -> Result<(), Error> {
        let time_us = self.now_us();
        self.submit(time_us, inputs, false, submit)
    }

    /// The time of a batch that is made now, which no batch before it has.
    fn now_us(&mut self) -> i64 {
        let passed = self.clock.monotonic().saturating_sub(self.made_at);
        let (time_us, behind) = time_of_now(self.clock.now(), self.last_time_us, passed);
        self.messages.tell_set_back(&self.settings, behind);
        time_us
    }

    /// The last batch of a job whose sources have ended: without rows, it completes what steps keep open.
    fn submit_closing(&mut self, submit: &mut dyn FnMut(Batch)) -> Result<(), Error> {
        if self.control.wait_until_idle() != Stop::No {
            return Ok(());
        }
        let time_us = match self.last_time_us {
            // The next tick, although nobody waits for it.
            Some(last_us) if !self.settings.batch_interval.is_zero() => {
                last_us + self.settings.batch_interval.as_micros() as i64
            }
            _ => self.now_us(),
        };
        let (inputs, _) = self.take_received();
        self.submit(time_us, inputs, true, submit)
    }

    /// Whether a job whose sources have ended is over: what steps keep open is completed then. With a checkpoint the job may be
    /// started again, and goes on, unless no source can ever have more.
    fn is_over(&self) -> bool {
        let never_has_more =
            |source: &LiveSource| matches!(source, LiveSource::Replayable { source, .. } if source.has_ended());
        !self.has_ended && (self.checkpoint.is_none() || self.sources.iter().all(never_has_more))
    }

    /// Brings the rows of a batch to the disk, before it is written that the batch has them.
    fn sync_received(&self, batch: &Batch) -> Result<(), Error> {
        let has_rows = |input: &SourceInput| matches!(input, SourceInput::Blocks { blocks, first_row: Some(_), .. } if !blocks.is_empty());
        if batch.inputs.iter().any(has_rows) { self.sync_log() } else { Ok(()) }
    }

    fn log(&self) -> Option<&WriteAheadLog> {
        self.sources.iter().find_map(|source| match source {
            LiveSource::Receiver(_, received) => received.log(),
            LiveSource::Replayable { .. } => None,
        })
    }

    fn sync_log(&self) -> Result<(), Error> {
        match self.log().map(|log| log.sync(&|| self.stopped.is_set())) {
            Some(Err(Halted::Failed(error))) => Err(error.into()),
            Some(Err(Halted::Stopped)) => Err(Cancelled.into()),
            Some(Ok(())) | None => Ok(()),
        }
    }

    fn submit(
        &mut self,
        batch_time_us: i64,
        inputs: Vec<SourceInput>,
        closes: bool,
        submit: &mut dyn FnMut(Batch),
    ) -> Result<(), Error> {
        let batch = Batch { batch_id: self.next_id, batch_time_us, inputs, closes, is_repeated: false };
        if let Some(checkpoint) = &self.checkpoint {
            self.sync_received(&batch)?;
            let places: Vec<_> = self.sources.iter().map(LiveSource::log_place).collect();
            let offsets = offsets(&self.names, &batch, &places);
            persist(checkpoint, &self.stopped, |checkpoint| checkpoint.begin(&offsets))?;
        }
        self.next_id = self.next_id.next();
        self.last_time_us = Some(batch_time_us);
        self.made_at = self.clock.monotonic();
        self.control.add_in_flight();
        submit(batch);
        Ok(())
    }
}
