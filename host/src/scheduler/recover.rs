//! What of a job goes into its checkpoint, and where a job goes on from one.

use std::sync::Arc;

use crate::checkpoint::{
    CheckpointError, JobShape, LogPlace, Offsets, Progress, Range, Resumed, RunWriter, SourceOffsets, Standby,
    StepShape, TableId, claim, progress_changes, source_table,
};
use crate::ids::{BatchId, PartitionId};
use crate::plan::Plan;
use crate::scheduler::batch::{Batch, SourceInput};
use crate::source::{OffsetRange, RangeReader};
use crate::state::StepState;

/// Opens the checkpoint of a job, when it is free; `None`: it has none.
///
/// # Errors
///
/// When it cannot be read, is another job's, or somebody else has it and that is not waited for.
pub(crate) fn open_checkpoint(plan: &Plan, standby: &Standby) -> Result<Option<Resumed>, CheckpointError> {
    let Some(place) = &plan.settings.checkpoint else { return Ok(None) };
    let claimed = claim(place, plan.settings.checkpoint_lease, standby, &standby.patience(&plan.stop))?;
    let resumed = crate::checkpoint::open(claimed, &shape(plan))?;
    if let Some(commit) = &resumed.committed {
        let (place, batch_id, n_pending) = (resumed.checkpoint.place(), commit.batch_id, resumed.pending.len());
        tracing::info!(
            target: "tidemill::checkpoint",
            job = plan.settings.name, place, batch_id, n_pending,
            "the job goes on behind batch {batch_id} of its checkpoint"
        );
    }
    Ok(Some(resumed))
}

/// What of a job its checkpoint depends on.
pub(crate) fn shape(plan: &Plan) -> JobShape {
    let step = |state: &Arc<StepState>| StepShape {
        step: state.step().to_owned(),
        keeps: state.keeps().to_owned(),
        partitions: state.n_partitions(),
    };
    JobShape {
        job: plan.settings.name.clone(),
        steps: plan.states.iter().map(step).collect(),
        sources: plan.sources.iter().map(|source| source.name.clone()).collect(),
        event_times: plan.event_times.iter().map(|time| time.column.clone()).collect(),
        // Found in the checkpoint, or made with it.
        log: String::new(),
        log_directory: plan
            .settings
            .wal_directory
            .as_ref()
            .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()),
    }
}

/// What was read of a source by the batches of a checkpoint, those included that are run again.
pub(crate) fn read_before(source: &str, progress: &Progress, pending: &[Offsets]) -> Vec<OffsetRange> {
    let mut read = progress.of(source);
    for offsets in pending {
        for of in offsets.sources.iter().filter(|of| of.source == source) {
            read.extend(ranges(of).into_iter().flatten());
        }
    }
    read
}

fn ranges(of: &SourceOffsets) -> Vec<Vec<OffsetRange>> {
    // What has no identity that can be read is another object: it is read again, or refused by the source.
    let read = |ranges: &Vec<Range>| ranges.iter().filter_map(|range| OffsetRange::try_from(range).ok()).collect();
    of.partitions.iter().map(read).collect()
}

/// What a batch reads; `places` say how far the write-ahead log has come with each source.
pub(crate) fn offsets(names: &[String], batch: &Batch, places: &[Option<LogPlace>]) -> Offsets {
    let of = |((source, input), &log): ((&String, &SourceInput), &Option<LogPlace>)| {
        let (partitions, rows_received) = match (input.ranges(), input) {
            (Some(partitions), _) => {
                (partitions.iter().map(|ranges| ranges.iter().map(Range::from).collect()).collect(), 0)
            }
            (None, SourceInput::Blocks { partitions, .. }) => {
                (Vec::new(), partitions.iter().flatten().map(|slice| slice.n_rows).sum())
            }
            (None, SourceInput::Ranges { .. }) => unreachable!("ranges can be read again"),
        };
        SourceOffsets { source: source.clone(), partitions, rows_received, log }
    };
    Offsets {
        batch_id: batch.batch_id.0,
        batch_time_us: batch.batch_time_us,
        closes: batch.closes,
        sources: names.iter().zip(&batch.inputs).zip(places).map(of).collect(),
    }
}

/// A batch that was begun, to be run again. `readers` are those of the job's sources, in their order; `None`: its rows were in memory alone.
/// Sinks may have published the batches up to `published_max`.
pub(crate) fn begun(
    names: &[String],
    readers: &[Option<Arc<dyn RangeReader>>],
    offsets: &Offsets,
    published_max: u64,
) -> Batch {
    let input = |(name, reader): (&String, &Option<Arc<dyn RangeReader>>)| {
        let of = offsets.sources.iter().find(|of| of.source == *name);
        match reader {
            Some(reader) if of.is_none_or(|of| of.rows_received == 0) => {
                SourceInput::Ranges { reader: reader.clone(), partitions: of.map(ranges).unwrap_or_default() }
            }
            _ => {
                if let Some(lost) = of.filter(|of| of.rows_received > 0) {
                    tracing::error!(
                        target: "tidemill::checkpoint",
                        source = name, batch_id = offsets.batch_id, rows_lost = lost.rows_received,
                        "rows that were received before the crash are lost: they were in memory alone"
                    );
                }
                SourceInput::Blocks { blocks: Vec::new(), partitions: Vec::new(), first_row: None }
            }
        }
    };
    Batch {
        batch_id: BatchId(offsets.batch_id),
        batch_time_us: offsets.batch_time_us,
        inputs: names.iter().zip(readers).map(input).collect(),
        closes: offsets.closes,
        is_repeated: offsets.batch_id <= published_max,
    }
}

/// What a batch that is in the sinks has changed: of what steps keep, and of how far sources are read. Called before the changes
/// are applied.
pub(crate) fn changes(plan: &Plan, batch: &Batch) -> Vec<Vec<u8>> {
    enum What<'a> {
        State(&'a StepState),
        Source(Vec<Vec<OffsetRange>>),
    }
    let of_state = |state: &'_ Arc<StepState>| {
        let partitions = (0..state.n_partitions()).filter(|&partition| state.has_changed(PartitionId(partition)));
        partitions.map(|partition| (state.step().to_owned(), partition)).collect::<Vec<_>>()
    };
    let mut tables: Vec<(String, u32, What<'_>)> = Vec::new();
    for state in &plan.states {
        tables.extend(of_state(state).into_iter().map(|(step, partition)| (step, partition, What::State(state))));
    }
    for (source, input) in plan.sources.iter().zip(&batch.inputs) {
        if let Some(partitions) = input.ranges().filter(|partitions| !partitions.is_empty()) {
            tables.push((source_table(&source.name).step, 0, What::Source(partitions)));
        }
    }
    // Runs are merged table by table: they come in one order in all of them.
    tables.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let mut writer = RunWriter::default();
    for (step, partition, what) in tables {
        let table = |table| TableId { step: step.clone(), partition, table };
        match what {
            What::State(state) => state.for_each_change(PartitionId(partition), |index, changes| {
                writer.changes(&table(index), changes);
            }),
            What::Source(partitions) => {
                writer.changes(&table(0), &progress_changes(partitions.iter().flatten()));
            }
        }
    }
    writer.finish()
}
