//! Runs one old batch again from a checkpoint, beside the job: over the same rows, from the state before it, into no sink.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;

use crate::block_store::BlockStore;
use crate::checkpoint::{Kept, old_batch};
use crate::error::{Error, Explain, Fault};
use crate::ids::BatchId;
use crate::json_lines::write_lines;
use crate::plan::Plan;
use crate::scheduler::received::read_received;
use crate::scheduler::recover::{begun, shape};
use crate::scheduler::restore::read_back;
use crate::scheduler::run::open_state;
use crate::scheduler::run_batch::BatchRunner;
use crate::scheduler::watermarks::Watermarks;
use crate::sink::{Collect, Sink, SinkDefinition};
use crate::source::OpenSource;
use crate::spill::{BatchMemory, Spill};
use crate::step::keyed::internal;
use crate::task::pool::WorkerPool;

/// What a batch gave when it was run again.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// The batch.
    pub batch_id: BatchId,
    /// Its time in microseconds since 1970-01-01 UTC.
    pub batch_time_us: i64,
    /// Rows that came in.
    pub rows_in: u64,
    /// What each sink would have got, in the job's order.
    pub sinks: Vec<ReplayedSink>,
}

/// What a sink would have got.
#[derive(Debug, Clone)]
pub struct ReplayedSink {
    /// The sink's name.
    pub sink: String,
    /// The rows, ordered by partition.
    pub rows: Vec<RecordBatch>,
}

impl ReplayedSink {
    /// The rows as JSON, an object a line.
    ///
    /// # Errors
    ///
    /// What has no form in JSON.
    pub fn json_lines(&self) -> Result<String, Error> {
        let mut lines = Vec::new();
        for rows in &self.rows {
            write_lines(rows, &mut lines).map_err(internal(format!("writing what sink `{}` would get", self.sink)))?;
        }
        Ok(String::from_utf8_lossy(&lines).into_owned())
    }
}

/// Why a batch cannot be run again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// There is nothing to run it from.
    #[error("job `{job}` has no checkpoint")]
    NoCheckpoint {
        /// The job.
        job: String,
    },
    /// Its rows came once.
    #[error("batch {batch_id} had rows that source `{source_name}` received, and that are kept nowhere")]
    Received {
        /// The batch.
        batch_id: u64,
        /// The source.
        source_name: String,
    },
    /// A source or table cannot be opened.
    #[error("`{name}` could not be opened")]
    Open {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Error,
    },
    /// There are no threads.
    #[error("the system gives no thread")]
    Thread(#[source] std::io::Error),
}

impl Explain for ReplayError {
    fn fault(&self) -> Fault {
        match self {
            Self::NoCheckpoint { .. } | Self::Received { .. } => Fault::User,
            Self::Open { source, .. } => source.fault(),
            Self::Thread(_) => Fault::External,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoCheckpoint { .. } => {
                Some("Only batches of jobs with `checkpoint` in `[job]` can be run again.".into())
            }
            Self::Received { .. } => {
                Some("Rows that are received are kept with a `durability` other than `\"none\"`.".into())
            }
            Self::Open { source, .. } => source.hint(),
            Self::Thread(_) => None,
        }
    }
}

/// Runs an old batch of a job again: over the rows that it read, from the state before it. Tables and files are read as they are now.
///
/// Nothing is written but in memory, or where `[state]` and `[spill]` say: neither sinks nor the checkpoint change, and the job may run meanwhile.
///
/// # Errors
///
/// When the checkpoint has not kept the batch or is of another job, and what the batch fails with.
pub fn replay(plan: Plan, batch_id: BatchId) -> Result<Replayed, Error> {
    let plan = Arc::new(plan);
    let Some(path) = &plan.settings.checkpoint else {
        return Err(ReplayError::NoCheckpoint { job: plan.settings.name.clone() }.into());
    };
    let Kept { checkpoint, offsets, before, log } = old_batch(path, &shape(&plan), batch_id.0)?;
    if let Some(of) = offsets.sources.iter().find(|of| of.rows_received > 0) {
        return Err(ReplayError::Received { batch_id: batch_id.0, source_name: of.source.clone() }.into());
    }
    for table in &plan.tables {
        table.open().map_err(|source| ReplayError::Open { name: table.name().to_owned(), source })?;
    }
    let mut readers = Vec::new();
    let received = read_received(&plan, &log, &offsets)?;
    for (source, received) in plan.sources.iter().zip(received) {
        let opened = source.definition.open();
        readers.push(match opened.map_err(|error| ReplayError::Open { name: source.name.clone(), source: error })? {
            OpenSource::Replayable(source) => Some(source.reader()),
            OpenSource::Receiver(_) => received,
        });
    }
    let pool = WorkerPool::start(plan.settings.worker_threads).map_err(ReplayError::Thread)?;
    let state = open_state(&plan)?;
    let mut watermarks = Watermarks::new(plan.event_times.clone(), plan.clocks.clone());
    if let Some(before) = &before {
        let now: BTreeMap<String, u32> =
            plan.states.iter().map(|state| (state.step().to_owned(), state.n_partitions())).collect();
        read_back(&plan, &checkpoint, &before.runs, &before.rescaled(&now), state.as_ref(), pool.n_threads())?;
        watermarks.resume(&before.clocks);
    }
    let mut sinks: Vec<(String, Arc<dyn Sink>)> = Vec::new();
    let mut collected = Vec::new();
    for sink in &plan.sinks {
        let collect = Collect::default();
        sinks.push((sink.name.clone(), collect.open(&sink.schema)?));
        collected.push((sink.name.clone(), collect));
    }
    let spill = Spill::open(&plan.settings.spill)?;
    let memory = BatchMemory::new(spill, plan.settings.spill.memory_bytes, pool.n_threads(), plan.shuffles.len());
    let names: Vec<String> = plan.sources.iter().map(|source| source.name.clone()).collect();
    let batch = begun(&names, &readers, &offsets, 0);
    let runner = BatchRunner {
        watermarks: Mutex::new(watermarks),
        state,
        store: Arc::new(BlockStore::new(plan.settings.memory_bytes)),
        pool,
        sinks,
        stopped: plan.stop.clone(),
        committer: None,
        memory,
        plan,
    };
    let outcome = runner.run(&batch, 0)?;
    Ok(Replayed {
        batch_id,
        batch_time_us: offsets.batch_time_us,
        rows_in: outcome.rows_in,
        sinks: collected.into_iter().map(|(sink, collect)| ReplayedSink { sink, rows: collect.rows() }).collect(),
    })
}
