//! One batch: its stages in order, their tasks side by side, then its sinks.
//!
//! | it fails in | what is visible | what happens |
//! | --- | --- | --- |
//! | a stage | nothing | the job fails, or the batch is skipped |
//! | `publish` of a sink | what sinks before it published | the job fails |
//!
//! With a checkpoint a job that failed runs the batch again when it is started again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;

use crate::block_store::BlockStore;
use crate::checkpoint::{Committer, Done};
use crate::error::Error;
use crate::event_time::BatchTimes;
use crate::fail_point;
use crate::ids::PartitionId;
use crate::metrics::LateRows;
use crate::operator::StopFlag;
use crate::plan::{Entry, Plan, Stage};
use crate::scheduler::batch::{Batch, BlockSlice, SourceInput};
use crate::scheduler::recover::changes;
use crate::scheduler::watermarks::Watermarks;
use crate::shuffle::Shuffle;
use crate::sink::{Prepared, Sink, SinkBatch};
use crate::source::{OffsetRange, RangeReader};
use crate::spill::{BatchMemory, TaskMemory};
use crate::state::StateStore;
use crate::task::pipeline::{Cancelled, Outputs, Pipeline, RunningPipeline, TaskOutput};
use crate::task::pool::WorkerPool;
use crate::task::{PartFailed, TaskContext};

/// What runs batches.
pub(crate) struct BatchRunner {
    pub(crate) plan: Arc<Plan>,
    pub(crate) watermarks: Mutex<Watermarks>,
    /// What steps keep from batch to batch; `None`: nothing.
    pub(crate) state: Option<StateStore>,
    pub(crate) pool: WorkerPool,
    pub(crate) store: Arc<BlockStore>,
    /// What rows of a batch may take between stages and in steps.
    pub(crate) memory: Arc<BatchMemory>,
    /// The open sinks with their names.
    pub(crate) sinks: Vec<(String, Arc<dyn Sink>)>,
    /// Set when the job is stopped at once.
    pub(crate) stopped: StopFlag,
    /// What writes the checkpoint; `None`: the job has none.
    pub(crate) committer: Option<Committer>,
}

/// What came of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct BatchOutcome {
    pub(crate) rows_in: u64,
    pub(crate) rows_out: u64,
    /// Rows that steps have set aside.
    pub(crate) rows_dead_lettered: u64,
    pub(crate) n_tasks: usize,
    /// Whether its rows move a clock on in the next batch.
    pub(crate) clock_moves: bool,
}

/// What the tasks of a batch have made, to be published.
struct Ended {
    /// For each sink.
    prepared: Vec<Vec<Prepared>>,
    /// Of tasks that ended well, each once.
    late: Vec<Arc<LateRows>>,
}

/// What one task reads.
enum TaskInput {
    Blocks(Vec<BlockSlice>),
    /// With the source's name.
    Ranges(Arc<dyn RangeReader>, Vec<OffsetRange>, String),
    /// One a side, all of the same partition.
    Shuffles(Vec<Arc<Shuffle>>, u32),
}

type Task = Box<dyn FnOnce() -> Result<TaskOutput, Error> + Send>;

impl BatchRunner {
    /// Runs a batch and publishes it. When it fails it may be run again: its blocks stay until they are [released](Self::release).
    pub(crate) fn run(&self, batch: &Batch, attempt: u32) -> Result<BatchOutcome, Error> {
        // All tasks of the batch see tables as they are now.
        self.plan.tables.iter().for_each(|table| table.refresh(batch.batch_time_us));
        let times = Arc::new(self.lock_watermarks().batch(batch.batch_time_us, batch.closes));
        let outcome = self.run_stages(batch, attempt, &times).and_then(|(outcome, ended)| {
            self.wait_for_checkpoint()?;
            self.hold_checkpoint()?;
            fail_point::pass("rows-prepared");
            self.publish(batch, ended.prepared)?;
            fail_point::pass("rows-published");
            let parts = self.committer.as_ref().map(|_| changes(&self.plan, batch));
            self.commit()?;
            let rows_dead_lettered = ended.late.iter().map(|late| late.count()).sum();
            let clock_moves = self.lock_watermarks().published(batch.batch_time_us, &times);
            self.done(batch, &outcome, parts);
            Ok(BatchOutcome { clock_moves, rows_dead_lettered, ..outcome })
        });
        for step in &self.plan.steps {
            let job = &self.plan.settings.name;
            step.operators.iter().for_each(|of| of.operator.end_batch(job, &step.name, batch.batch_id));
        }
        if outcome.is_err() {
            self.plan.states.iter().for_each(|state| state.abort());
        }
        outcome
    }

    /// Gives up a batch that failed, so that the job goes on with the next: a restart does not run it again.
    pub(crate) fn skip(&self, batch: &Batch) -> Result<(), Error> {
        self.wait_for_checkpoint()?;
        let parts = self.committer.as_ref().map(|_| changes(&self.plan, batch));
        self.done(batch, &BatchOutcome::default(), parts);
        Ok(())
    }

    /// Waits until the batches before are in the checkpoint: the sinks have at most one that is not.
    pub(crate) fn wait_for_checkpoint(&self) -> Result<(), Error> {
        match &self.committer {
            Some(committer) => Ok(committer.wait()?),
            None => Ok(()),
        }
    }

    /// Waits until it is sure that the checkpoint is this process's: another that has taken it shows the batch itself.
    fn hold_checkpoint(&self) -> Result<(), Error> {
        match &self.committer {
            Some(committer) => Ok(committer.hold()?),
            None => Ok(()),
        }
    }

    /// Gives a batch to the checkpoint, with what it has changed.
    fn done(&self, batch: &Batch, outcome: &BatchOutcome, parts: Option<Vec<Vec<u8>>>) {
        if let Some((committer, parts)) = self.committer.as_ref().zip(parts) {
            committer.commit(Done {
                batch_id: batch.batch_id.0,
                batch_time_us: batch.batch_time_us,
                closes: batch.closes,
                rows_in: outcome.rows_in,
                rows_out: outcome.rows_out,
                clocks: self.lock_watermarks().clocks(),
                parts,
            });
        }
    }

    /// Lets the blocks of a batch go.
    pub(crate) fn release(&self, batch: &Batch) {
        for input in &batch.inputs {
            if let SourceInput::Blocks { blocks, .. } = input {
                self.store.release(blocks);
            }
        }
    }

    fn lock_watermarks(&self) -> MutexGuard<'_, Watermarks> {
        self.watermarks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies what the batch has changed in what steps keep, partition by partition, side by side.
    fn commit(&self) -> Result<(), Error> {
        type Commit = Box<dyn FnOnce() -> Result<(), Error> + Send>;
        let partitions = self.plan.states.iter().flat_map(|state| {
            (0..state.n_partitions()).filter(|&partition| state.has_changed(PartitionId(partition))).map(|partition| {
                let state = state.clone();
                Box::new(move || Ok(state.commit(PartitionId(partition))?)) as Commit
            })
        });
        self.pool.run(partitions.collect()).into_iter().collect::<Result<(), Error>>()?;
        match &self.state {
            Some(state) => Ok(state.maintain()?),
            None => Ok(()),
        }
    }

    fn run_stages(&self, batch: &Batch, attempt: u32, times: &Arc<BatchTimes>) -> Result<(BatchOutcome, Ended), Error> {
        let plan = &self.plan;
        let shuffles = plan.shuffles.iter();
        let shuffles =
            shuffles.map(|planned| Shuffle::within(planned.partitioning.clone(), planned.n_partitions, &self.memory));
        let outputs = Outputs { shuffles: shuffles.map(Arc::new).collect(), sinks: self.sinks.clone() };
        let bases = partition_bases(plan, batch);
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut outcome = BatchOutcome::default();
        let prepared = self.sinks.iter().map(|_| Vec::new()).collect();
        let mut all = Ended { prepared, late: Vec::new() };
        let mut ended = vec![false; plan.stages.len()];
        while ended.contains(&false) {
            if self.stopped.is_set() {
                return Err(Cancelled.into());
            }
            let is_ready = |stage: &&Stage| {
                !ended[stage.id.0 as usize] && stage.depends_on.iter().all(|needed| ended[needed.0 as usize])
            };
            let ready: Vec<&Stage> = plan.stages.iter().filter(is_ready).collect();
            assert!(!ready.is_empty(), "the stages of a plan have no cycle");
            self.deal(&ready, &outputs)?;
            let mut tasks: Vec<Task> = Vec::new();
            let mut from_source = Vec::new();
            for stage in &ready {
                let base = bases[stage.id.0 as usize];
                for (partition, input) in self.inputs(stage, batch, &outputs) {
                    let task = TaskContext {
                        batch_id: batch.batch_id,
                        batch_time_us: batch.batch_time_us,
                        is_repeated: batch.is_repeated,
                        partition: PartitionId(base + partition),
                        stage_partition: PartitionId(partition),
                        attempt,
                        times: times.clone(),
                        cancelled: cancelled.clone(),
                        late: Arc::default(),
                        memory: TaskMemory::new(&self.memory, input_bytes(&input)),
                    };
                    from_source.push(matches!(stage.entry, Entry::Source(_)));
                    tasks.push(self.task(stage.pipeline.clone(), outputs.clone(), task, input));
                }
            }
            outcome.n_tasks += tasks.len();
            let mut failure: Option<Error> = None;
            for (result, is_source) in self.pool.run(tasks).into_iter().zip(from_source) {
                match result {
                    Ok(output) => {
                        outcome.rows_in += if is_source { output.rows_in } else { 0 };
                        outcome.rows_out += output.rows_out;
                        all.late.push(output.late);
                        for (sink, part) in output.prepared {
                            all.prepared[sink].push(part);
                        }
                    }
                    // The others were given up because of this one.
                    Err(error) if failure.is_none() || is_cancelled(&failure) => failure = Some(error),
                    Err(_) => {}
                }
            }
            if let Some(error) = failure {
                return Err(error);
            }
            let ready: Vec<usize> = ready.iter().map(|stage| stage.id.0 as usize).collect();
            for stage in ready {
                if let Entry::Shuffles(shuffles) = &plan.stages[stage].entry {
                    shuffles.iter().for_each(|&shuffle| outputs.shuffles[shuffle].clear());
                }
                ended[stage] = true;
            }
        }
        Ok((outcome, all))
    }

    /// Deals out the rows that waited for the last map task, shuffle by shuffle, side by side.
    fn deal(&self, ready: &[&Stage], outputs: &Outputs) -> Result<(), Error> {
        type Deal = Box<dyn FnOnce() -> Result<(), Error> + Send>;
        let indices = ready.iter().filter_map(|stage| match &stage.entry {
            Entry::Shuffles(indices) => Some(indices),
            Entry::Source(_) => None,
        });
        let waiting =
            indices.flatten().map(|&index| &outputs.shuffles[index]).filter(|shuffle| shuffle.waits_for_deal());
        let deals: Vec<Deal> = waiting
            .map(|shuffle| {
                let shuffle = shuffle.clone();
                Box::new(move || shuffle.deal()) as Deal
            })
            .collect();
        if deals.is_empty() {
            return Ok(());
        }
        self.pool.run(deals).into_iter().collect()
    }

    /// What the tasks of a stage read, with their numbers within it.
    fn inputs(&self, stage: &Stage, batch: &Batch, outputs: &Outputs) -> Vec<(u32, TaskInput)> {
        let inputs: Vec<TaskInput> = match &stage.entry {
            Entry::Source(source) => match &batch.inputs[*source] {
                SourceInput::Blocks { partitions, .. } => partitions.iter().cloned().map(TaskInput::Blocks).collect(),
                SourceInput::Ranges { reader, partitions } => {
                    let name = &self.plan.sources[*source].name;
                    let task = |ranges: &Vec<_>| TaskInput::Ranges(reader.clone(), ranges.clone(), name.clone());
                    partitions.iter().map(task).collect()
                }
            },
            Entry::Shuffles(indices) => {
                let shuffles: Vec<_> = indices.iter().map(|&index| outputs.shuffles[index].clone()).collect();
                let planned = &self.plan.shuffles[indices[0]];
                let has_rows = |partition| shuffles.iter().any(|shuffle| shuffle.rows_of(PartitionId(partition)) > 0);
                return (0..planned.n_partitions)
                    .filter(|&partition| planned.runs_when_empty || has_rows(partition))
                    .map(|partition| (partition, TaskInput::Shuffles(shuffles.clone(), partition)))
                    .collect();
            }
        };
        (0..).zip(inputs).collect()
    }

    fn task(&self, pipeline: Arc<Pipeline>, outputs: Outputs, task: TaskContext, input: TaskInput) -> Task {
        let store = self.store.clone();
        let stopped = self.stopped.clone();
        Box::new(move || {
            let result = run_task(&pipeline, &outputs, &task, input, &store, &stopped);
            if result.is_err() {
                // What the other tasks of the batch would still do is thrown away.
                task.cancelled.store(true, Ordering::Relaxed);
            }
            result
        })
    }

    fn publish(&self, batch: &Batch, prepared: Vec<Vec<Prepared>>) -> Result<(), Error> {
        let Batch { batch_id, batch_time_us, is_repeated, .. } = *batch;
        let published = SinkBatch { batch_id, batch_time_us, is_repeated };
        for ((name, sink), mut parts) in self.sinks.iter().zip(prepared) {
            parts.sort_by_key(|part| part.partition);
            sink.publish(&published, parts).map_err(|source| PartFailed {
                part: "sink",
                name: name.clone(),
                batch_id: batch.batch_id,
                source,
            })?;
        }
        Ok(())
    }
}

fn is_cancelled(error: &Option<Error>) -> bool {
    error.as_ref().is_some_and(|error| error.downcast_ref::<Cancelled>().is_some())
}

fn run_task(
    pipeline: &Pipeline,
    outputs: &Outputs,
    task: &TaskContext,
    input: TaskInput,
    store: &BlockStore,
    stopped: &StopFlag,
) -> Result<TaskOutput, Error> {
    let mut running = RunningPipeline::start(pipeline, outputs, task)?;
    let mut push_side = |side, rows: RecordBatch| {
        if stopped.is_set() {
            return Err(Cancelled.into());
        }
        running.push(side, rows)
    };
    let mut push = |rows| push_side(0, rows);
    match input {
        TaskInput::Blocks(slices) => {
            for slice in slices {
                let rows = store.get(slice.block)?;
                push(rows.slice(slice.start as usize, slice.n_rows as usize))?;
            }
        }
        TaskInput::Ranges(reader, ranges, name) => {
            // What the steps say passes through the reader, which says the same: it is told from its own errors here.
            let mut step_error = None;
            let mut push = |rows| {
                push(rows).map_err(|error| {
                    step_error = Some(error);
                    Cancelled.into()
                })
            };
            let read = ranges.iter().try_for_each(|range| reader.read_range(range, &mut push));
            if let Some(error) = step_error {
                return Err(error);
            }
            read.map_err(|source| PartFailed { part: "source", name, batch_id: task.batch_id, source })?;
        }
        TaskInput::Shuffles(shuffles, partition) => {
            for (side, shuffle) in shuffles.iter().enumerate() {
                shuffle.read(PartitionId(partition)).try_for_each(|rows| push_side(side, rows?))?;
            }
        }
    }
    running.finish()
}

/// Bytes of rows that a task gets out of shuffles.
fn input_bytes(input: &TaskInput) -> u64 {
    match input {
        TaskInput::Blocks(_) | TaskInput::Ranges(..) => 0,
        TaskInput::Shuffles(shuffles, partition) => {
            shuffles.iter().map(|shuffle| shuffle.bytes_of(PartitionId(*partition))).sum()
        }
    }
}

/// The number of each stage's first partition: stages that share a node are numbered through, those after a shuffle
/// first, because how many partitions they have does not change from batch to batch.
fn partition_bases(plan: &Plan, batch: &Batch) -> Vec<u32> {
    let mut bases = vec![0; plan.stages.len()];
    let mut next: Vec<u32> = vec![0; plan.stages.len()];
    let after_shuffle = plan.stages.iter().filter(|stage| matches!(stage.entry, Entry::Shuffles(_)));
    let from_source = plan.stages.iter().filter(|stage| matches!(stage.entry, Entry::Source(_)));
    for stage in after_shuffle.chain(from_source) {
        let n_partitions = match &stage.entry {
            Entry::Source(source) => batch.inputs[*source].n_partitions() as u32,
            Entry::Shuffles(shuffles) => plan.shuffles[shuffles[0]].n_partitions,
        };
        bases[stage.id.0 as usize] = next[stage.group];
        next[stage.group] += n_partitions;
    }
    bases
}
